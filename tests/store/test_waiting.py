"""Signals, approvals, children, another run: what a job waits for from outside, each on the record once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.demo.first import Ticket, desk
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.mail import Mail
from aetheris.runtime.underway import UnderWay
from aetheris.runtime.waits import ApprovalStep
from aetheris.store import jobs
from aetheris.store.database import Connection, Database
from tests.store.job_support import FAST, at_rest, crash, ended, run, types
from tests.store.pay_support import (
    EFFECTS,
    nothing_paid,  # noqa: F401  for every test of this module
    pay,
    waits,
)


def test_a_signal_wakes_the_job_that_waits_for_it(database: Database) -> None:
    """The job rests without a worker, and goes on with the payload."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([waits], FAST)
            job = await system.submit(waits, "paid")
            resting = await at_rest(system, job, "signal paid")
            assert resting.row.status is JobStatus.PARKED
            assert await system.operator.signal(job[:12], "paid", {"amount": 1.5})
            record = await ended(system, job)
            assert record.result() == [{"amount": 1.5}, "paid after"]
            received = next(e for e in record.events if e.type == "signal_received")
            assert received.by.startswith("user/")
            assert "amount" not in "".join(map(str, record.stored.lines))

    run(work)


def test_a_signal_that_comes_early_is_kept_and_a_repeated_one_is_one(database: Database) -> None:
    """Exactly once by key, before the job has begun as well; what nobody waits for does no harm."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(waits, "paid")
            assert await system.operator.signal(job, "paid", 1)
            assert await system.operator.signal(job, "other", 2)
            assert not await system.operator.signal(job, "paid", 3)
            await system.start_worker([waits], FAST)
            record = await ended(system, job)
            assert record.result()[0] == 1
            assert types(record).count("signal_received") == 2
            assert EFFECTS == ["after"]

    run(work)


def test_a_signal_before_a_checkpoint_is_there_after_it(database: Database) -> None:
    """A resume point reads nothing earlier, but a signal that came is a fact of the job."""

    @ae.agent
    async def steps(ctx: ae.Context, n: int) -> Any:
        if n == 0:
            await ctx.sleep(1.5)
            await ctx.checkpoint(1)
        await ctx.sleep(1.5)
        return await ctx.wait_signal("early")

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([steps], FAST)
            job = await system.submit(steps, 0)
            await system.operator.signal(job, "early", "kept")
            assert (await ended(system, job)).result() == "kept"

    run(work)


def test_two_workers_and_a_storm_of_signals_lose_none_and_double_none(database: Database) -> None:
    """Senders race with releases: a message sent while the job lets go is not slept over."""

    @ae.agent
    async def collects(ctx: ae.Context, n: int) -> list[int]:
        return [await ctx.wait_signal(f"k{i}") for i in range(n)]

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            slow = ae.Settings(poll_seconds=20)  # nothing but the wake-up may bring it on
            await system.start_worker([collects], slow)
            await system.start_worker([collects], slow)
            jobs = [await system.submit(collects, 12) for _ in range(4)]

            async def send(job: str, i: int) -> None:
                await asyncio.sleep(0.01 * i)
                await asyncio.gather(*(system.operator.signal(job, f"k{i}", i) for _ in range(2)))

            await asyncio.gather(*(send(job, i) for job in jobs for i in range(12)))
            for job in jobs:
                record = await ended(system, job)
                assert record.result() == list(range(12))
                assert types(record).count("signal_received") == 12

    run(work)


def test_what_comes_while_a_job_is_put_to_rest_wakes_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rest is settled, and what it waited with is being stopped: then a signal is for whoever claims it next."""

    @ae.agent
    async def listener(ctx: ae.Context) -> str:
        return str(await ctx.wait_signal("now"))

    @ae.agent
    def thread_listener(ctx: ae.SyncContext) -> str:
        return str(ctx.wait_signal("now"))

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            stop, told = UnderWay.stop, []

            async def meanwhile(self: UnderWay) -> None:
                if self._engine.job not in told:
                    told.append(self._engine.job)
                    await system.operator.signal(self._engine.job, "now", "heard")
                    await asyncio.sleep(0.3)  # the worker's mail is there
                await stop(self)

            monkeypatch.setattr(UnderWay, "stop", meanwhile)
            await system.start_worker([listener, thread_listener], FAST)
            for agent in (listener, thread_listener):
                assert (await ended(system, await system.submit(agent))).result() == "heard"

    run(work)


