"""Cancel, pause, deadlines: a job that is to stop does so on the record, and its calls end first."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.runtime.run import End, Run
from aetheris.runtime.worker import Worker
from aetheris.store import leases
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, last_value, run, types
from tests.store.pay_support import (
    EFFECTS,
    HELD,
    nothing_paid,  # noqa: F401  for every test of this module
    pay,
    waits,
)


def test_a_cancelled_job_cleans_up_and_ends_cancelled(database: Database) -> None:
    """The code gets Cancelled where it waits; `finally` may still call tools; a replay does the same."""

    @ae.agent
    async def careful(ctx: ae.Context) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            await ctx.call(pay, what="undo")
            await ctx.sleep(1.3)
            await ctx.call(pay, what="undone")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([careful], FAST)
            job = await system.submit(careful)
            await at_rest(system, job, "signal never")
            assert await system.operator.cancel(job, "customer left")
            record = await ended(system, job)
            assert record.row.status is JobStatus.CANCELLED
            assert EFFECTS == ["undo", "undone"]
            asked = next(e for e in record.events if e.type == "cancel_requested")
            assert record.value(asked, "why") == "customer left"

    run(work)


def test_code_that_is_given_up_does_nothing_more(database: Database) -> None:
    """A job that rests is unwound in memory: its `finally` is no place from which effects escape."""
    unwound: list[str] = []

    @ae.agent
    async def tidy(ctx: ae.Context) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            unwound.append("finally")
            await ctx.call(pay, what="from the grave")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([tidy], FAST)
            job = await system.submit(tidy)
            record = await at_rest(system, job, "signal never")
            assert unwound == ["finally"]
            assert EFFECTS == []
            assert types(record) == ["job_created", "job_waiting"]

    run(work)


def test_a_job_cancelled_before_it_began_runs_no_code(database: Database) -> None:
    """And one that is not served yet is cancelled as soon as somebody could run it."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(waits, "x")
            await system.operator.cancel(job)
            assert not await system.operator.cancel(job)
            await system.start_worker([waits], FAST)
            record = await ended(system, job)
            assert types(record) == ["job_created", "cancel_requested", "job_cancelled"]

    run(work)


def test_a_plain_function_is_cancelled_where_it_waits(database: Database) -> None:
    """`def` jobs get the same Cancelled, in their thread."""

    @ae.agent
    def plain(ctx: ae.SyncContext) -> str:
        try:
            ctx.wait_signal("never")
        except ae.Cancelled as cancelled:
            ctx.call(pay, what=f"undo {cancelled.reason}")
            raise
        return "no"

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([plain], FAST)
            job = await system.submit(plain)
            await at_rest(system, job, "signal never")
            await system.operator.cancel(job)
            assert (await ended(system, job)).row.status is JobStatus.CANCELLED
            assert EFFECTS == ["undo cancel"]

    run(work)


def test_a_call_under_way_ends_on_record_before_its_job_is_cancelled(database: Database) -> None:
    """Never terminal in doubt: the effect in flight is waited for and recorded."""

    @ae.agent
    async def paying(ctx: ae.Context) -> None:
        await ctx.call(pay, what="big")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            HELD["big"] = asyncio.Event()
            await system.start_worker([paying], FAST)
            job = await system.submit(paying)
            while not EFFECTS:
                await asyncio.sleep(0.01)
            await system.operator.cancel(job)
            while "cancel_requested" not in types(await system.record(job)):
                await asyncio.sleep(0.01)
            HELD["big"].set()
            record = await ended(system, job)
            assert types(record)[-2:] == ["tool_invocation_finished", "job_cancelled"]
            assert record.row.status is JobStatus.CANCELLED

    run(work)


def test_a_job_in_doubt_is_parked_when_cancelled_and_ends_once_resolved(database: Database) -> None:
    """Cancel does not hide a doubt: a person ends it, then the job is cancelled."""

    @ae.agent
    async def paying(ctx: ae.Context) -> None:
        await ctx.call(pay, what="big")
        await ctx.call(pay, what="more")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            HELD["big"] = asyncio.Event()
            first = await system.start_worker([paying], ae.Settings(lease_seconds=1))
            job = await system.submit(paying)
            while not EFFECTS:
                await asyncio.sleep(0.01)
            await crash(system, first)
            await system.start_worker([paying], FAST)
            await at_rest(system, job, "doubt 1 pay")
            await system.operator.cancel(job)
            while "cancel_requested" not in types(await system.record(job)):
                await asyncio.sleep(0.02)
            assert (await at_rest(system, job, "doubt 1 pay")).row.status is JobStatus.PARKED
            await system.operator.resolve(job, 1, "done", why="the bank says so", result="paid big")
            record = await ended(system, job)
            assert record.row.status is JobStatus.CANCELLED
            assert EFFECTS == ["big"]

    run(work)


