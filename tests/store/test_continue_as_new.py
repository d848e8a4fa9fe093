"""Jobs without an end go on as new runs: linked both ways, one successor whatever dies, one history for the auditor."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.errors import AetherisError, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.forensics.checks import run_checks
from aetheris.forensics.session import Session
from aetheris.lake import Lake, open_lake
from aetheris.runtime.children import Children
from aetheris.runtime.mirror import mirror_once
from aetheris.runtime.record import JobRecord
from aetheris.runtime.replay import replay
from aetheris.runtime.run import Run
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from tests.store.job_support import FAST, crash, ended, last_value, run, types

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    PAID.clear()


@ae.tool
async def pay(n: int) -> int:
    """An effect that is counted."""
    PAID.append(n)
    return n


@ae.agent
async def endless(ctx: ae.Context, done: int) -> int:
    """Three calls a run, until ten are done; stubborn code holds nothing up."""
    for n in range(done, done + 3):
        if n == 10:
            return n
        await ctx.call(pay, n=n)
    try:
        await ctx.continue_as_new(done + 3)
    except Exception:  # noqa: BLE001  as stubborn code does
        await ctx.call(pay, n=-1)
    finally:
        if done == 3:
            await ctx.call(pay, n=-2)  # the run has ended: this leads nowhere
    raise AssertionError("not reached")


@ae.agent
def endless_plain(ctx: ae.SyncContext, done: int) -> int:
    """The same in a thread."""
    ctx.call(pay, n=done)
    if done < 2:
        ctx.continue_as_new(done + 1)
    return done


async def runs(system: ae.AsyncSystem, job: str) -> list[Any]:
    """The records of a job and its successors, each once it has ended."""
    found = [await ended(system, job)]
    while successor := found[-1].events[-1].data.get("continued_as"):
        found.append(await ended(system, successor))
    return found


def test_an_endless_job_goes_on_as_new_runs_that_name_each_other(database: Database, tmp_path: Path) -> None:
    """Each run's record is short, and together they are one history that an auditor can check."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([endless, endless_plain], FAST)
            job = await system.submit(endless, 0)
            made = await runs(system, job)
            assert list(range(10)) == PAID
            assert [r.row.status for r in made] == [JobStatus.COMPLETED] * 4
            assert made[-1].result() == 10
            with pytest.raises(Refused, match=f"goes on as job {made[1].row.job[:8]}"):
                made[0].result()
            for before, after in itertools.pairwise(made):
                named = before.events[-2]
                genesis = after.events[0].data
                assert (named.type, named.data["continued_as"]) == ("run_continued", after.row.job)
                assert (genesis["continued_from"], genesis["continued_seq"]) == (before.row.job, named.seq)
                assert genesis["continued_state"] == named.cells["state"]
                assert (await replay(endless, before)).same
            plain = await runs(system, await system.submit(endless_plain, 0))
            assert len(plain) == 3
        source = MirrorSource(database)
        lake = Lake(tmp_path / "lake", source.catalog_uri)
        await mirror_once(source, lake)
        lake.close()
        with Session.over_lake(open_lake(tmp_path / "lake", verify=True)) as session:
            assert [c.name for c in run_checks(session) if not c.passed] == []
            for asked in made:
                told = session.query("trace/runs", job_id=asked.row.job).rows
                assert [row["job_id"] for row in told] == [r.row.job for r in made]
                assert [row["events"] for row in told] == [len(r.events) for r in made]

    run(work)


