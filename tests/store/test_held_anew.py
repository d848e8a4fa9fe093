"""A worker that claims a job which it still has in hand: its lease ran out meanwhile, and nobody else came."""

from __future__ import annotations

import asyncio
import logging

import pytest

import aetheris as ae
from aetheris.runtime.worker import Worker
from aetheris.store.database import Database
from tests.store.job_support import ended, run

TRIES: list[asyncio.Event] = []
#: What the first try waits for when it is cancelled, before it is gone.
TIDY: list[asyncio.Event] = []


@ae.tool(effect="idempotent")
async def slow(n: int) -> int:
    """Ends when it is let."""
    TRIES.append(mine := asyncio.Event())
    try:
        await mine.wait()
    except asyncio.CancelledError:
        if TIDY and mine is TRIES[0]:
            await TIDY[0].wait()
        raise
    return n


@ae.agent
async def holder(ctx: ae.Context) -> int:
    """One call."""
    return await ctx.call(slow, n=1)


async def held_twice(system: ae.AsyncSystem) -> tuple[Worker, str]:
    """Let a worker claim a job anew that it still has in hand; return both."""
    TRIES.clear()
    worker = await system.start_worker([holder], ae.Settings(lease_seconds=60, poll_seconds=0.1))
    job = await system.submit(holder)
    while not TRIES:
        await asyncio.sleep(0.01)
    async with await system.database.connect("worker") as connection:
        await connection.execute("UPDATE aetheris.jobs SET lease_until = now() - interval '1 second'")
    worker.hint()
    while len(TRIES) < 2:
        await asyncio.sleep(0.01)
    return worker, job


def test_the_first_hold_is_cancelled_and_the_second_stays_in_hand(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The soak: PostgreSQL was away for longer than a lease; the end of the one hold threw the other out of hand."""
    caplog.set_level(logging.WARNING)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker, job = await held_twice(system)
            (held,) = worker._held.values()
            assert held.lease.epoch == 2
            async with asyncio.timeout(5):
                while worker._aside:
                    await asyncio.sleep(0.01)  # the first hold ends
            assert list(worker._held.values()) == [held]
            TRIES[1].set()
            record = await ended(system, job)
            assert record.result() == 1
            async with asyncio.timeout(5):
                while worker._held:
                    await asyncio.sleep(0.01)

    run(work)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert "the lease ran out and is ours anew" in caplog.text


def test_a_worker_that_ends_waits_for_the_hold_that_was_set_aside(database: Database) -> None:
    """It would go on beside the closed journal, and die with the loop, in the middle of what it puts in order."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker, _ = await held_twice(system)
            (first,) = worker._aside
            life = system._workers[worker]
            worker.stop()
            TRIES[1].set()
            await asyncio.wait([life], timeout=0.5)
            assert not life.done()
            assert not first.done()
            tidy.set()
            await asyncio.wait([life], timeout=10)
            assert life.done()
            assert first.cancelled()

    TIDY[:] = [tidy := asyncio.Event()]
    try:
        run(work)
    finally:
        TIDY.clear()
