"""Workers killed for real; and the judge is judged: each fault that it looks for is one it finds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.store.database import Database
from tests.crash.app import asker, effect, keeper, spender, splitter
from tests.crash.driver import Crash, Kill, plan

APP = (
    "tests.crash.app:spender",
    "tests.crash.app:splitter",
    "tests.crash.app:keeper",
    "tests.crash.app:asker",
    "--tools",
    "tests.crash.app",
)
FAULTS = [
    ("UPDATE aetheris.cells SET body = '7' WHERE name = 'result'", "is not what was committed to"),
    ("UPDATE aetheris.cells SET body = '[]' WHERE name = 'result'", "its result is not what its calls returned"),
    ("DELETE FROM aetheris.cells WHERE name = 'args'", "is missing"),
    ("DELETE FROM aetheris.ledger WHERE status = 'started'", "can't go from nothing to committed"),
    ("DELETE FROM aetheris.ledger WHERE seq > 4", "events and ledger tell two stories"),
    ("UPDATE aetheris.job_events SET line = replace(line, 'once', 'none')", "a line does not match its leaf"),
    ("DELETE FROM aetheris.job_events WHERE seq = 2", "seq is 3"),
    ("UPDATE aetheris.jobs SET head_seq = head_seq + 1", "its row says another head"),
]


@pytest.fixture
def crash(database: Database, tmp_path: Path) -> Iterator[Crash]:
    """An empty store and an empty world."""
    with Crash(database.admin_dsn, tmp_path) as made:
        yield made


@pytest.mark.parametrize("agent", [spender, splitter], ids=["in a row", "at once"])
def test_a_worker_killed_inside_an_effect_repeats_nothing_and_says_so(crash: Crash, agent: ae.Agent) -> None:
    """The effect has happened and nobody was told: that is a doubt with a name, never a second effect."""
    victim = crash.worker(*APP, failpoint="effect.inside:kill:3")
    jobs = [crash.system.submit(agent, 3) for _ in range(3)]
    crash.dies(victim, Kill(3, 0))
    crash.sound_worker(*APP)
    verdict = crash.judge(jobs)
    verdict.assert_clean()
    assert verdict.parked >= 1
    assert verdict.parked + verdict.completed == 3
    assert verdict.takeovers


def test_where_the_world_honours_keys_a_kill_loses_nothing_and_nobody_is_asked(crash: Crash) -> None:
    """Idempotent calls go on by themselves: every result is there in the end, every effect once."""
    jobs = [crash.system.submit(keeper, 4) for _ in range(3)]
    for kill in plan(3, 4, 5, 0.1):
        victim = crash.worker(*APP, failpoint=kill.failpoint)
        crash.dies(victim, kill)
        jobs.append(crash.system.submit(keeper, 4))
        jobs.append(crash.system.submit(keeper, 4))
    crash.sound_worker(*APP)
    verdict = crash.judge(jobs)
    verdict.assert_clean()
    assert verdict.completed == len(jobs) == 11
    assert sum(crash.world.keys().values()) == 44


@pytest.mark.parametrize("point", ["effect.before_it", "effect.inside"])
def test_where_the_world_can_tell_a_killed_job_goes_on_by_itself(crash: Crash, point: str) -> None:
    """Done is taken up, not done is made once more; nobody is asked and nothing happens twice."""
    victim = crash.worker(*APP, failpoint=f"{point}:kill:3")
    jobs = [crash.system.submit(asker, 3) for _ in range(3)]
    crash.dies(victim, Kill(3, 0))
    crash.sound_worker(*APP)
    verdict = crash.judge(jobs)
    verdict.assert_clean()
    assert verdict.completed == 3
    assert sum(crash.world.keys().values()) == 9


def test_an_attempt_that_wakes_after_it_was_shown_not_done_is_fenced(crash: Crash) -> None:
    """SIGSTOP between start record and effect, takeover, SIGCONT: the late effect is refused by the world."""
    victim = crash.worker(*APP, failpoint="effect.before_it:stop:2")
    job = crash.system.submit(asker, 3)
    crash.wait_effects(1, victim)
    crash.sound_worker(*APP)
    assert not crash.wait([job])
    victim.send(signal.SIGCONT)
    victim.send(signal.SIGTERM)
    victim.wait_dead()
    verdict = crash.judge([job])
    verdict.assert_clean()
    assert verdict.completed == 1
    assert sum(crash.world.keys().values()) == 3


def test_a_worker_killed_at_any_time_repeats_and_loses_nothing(crash: Crash) -> None:
    """Whenever it was."""
    jobs = []
    for kill in plan(7, 4, 6):
        victim = crash.worker(*APP, failpoint=kill.failpoint)
        jobs += [crash.system.submit(spender, 3) for _ in range(3)]
        crash.dies(victim, kill)
    crash.sound_worker(*APP)
    verdict = crash.judge(jobs)
    verdict.assert_clean()
    assert verdict.parked + verdict.completed == 12


def test_a_graph_killed_between_its_nodes_goes_on_node_by_node(crash: Crash, tmp_path: Path) -> None:
    """What is through is not done again, by a process that never saw the file."""
    (tmp_path / "two.yaml").write_text(
        "nodes:\n"
        "  all: {map: effect, over: [1, 2, 3], with: {number: '${item}'}}\n"
        "  rest: {wait: 1.3, needs: all}\n"
        "  last: {tool: effect, with: {number: 4}, needs: rest}\n"
        "output: ['${all[0]}', '${all[1]}', '${all[2]}', '${last}']\n"
    )
    graph = ae.graph(tmp_path / "two.yaml", [effect])
    jobs = []
    for _ in range(5):
        victim = crash.sound_worker(*APP)
        jobs.append(job := crash.system.submit(graph))
        while not (status := job.status).terminal and status is not JobStatus.WAITING:
            assert victim.alive
        crash.dies(victim, Kill(0, 0.0))
        if job.status is JobStatus.WAITING:
            break  # else this process stood still while the job rested: once more
    (tmp_path / "two.yaml").unlink()
    crash.sound_worker(*APP)
    crash.judge(jobs).assert_clean()
    assert job.status is JobStatus.COMPLETED
    assert len([t for t in job.record.ledger if t.status == "committed"]) == 4


def test_a_worker_that_slept_past_its_lease_writes_nothing_more(crash: Crash) -> None:
    """SIGSTOP inside an effect, takeover, SIGCONT: the old holder's end record is refused."""
    victim = crash.worker(*APP, failpoint="effect.inside:stop:2")
    job = crash.system.submit(spender, 3)
    crash.wait_effects(2, victim)
    crash.sound_worker(*APP)
    assert not crash.wait([job])
    before = job.record.row.head_seq
    victim.send(signal.SIGCONT)
    victim.send(signal.SIGTERM)
    victim.wait_dead()
    assert job.record.row.head_seq == before
    verdict = crash.judge([job])
    verdict.assert_clean()
    assert verdict.parked == 1


