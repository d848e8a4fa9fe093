"""Group commit keeps PostgreSQL and the worker busy at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import journal
from aetheris.runtime.clock import Clock
from aetheris.runtime.joblog import JobLog
from aetheris.store import inbox, leases
from aetheris.store.append import Batch
from aetheris.store.database import Connection, Database
from aetheris.store.errors import Unreachable
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


def test_a_message_taken_without_an_event_is_counted_off_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection broke in COMMIT, and the head doesn't tell: sent again, it hid the message that came next."""
    really, sent = journal.append, []

    async def doubtful(connection: Connection, worker: str, batches: Sequence[Batch]) -> object:
        refused = await really(connection, worker, batches)
        sent.append(1)
        if len(sent) == 1:
            await inbox.send(connection, "default", batches[0].job, kind="child", key="c2", by="x", payload=None)
            raise Unreachable("the connection broke in COMMIT")
        return refused

    monkeypatch.setattr(journal, "append", doubtful)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            job = await system.submit(steps, 1)
            await inbox.send(connection, "default", job, kind="child", key="c1", by="x", payload=None)
            (lease,) = await leases.claim(
                connection, "w", agents={"steps": "1"}, capabilities=(), limit=1, lease_seconds=60
            )
            made = journal.Journal("w", lambda: database.connect("worker"))
            log = JobLog(
                made, Clock(0), tenant="default", job=job, epoch=lease.epoch, head_seq=lease.head_seq,
                head_leaf=lease.head_leaf, last_at=0, by="worker/w", trace=cast(Any, None),
            )  # fmt: skip
            (message,) = (await inbox.untaken(connection, [lease.key]))[lease.key]
            log.take_silently(message.id)
            made.close()
            await made.run()
            assert len(sent) == 2
            left = (await inbox.untaken(connection, [lease.key]))[lease.key]
            row = await (await connection.execute("SELECT inbox FROM aetheris.jobs")).fetchone()
            assert ([m.key for m in left], row) == (["c2"], {"inbox": 1})

    run(work)
