"""A new job is heard of at once, though no submit notifies within its own transaction."""

from __future__ import annotations

import asyncio
import time

import aetheris as ae
from aetheris.store import jobs
from aetheris.store.database import Database, as_tenant
from aetheris.store.signals import announce, listen
from tests.store.job_support import ended, run

#: Far beyond what a test waits: only a notification wakes this worker.
DEAF = ae.Settings(poll_seconds=60, lease_seconds=120)


@ae.agent
async def child(ctx: ae.Context, n: int) -> int:
    """Return what it was given."""
    return n


@ae.agent
async def parent(ctx: ae.Context, n: int) -> int:
    """One child."""
    return int(await ctx.child(child, n))


@ae.agent
async def failing(ctx: ae.Context, n: int) -> int:
    """Fail."""
    raise ValueError("as it must")


def test_a_worker_that_hardly_polls_hears_of_every_kind_of_new_job(database: Database) -> None:
    """Submitted, a child, a retry: each begins long before the worker would have looked by itself."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([child, parent, failing], DEAF)
            await asyncio.sleep(0.3)  # its first look is behind it
            began = time.monotonic()
            assert (await ended(system, await system.submit(parent, 7))).result() == 7
            failed = await system.submit(failing, 1)
            assert (await ended(system, failed)).row.status.word == "failed"
            again = await system.operator.retry(failed)
            assert (await ended(system, again)).row.status.word == "failed"
            assert time.monotonic() - began < 20

    run(work)


def test_a_submit_does_not_notify_before_its_commit_is_done(database: Database) -> None:
    """NOTIFY in a transaction makes the server's commits one at a time, so it comes after, on its own."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as ear:
            heard: list[str] = []

            async def hear() -> None:
                async for payload in listen(ear):
                    heard.append(payload)

            hearing = asyncio.create_task(hear())
            await asyncio.sleep(0.2)
            new = system._submitter.prepare(child, 1, key=None)
            async with as_tenant(system._pool, system.tenant) as connection:
                await jobs.submit(connection, new)
            await asyncio.sleep(0.3)
            assert heard == []
            await announce(system._pool)
            while not heard:
                await asyncio.sleep(0.01)
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    run(work)


def test_a_hint_that_can_not_be_given_is_no_error_of_the_submit(database: Database) -> None:
    """The job is durable by then: an error would have its caller submit it again."""

    async def work() -> None:
        async with database.pool("app", 1) as pool:
            pass  # closed, as where PostgreSQL has gone
        await announce(pool)

    run(work)
