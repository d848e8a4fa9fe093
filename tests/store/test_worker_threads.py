"""A worker's threads and tasks are its own: it takes them with it, and no others."""

from __future__ import annotations

import asyncio

import aetheris as ae
from aetheris.store.database import Database
from tests.store.job_support import FAST, crash, ended, run


@ae.tool(effect="none")
def plain(n: int) -> int:
    """A tool in a thread."""
    return n + 1


@ae.agent
async def calls_plain(ctx: ae.Context, n: int) -> int:
    """One call in a thread."""
    return await ctx.call(plain, n=n)


def test_a_worker_that_leaves_takes_no_threads_of_others_with_it(database: Database) -> None:
    """A second worker in the process, and the program's own threads, must go on when the first is stopped."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            other = await system.start_worker([calls_plain], FAST)
            first = await system.start_worker([calls_plain], FAST)
            first.stop()
            await system._workers.pop(first)
            assert await asyncio.to_thread(lambda: 1) == 1
            job = await system.submit(calls_plain, 1)
            assert (await ended(system, job)).result() == 2
            assert other.counts.ended == {"completed": 1}

    run(work)


def test_a_worker_that_is_cancelled_leaves_no_task_behind(database: Database) -> None:
    """Nothing of it still waits for the garbage collector to find."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            before = asyncio.all_tasks()
            await crash(system, await system.start_worker([], FAST))
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == before

    run(work)
