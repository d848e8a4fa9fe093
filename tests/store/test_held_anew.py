"""A worker that claims a job which it still has in hand: its lease ran out meanwhile, and nobody else came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import aetheris as ae
from aetheris.runtime import mail
from aetheris.runtime.journal import Journal
from aetheris.runtime.worker import Worker
from aetheris.store import inbox
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database
from tests.store.job_support import FAST, at_rest, ended, run

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


@ae.agent
async def hears(ctx: ae.Context) -> int:
    """Two signals, then one call."""
    await ctx.wait_signal("a")
    await ctx.wait_signal("b")
    return await ctx.call(slow, n=1)


def test_mail_fetched_for_one_hold_is_not_given_to_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that was long on its way: the signal that the first hold had taken was taken again. So was a pause."""
    TRIES.clear()
    asked, answer, commit = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real, real_commit = inbox.untaken, Journal._commit

    async def slowly(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, list[inbox.Message]]:
        found = await real(connection, keys)
        if any(m.key == "a" for messages in found.values() for m in messages):
            asked.set()
            await answer.wait()
        return found

    async def held_back(journal: Journal, round_: Any) -> None:
        await commit.wait()
        await real_commit(journal, round_)

    async def work() -> None:
        monkeypatch.setattr(mail, "inbox", SimpleNamespace(untaken=slowly))
        monkeypatch.setattr(Journal, "_commit", held_back)
        async with ae.AsyncSystem(database=database) as system:
            commit.set()
            worker = await system.start_worker([hears], FAST)
            job = await system.submit(hears)
            await at_rest(system, job, "signal a")
            commit.clear()
            await system.operator.signal(job, "a")
            while ("default", job) not in worker._held:
                await asyncio.sleep(0.01)
            worker._mail.ask([("default", job)])  # as a heartbeat does that finds it untaken yet
            await asyncio.wait_for(asked.wait(), 10)
            commit.set()
            await at_rest(system, job, "signal b")
            await system.operator.signal(job, "b")
            while not TRIES:
                await asyncio.sleep(0.01)
            answer.set()
            await asyncio.sleep(0.1)
            TRIES[0].set()
            record = await ended(system, job)
            assert [e.data["correlation_key"] for e in record.events if e.type == "signal_received"] == ["a", "b"]

    run(work)