def test_a_wait_that_expires_raises_in_the_job(database: Database) -> None:
    """The end of the wait is on record, so that a replay ends it the same way."""

    @ae.agent
    async def impatient(ctx: ae.Context) -> str:
        try:
            return str(await ctx.wait_signal("never", expires=timedelta(seconds=1.3)))
        except ae.Expired:
            await ctx.sleep(1.3)
            return "expired"

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([impatient], FAST)
            job = await system.submit(impatient)
            record = await ended(system, job)
            assert record.result() == "expired"
            with pytest.raises(ae.Refused, match="completed: it takes no signal any more"):
                await system.operator.signal(job, "never")

    run(work)


@ae.agent
async def asks(ctx: ae.Context) -> Any:
    """Asks an operator."""
    answer = await ctx.approval("Refund 42.00 to Ann?", role="operator")
    return [bool(answer), answer.by, answer.why]


def test_an_approval_says_who_and_why_and_keeps_others_out(database: Database) -> None:
    """The title may be sensitive: it is no part of a line. Whoever has not the role writes nothing."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([asks], FAST)
            job = await system.submit(asks)
            await at_rest(system, job, "approval 1")
            before = (await system.record(job)).row.head_seq
            with pytest.raises(ae.Denied, match="for the role operator, not user"):
                await system.operator.approve(job, 1, approved=True, role="user")
            with pytest.raises(ae.Refused, match=r"no approval is open at step 7 \(open: 1\)"):
                await system.operator.approve(job, 7, approved=True)
            assert (await system.record(job)).row.head_seq == before
            await system.operator.approve(job, 1, approved=True, why="customer called")
            record = await ended(system, job)
            yes, by, why = record.result()
            assert (yes, why) == (True, "customer called")
            assert by.startswith("user/")
            assert b"Ann" not in b"".join(record.stored.lines)
            with pytest.raises(ae.Refused, match="no approval is open"):
                await system.operator.approve(job, 1, approved=False)

    run(work)


def test_an_approval_that_nobody_gives_is_a_no(database: Database) -> None:
    """Silence is never consent."""

    @ae.agent
    async def expiring(ctx: ae.Context) -> Any:
        answer = await ctx.approval("Now?", expires=0.3)
        return [bool(answer), answer.expired]

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([expiring], FAST)
            assert (await ended(system, await system.submit(expiring))).result() == [False, True]

    run(work)


def test_a_yes_after_the_time_of_the_approval_is_none(database: Database) -> None:
    """No worker was here when its time was over: a yes a day later was taken before that could be said."""

    @ae.agent
    async def expiring(ctx: ae.Context) -> Any:
        answer = await ctx.approval("Now?", expires=1.2)
        return [bool(answer), answer.expired]

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([expiring], FAST)
            job = await system.submit(expiring)
            asked = (await at_rest(system, job, "approval 1")).events[-1]
            await crash(system, worker)
            while system.operator.submitter.clock.now_us() <= asked.data["expires_at"]:
                await asyncio.sleep(0.05)
            with pytest.raises(ae.Refused, match="the approval at step 1 has expired"):
                await system.operator.approve(job, 1, approved=True)
            # As one that was looked at a moment before:
            await system.operator._send(job, "approval", "approval/1", b'{"decision":"approved","role":"operator"}')
            await system.start_worker([expiring], FAST)
            record = await ended(system, job)
            assert record.result() == [False, True]
            assert "message_ignored" in types(record)

    run(work)


def test_a_yes_in_the_last_moment_is_one_though_it_is_read_after_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts by when it was sent: who was told that it was in time must not find it expired."""
    ask, ends_us = Mail.ask, 0

    def late(mail: Mail, keys: Iterable[tuple[str, str]]) -> None:
        left = max(0.0, ends_us / 1e6 - time.time())
        asyncio.get_running_loop().call_later(left + 0.05, ask, mail, list(keys))

    @ae.agent
    async def expiring(ctx: ae.Context) -> bool:
        return bool(await ctx.approval("Now?", expires=0.9))

    async def work() -> None:
        nonlocal ends_us
        async with ae.AsyncSystem(database=database) as system:
            monkeypatch.setattr(Mail, "ask", late)
            monkeypatch.setattr(ApprovalStep, "on_its_way_us", 5_000_000)  # on a busy machine
            await system.start_worker([expiring], FAST)
            job = await system.submit(expiring)
            while (asked := (await system.record(job)).events[-1]).type != "approval_requested":
                await asyncio.sleep(0.01)
            ends_us = asked.data["expires_at"]
            assert await system.operator.approve(job, 1, approved=True)
            assert (await ended(system, job)).result() is True

    run(work)


