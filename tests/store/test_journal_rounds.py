"""Group commit keeps PostgreSQL and the worker busy at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import journal
from aetheris.store.append import Batch
from aetheris.store.database import Connection, Database
from tests.store.job_support import run

JOBS = 64


@ae.tool
async def at_once(n: int) -> int:
    """A tool that takes no time: all jobs call it in step."""
    return n


@ae.agent
async def steps(ctx: ae.Context, count: int) -> None:
    """Calls, one after the other."""
    for n in range(count):
        await ctx.call(at_once, n=n)


def test_jobs_in_step_are_not_all_kept_waiting_by_one_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one half is on its way to the disk the other half runs; a few jobs are never kept back."""
    sizes: list[int] = []
    really = journal.append

    async def watched(connection: Connection, worker: str, batches: Sequence[Batch]) -> object:
        sizes.append(len(batches))
        return await really(connection, worker, batches)

    monkeypatch.setattr(journal, "append", watched)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            ids = [await system.submit(steps, 30) for _ in range(JOBS)]
            await system.start_worker([steps], ae.Settings(concurrency=JOBS))
            found = await system.wait(ids)
            assert set(found.values()) == {JobStatus.COMPLETED}
            middle = sizes[len(sizes) // 4 : -len(sizes) // 4]
            assert max(middle) <= JOBS * 0.6
            sizes.clear()
            await system.wait([await system.submit(steps, 1)])
            assert len(sizes) <= 4

    run(work)
