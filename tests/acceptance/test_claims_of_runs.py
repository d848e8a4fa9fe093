"""The notebooks that run a system (02, 03, 04) stop when their claim is broken, at the assert that makes it.

What is broken is broken underneath: in the worker or the API (a process of its
own, see `in_subprocesses`), in PostgreSQL, or in what the runtime does. Many
things are broken at once, each in a section of its own; a section that was left
whole passes, so a stop is the breakage's doing. Unbroken, nbval runs the same
cells.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.demo import fleet, long_jobs, neighbours
from aetheris.forensics.source import open_source
from aetheris.runtime.agents import Agent
from aetheris.runtime.collection import Collected, Collector
from aetheris.runtime.history import History
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.store.append import JobKey
from aetheris.store.database import Database

from .notebook_cells import FIXTURES, NOTEBOOKS, in_subprocesses, run

LIMITER_OFF = """
if "worker" in words:
    from aetheris.runtime import limiter
    limiter.Limiter.turn = lambda self, kind, name, *rest, **more: limiter.FreeTurn(kind, name)
"""
NOTHING_ON_RECORD = """
if "serve" in words:
    from aetheris.api import gate
    record = gate._record
    async def forget(service, request, caller, own, access, status, began):
        if status != 403:
            await record(service, request, caller, own, access, status, began)
    gate._record = forget
"""
#: Now and then a job of another tenant is called nobody's, and support access is for everybody.
GATE_AJAR = """
if "serve" in words:
    import datetime, itertools
    from aetheris.api import service
    from aetheris.store.support import Grant
    owner, count = service.Service.owner, itertools.count()
    async def forgetful(self, caller, job):
        whose = await owner(self, caller, job)
        return "nobody" if whose == "another" and next(count) % 3 == 1 else whose
    service.Service.owner = forgetful
    now = datetime.datetime.now(datetime.UTC)
    async def granted(self, guest, tenant):
        later = now + datetime.timedelta(hours=1)
        return Grant("g", guest.tenant, guest.user, "auditor", "", "", now, later, None)
    service.Service.support_grant = granted
"""


@pytest.fixture(autouse=True)
def in_the_notebooks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the cells are relative to it."""
    monkeypatch.chdir(NOTEBOOKS)


def as_superuser(home: Path, *statements: str) -> None:
    """Do to the store in `home` what only its server's superuser may."""
    database = Database.open(home=home)
    try:
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            connection.execute("SET search_path = aetheris")
            connection.execute("SET session_replication_role = replica")
            for text in statements:
                connection.execute(text.encode())
    finally:
        database.close()


def slow_and_without_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every replay take a second longer and read every event, whatever snapshots there are."""
    to_next_step, seconds = long_jobs.to_next_step, long_jobs.replay_seconds

    async def slow(*given: Any) -> int:
        await asyncio.sleep(1.0)
        return await to_next_step(*given)

    async def once(*given: Any, **how: Any) -> long_jobs.Timed:
        return await seconds(*given, **how, repeats=1)

    monkeypatch.setattr(long_jobs, "to_next_step", slow)
    monkeypatch.setattr(long_jobs, "replay_seconds", once)
    monkeypatch.setattr(long_jobs, "ReplayContextBuilder", lambda keys, _: ReplayContextBuilder(keys, False))


def test_02_without_a_limiter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The workers start what they have, and the first assert names the rate; nothing of a wait is on record."""
    in_subprocesses(monkeypatch, tmp_path / "broken", LIMITER_OFF)
    rate, waits = run("02_rate_limits", until='lake.limits("hit")')
    assert rate.statement == "assert claims.hold, claims.broken"
    assert "starts a second: asked 10 ± 0.2" in rate.said
    assert "starts in any one second: asked at most 11, measured" in rate.said
    assert "calls that were made" not in rate.said  # the run itself was sound
    assert "no call waited for tool 'hit'" in waits.said