@ae.agent
async def double(ctx: ae.Context, n: int) -> int:
    """A child."""
    await ctx.call(pay, what=f"child {n}")
    if n < 0:
        raise ValueError("negative")
    await ctx.sleep(1.2)
    return 2 * n


@ae.agent
async def parent(ctx: ae.Context) -> Any:
    """Two children at once, and one that fails."""
    both = await ctx.gather(ctx.child(double, 1), ctx.child(double, 2))
    try:
        await ctx.child(double, -1)
    except ae.ChildFailed as failed:
        return [both, failed.status]


def test_children_run_once_and_bring_their_results_even_if_the_parents_worker_dies(database: Database) -> None:
    """The child's key is made of parent and step: whoever submits again submits the same job."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            first = await system.start_worker([parent], ae.Settings(lease_seconds=1, poll_seconds=0.1))
            job = await system.submit(parent)
            while len(await system.listing(agent="double")) < 2:
                await asyncio.sleep(0.02)
            await crash(system, first)
            await system.start_worker([parent, double], FAST)
            record = await ended(system, job)
            assert record.result() == [[2, 4], "failed"]
            assert sorted(EFFECTS) == ["child -1", "child 1", "child 2"]
            children = await system.listing(agent="double")
            assert len(children) == 3
            genesis = (await system.record(children[0].job)).events[0]
            assert genesis.data["parent"] == job

    run(work)


def test_nobody_submits_a_job_in_the_place_of_a_child(database: Database) -> None:
    """Its parent would wait for ever for a child that was never made."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(parent)
            for key in (f"child/{job}/1", f"continue/{job}", f"retry/{job}"):
                with pytest.raises(ae.Refused, match="use another"):
                    await system.submit(double, 1, key=key)
            assert await system.submit(double, 1, key="retry/ticket-881")

    run(work)


@pytest.mark.parametrize("name", ["outcome", "submit"])
def test_a_parent_whose_connection_breaks_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It failed for good: that PostgreSQL was away, or had no connection left, was taken for an error of its code."""
    real, broken = getattr(jobs, name), []

    async def breaking(connection: Connection, *given: Any) -> Any:
        if not broken:
            broken.append(1)
            with psycopg.connect(database.admin_dsn) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
        return await real(connection, *given)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(parent)
            monkeypatch.setattr(jobs, name, breaking)
            await system.start_worker([parent, double], FAST)
            record = await ended(system, job)
            assert record.result() == [[2, 4], "failed"]
            assert broken
            assert len(await system.listing(agent="double")) == 3

    run(work)


def test_a_failed_job_is_run_again_as_a_new_run_that_names_the_old(database: Database) -> None:
    """Asking twice is the same new run; a job that has not failed is not run again."""
    broken = True

    @ae.agent
    async def flaky(ctx: ae.Context, n: int) -> int:
        if broken:
            raise ValueError("not yet")
        return n

    async def work() -> None:
        nonlocal broken
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([flaky], FAST)
            job = await system.submit(flaky, 7)
            await ended(system, job)
            broken = False
            again = await system.operator.retry(job)
            assert again == await system.operator.retry(job)
            record = await ended(system, again)
            assert record.result() == 7
            assert record.events[0].data["retry_of"] == job
            with pytest.raises(ae.Refused, match="completed: only a failed or cancelled job"):
                await system.operator.retry(again)

    run(work)


def test_who_waits_for_a_job_that_was_just_answered_waits_on(database: Database) -> None:
    """Between an answer and the worker that takes it the job is parked still; that is not where it comes to rest."""

    async def body() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([desk], FAST)
            ticket = Ticket(booking="4WQ150", cents=4200, iban="DE02")
            job = await system.submit(desk, ticket)
            assert (await system.wait([job], seconds=30))[job] is JobStatus.PARKED
            await system.operator.approve(job, 2, approved=True)
            assert (await system.wait([job], seconds=30))[job] is JobStatus.COMPLETED

    run(body)
