"""Jobs without an end go on as new runs: linked both ways, one successor whatever dies, one history for the auditor."""

from __future__ import annotations

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
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from tests.store.job_support import FAST, crash, ended, last_value, run

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