def test_02_half_the_rate_and_scrapes_that_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that is not used, waits that were foretold wrongly, metrics that don't agree with the record."""
    whole = fleet.run

    def half(folder: Path, **given: Any) -> fleet.Outcome:
        done = whole(folder, **{**given, "calls": 22, "qps": 5})
        return replace(done, metrics=[], on_time=[])

    monkeypatch.setattr(fleet, "run", half)
    rate, waits, used, prometheus, foretold = run("02_rate_limits")
    assert re.search(r"starts a second: asked 10 ± 0\.2, measured [1-5]\b", rate.said)
    assert "an interval after their slot: asked at most 20, measured 22" in rate.said
    assert "22 waits on record" in waits.said
    assert "of what was possible was used" in used.said
    assert "the two disagree" in prometheus.said
    assert "for the limit there was, foretold over recorded: asked 1 ± 0.1, measured 0." in foretold.said


def test_03_a_gate_ajar_a_hole_in_the_audit_and_a_lake_without_walls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each claim of the notebook falls: 403, the same answer, the other doors, the record, the lake."""
    in_subprocesses(monkeypatch, tmp_path / "broken", GATE_AJAR + NOTHING_ON_RECORD)
    command = neighbours._command

    def over_a_hole(folder: Path, *words: str) -> str:
        if words == ("mirror",):
            as_superuser(folder / "home", "DELETE FROM audit_log WHERE tenant_id = 'bolt' AND seq = 2")
        return command(folder, *words)

    monkeypatch.setattr(neighbours, "_command", over_a_hole)
    monkeypatch.setattr(neighbours, "open_source", lambda lake, tenant: open_source(lake))
    matrix, same, others, refused, breaks, lake = run("03_tenancy")
    assert matrix.statement.startswith('assert {row["bolt\'s"] for row in tried.matrix} == {403}')
    assert "the answer tells them apart" in same.said
    assert others.statement == 'assert answers == [403, "own jobs", 403, "nothing", 401], answers'
    assert "a refusal is not on record" in refused.said
    assert breaks.statement == "assert not breaks, breaks"
    assert lake.statement.startswith("assert all(seen == [tenant]")


@ae.tool(effect="none")
async def look(n: int) -> dict[str, Any]:
    """The notebook's reading, with more said than a snapshot can press together."""
    return {"next": n + 1, "seen": n, "said": os.urandom(300).hex()}


def burning_beyond(events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay of more events take five times the processor's time that the dearest of the others took.

    A fixed time would be little or much by how fast and how busy the machine is.
    """
    to_next_step, seconds = long_jobs.to_next_step, long_jobs.replay_seconds
    dearest = 0.0

    async def burning(agent: Agent, key: JobKey, record: History) -> int:
        until = time.process_time() + (5 * dearest if record.recorded_head > events else 0)
        while time.process_time() < until:
            pass
        return await to_next_step(agent, key, record)

    async def noted(*given: Any, **how: Any) -> long_jobs.Timed:
        nonlocal dearest
        timed = await seconds(*given, **how)
        if timed.reached < events:
            dearest = max(dearest, timed.cpu_seconds)
        return timed

    monkeypatch.setattr(long_jobs, "to_next_step", burning)
    monkeypatch.setattr(long_jobs, "replay_seconds", noted)


def test_04_slow_replays_snapshots_that_are_not_read_and_no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and work of a takeover, snapshots that are large, folds that differ, and jobs that stay although due."""
    slow_and_without_snapshots(monkeypatch)
    burning_beyond(9_000, monkeypatch)
    monkeypatch.setattr(long_jobs, "look", look)
    measure = long_jobs.run
    monkeypatch.setattr(long_jobs, "run", lambda folder: measure(folder, (5_000, 10_000), (500, 1_000)))

    async def nothing(self: Collector, *, dry_run: bool = False) -> Collected:
        return Collected(dry_run, 90)

    monkeypatch.setattr(Collector, "run", nothing)
    other_fold = FIXTURES / "snapshot_of_another_job"
    slow, work, size, folds, kept = run(
        "04_replay_and_snapshots",
        before={"folds = lake.folds()": lambda names: names.update(run=replace(names["run"], lake=other_fold))},
        without=["folds.snapshots[0]", "done.table"],
    )
    assert "5,000 events, from all of them: asked less than 1 s" in slow.said
    assert "statements" not in slow.said
    assert "events read of 10,000, from a snapshot: asked at most 10, measured 10,00" in work.said
    assert "an event of 20,000, over one of 5,000: asked less than 2, measured" in work.said
    assert size.statement.startswith("assert run.bytes_per_event < 250")
    assert folds.statement == "assert folds.all_same, folds.table"
    assert "jobs collected: asked 100, measured 0" in kept.said