def test_a_paused_job_rests_until_it_is_resumed(database: Database) -> None:
    """Signals that come meanwhile are recorded, and wait with it."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([waits], FAST)
            job = await system.submit(waits, "go")
            await at_rest(system, job, "signal go")
            await system.operator.pause(job, "audit")
            await at_rest(system, job, "paused")
            await system.operator.signal(job, "go", 1)
            while "signal_received" not in types(await system.record(job)):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert EFFECTS == []
            assert (await at_rest(system, job, "paused")).row.status is JobStatus.PARKED
            await system.operator.resume(job, "done looking")
            assert (await ended(system, job)).result() == [1, "paid after"]

    run(work)


def test_a_job_past_its_deadline_fails_on_record(database: Database) -> None:
    """Also when nobody ran it in time; what it waits for does not come to its code any more."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([waits], FAST)
            job = await system.submit(waits, "never", timeout=timedelta(seconds=1.5))
            record = await ended(system, job)
            assert record.row.status is JobStatus.FAILED
            assert record.events[-1].data["reason"] == "timeout"
            assert last_value(record, "error")["kind"] == "JobTimeout"
            with pytest.raises(ae.Refused, match="above 0"):
                await system.submit(waits, "never", timeout=timedelta(seconds=-1))

    run(work)


def test_a_job_whose_time_was_over_before_anybody_came_starts_nothing(database: Database) -> None:
    """Not even its first call."""

    @ae.agent
    async def eager(ctx: ae.Context) -> None:
        await ctx.call(pay, what="too late")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(eager, timeout=timedelta(seconds=0.2))
            await asyncio.sleep(0.5)
            await system.start_worker([eager], FAST)
            record = await ended(system, job)
            assert record.events[-1].data["reason"] == "timeout"
            assert EFFECTS == []
            assert record.ledger == []

    run(work)


@ae.agent
async def endless(ctx: ae.Context) -> None:
    """Waits, again and again, never for long enough to give its worker back."""
    while True:
        await ctx.sleep(0.5)


@pytest.mark.parametrize("others", [0, 1])
def test_a_worker_stopped_in_the_middle_of_a_claim_gives_the_jobs_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """They were claimed and never held: nobody could take them until their leases ran out."""
    real, claimed, go_on = ReplayContextBuilder.build, asyncio.Event(), asyncio.Event()

    async def slowly(builder: ReplayContextBuilder, *given: Any) -> Any:
        claimed.set()
        await go_on.wait()
        return await real(builder, *given)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([endless], FAST)
            for _ in range(others):
                await system.submit(endless)
            while len(worker._held) < others:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(ReplayContextBuilder, "build", slowly)
            job = await system.submit(endless)
            await asyncio.wait_for(claimed.wait(), 10)
            worker.stop()
            await asyncio.sleep(0.05)
            go_on.set()
            await asyncio.wait_for(system._workers[worker], 20)
            assert (await system.record(job)).row.status is JobStatus.RETRYING

    run(work)


def test_a_hold_that_is_given_back_at_the_stop_is_free_when_the_worker_has_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waited for it: a process that ended at once left the job to its lease."""
    release = leases.release

    async def slowly(*given: Any, **how: Any) -> None:
        await asyncio.sleep(0.3)
        await release(*given, **how)

    async def gives_back(run: Run) -> End:
        while not run._draining:
            await asyncio.sleep(0.01)
        return End("given back", 60)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            monkeypatch.setattr(leases, "release", slowly)
            monkeypatch.setattr(Run, "_run", gives_back)
            worker = await system.start_worker([endless], FAST)
            job = await system.submit(endless)
            while not worker._held:
                await asyncio.sleep(0.01)
            worker.stop()
            await asyncio.wait_for(system._workers[worker], 20)
            row = (await system.record(job)).row
            assert (row.status, row.lease_owner) == (JobStatus.RETRYING, None)

    run(work)


def test_who_was_let_go_while_a_claim_was_under_way_is_told_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim brought nothing, and nobody was in hand any more when it ended: the others heard of nothing."""
    claiming, go_on = asyncio.Event(), asyncio.Event()
    told: list[int] = []

    async def slowly(*given: Any, **how: Any) -> Any:
        claiming.set()
        await go_on.wait()
        return []

    async def wake(worker: Worker) -> None:
        told.append(len(worker._held))

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([endless], FAST)
            job = await system.submit(endless)
            while not worker._held:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(leases, "claim", slowly)
            monkeypatch.setattr(Worker, "_wake_others", wake)
            worker.hint()
            await asyncio.wait_for(claiming.wait(), 10)
            worker.stop()
            while worker._held:
                await asyncio.sleep(0.01)
            go_on.set()
            await asyncio.wait_for(system._workers[worker], 20)
            assert told == [0]
            assert (await system.record(job)).row.status is JobStatus.RETRYING

    run(work)