def test_the_judge_finds_what_the_world_saw_twice_never_or_alone(crash: Crash) -> None:
    """A judge who finds nothing in anything proves nothing."""
    crash.sound_worker(*APP)
    job = crash.system.submit(spender, 2)
    crash.judge([job]).assert_clean()

    crash.world.effect(next(iter(crash.world.keys())))
    assert crash.judge([job]).duplicates == 1
    crash.world.effect("f" * 64)
    assert crash.judge([job]).lost == ["effect ffffffffffff is in the world and in no ledger"]
    crash.world.path.write_text("")
    assert [fault.split(": ", 1)[1] for fault in crash.judge([job]).lost] == [
        f"step {step} is committed, and its effect is not in the world" for step in (1, 2)
    ]
    waiting = crash.system.submit(ae.Agent(spender.fn, name="nobody", version="1"), 1)
    assert crash.judge([waiting], seconds=0.1).stuck == [f"job {waiting.id[:8]} is pending"]


@pytest.mark.parametrize(("statement", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_the_judge_finds_what_is_wrong_in_the_store(crash: Crash, statement: str, fault: str) -> None:
    """Chain, cells, ledger and result, each by what was done to it."""
    crash.sound_worker(*APP)
    job = crash.system.submit(spender, 2)
    crash.judge([job]).assert_clean()
    with psycopg.connect(crash.dsn) as store:
        store.execute("SET session_replication_role = replica")  # the store's own triggers would refuse it
        store.execute(statement.encode())
    verdict = crash.judge([job])
    assert any(fault in found for found in [*verdict.unsound, *verdict.lost]), verdict
