"""A worker that claims a job which it still has in hand: its lease ran out meanwhile, and nobody else came."""

from __future__ import annotations

import asyncio
import logging

import pytest

import aetheris as ae
from aetheris.store.database import Database
from tests.store.job_support import ended, run

TRIES: list[asyncio.Event] = []


@ae.tool(effect="idempotent")
async def slow(n: int) -> int:
    """Ends when it is let."""
    TRIES.append(asyncio.Event())
    await TRIES[-1].wait()
    return n


@ae.agent
async def holder(ctx: ae.Context) -> int:
    """One call."""
    return await ctx.call(slow, n=1)


def test_the_first_hold_is_cancelled_and_the_second_stays_in_hand(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The soak: PostgreSQL was away for longer than a lease; the end of the one hold threw the other out of hand."""
    TRIES.clear()
    caplog.set_level(logging.WARNING)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([holder], ae.Settings(lease_seconds=60, poll_seconds=0.1))
            job = await system.submit(holder)
            while not TRIES:
                await asyncio.sleep(0.01)
            async with await database.connect("worker") as connection:
                await connection.execute("UPDATE aetheris.jobs SET lease_until = now() - interval '1 second'")
            worker.hint()
            while len(TRIES) < 2:
                await asyncio.sleep(0.01)
            (held,) = worker._held.values()
            assert held.lease.epoch == 2
            async with asyncio.timeout(5):
                while worker._background:
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