def test_whoever_takes_over_submits_the_same_successor(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The successor is on record before it exists: a death in between neither loses it nor makes two."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            submitted = Children.continue_as
            failures: list[int] = []

            async def dies(self: Children, *args: Any) -> None:
                if len(failures) < 2:
                    if failures:
                        await submitted(self, *args)  # the second time only after it was submitted
                    failures.append(1)
                    raise AetherisError("the worker dies here")
                await submitted(self, *args)

            monkeypatch.setattr(Children, "continue_as", dies)
            monkeypatch.setattr("aetheris.runtime.run.GIVE_BACK_SECONDS", 0.1)
            worker = await system.start_worker([endless_plain], FAST)
            made = await runs(system, await system.submit(endless_plain, 1))
            assert (len(failures), PAID) == (2, [1, 2])
            assert [r.row.epoch for r in made] == [3, 1]
            assert len(await system.listing()) == 2
            await crash(system, worker)

    run(work)


def test_a_child_and_a_job_with_calls_under_way_can_not_continue_as_new(database: Database) -> None:
    """Its parent waits for this run; and nothing may be left in the air."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.agent
            async def parent(ctx: ae.Context) -> None:
                await ctx.child(endless_plain, 0)

            @ae.agent
            async def busy(ctx: ae.Context, n: int) -> None:
                await ctx.gather(ctx.call(pay, n=n), ctx.continue_as_new(n + 1))

            await system.start_worker([parent, busy, endless_plain], FAST)
            failed = await ended(system, await system.submit(parent))
            assert "parent waits for this run" in last_value(failed, "error")["message"]
            failed = await ended(system, await system.submit(busy, 1))
            assert "while other steps are under way" in last_value(failed, "error")["message"]

    run(work)


@ae.agent
async def heeding(ctx: ae.Context, known: int) -> int:
    """Goes on at once, then waits for what was said: early, while it went on, and under a key that comes twice."""
    if not known:
        await ctx.wait_signal("heard")
        await ctx.continue_as_new(1)
    return sum([await ctx.wait_signal(key) for key in ("early", "between")])


@pytest.mark.parametrize("taken", [True, False])
def test_what_a_run_left_unheard_reaches_the_run_it_goes_on_as(
    database: Database, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """A signal that comes while a run goes on, or was early there, is the next run's: once, by its key."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            submitted = Children.continue_as
            take = Run.take
            sent: list[str] = []

            async def meanwhile(self: Children, *args: Any) -> None:
                await submitted(self, *args)
                if not sent:
                    sent.append(job)
                    if not taken:
                        monkeypatch.setattr(Run, "take", lambda run, found: run._lease.job == job or take(run, found))
                    assert await system.operator.signal(job, "between", 20)
                    if not taken:
                        return
                    while "between" not in _received(await system.record(job)):
                        await asyncio.sleep(0.01)

            monkeypatch.setattr(Children, "continue_as", meanwhile)
            for _ in range(2):
                await system.start_worker([heeding], FAST)
            job = await system.submit(heeding, 0)
            await system.operator.signal(job, "early", 1)
            await system.operator.signal(job, "heard", 0)
            before, after = await runs(system, job)
            assert after.result() == 21
            assert _received(after) == ["early", "between"]  # not what the first run heard
            with pytest.raises(Refused, match="takes no signal any more"):
                await system.operator.signal(before.row.job, "between", 20)

    run(work)


def test_a_cancel_that_comes_while_a_run_goes_on_ends_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for an end meant the job, not the run that had just gone on."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            submitted = Children.continue_as

            async def meanwhile(self: Children, *args: Any) -> None:
                await submitted(self, *args)
                await system.operator.cancel(job, "enough")
                while types(await system.record(job))[-1] != "cancel_requested":
                    await asyncio.sleep(0.01)

            monkeypatch.setattr(Children, "continue_as", meanwhile)
            await system.start_worker([heeding], FAST)
            job = await system.submit(heeding, 0)
            await system.operator.signal(job, "heard", 0)
            before, after = await runs(system, job)
            assert (before.row.status, after.row.status) == (JobStatus.COMPLETED, JobStatus.CANCELLED)
            asked = next(e for e in after.events if e.type == "cancel_requested")
            assert after.value(asked, "why") == "enough"

    run(work)


def _received(record: JobRecord) -> list[str]:
    return [e.data["correlation_key"] for e in record.events if e.type == "signal_received"]
