"""The one fenced append, and what stands behind it in the database itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

import aetheris as ae
from aetheris.domain.cells import Cell
from aetheris.domain.errors import Conflict, Lost, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.domain.ledger import transition_of
from aetheris.runtime.joblog import make_event
from aetheris.store import leases
from aetheris.store.append import Batch, append, heads
from aetheris.store.database import Connection, Database
from aetheris.store.leases import Lease


@ae.agent
async def idle(ctx: ae.Context) -> None:
    """A job that nobody runs here: the tests are its worker."""


class Desk:
    """A store with leased jobs, and a hand that writes batches for them."""

    def __init__(self, system: ae.AsyncSystem, connection: Connection) -> None:
        self.system, self.connection = system, connection

    async def lease(self, count: int = 1, worker: str = "w1", seconds: float = 30.0) -> list[Lease]:
        """Submit and claim jobs."""
        for _ in range(count):
            await self.system.submit(idle)
        return await self.claim(worker, seconds, count)

    async def claim(self, worker: str, seconds: float = 30.0, limit: int = 100) -> list[Lease]:
        """Claim what there is."""
        return await leases.claim(
            self.connection, worker, agents={"idle": "1"}, capabilities=[], limit=limit, lease_seconds=seconds
        )

    async def rows(self, lease: Lease) -> tuple[int, int, int]:
        """Return how many events, cells and ledger rows the job has."""
        counts = []
        for table in ("job_events", "cells", "ledger"):
            cursor = await self.connection.execute(
                f"SELECT count(*) AS n FROM aetheris.{table} WHERE job_id = %s".encode(), [lease.job]
            )
            row = await cursor.fetchone()
            assert row is not None
            counts.append(row["n"])
        return counts[0], counts[1], counts[2]


@asynccontextmanager
async def desk(database: Database) -> AsyncIterator[Desk]:
    """Open a desk on a database."""
    async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
        yield Desk(system, connection)


def batch(lease: Lease, *kinds: str, at: int = 1) -> Batch:
    """Return a batch of one event per kind: started, committed, completed, plain."""
    made = Batch(lease.tenant, lease.job, lease.epoch, lease.head_seq, lease.head_leaf, last_at=at)
    seq, leaf = lease.head_seq, lease.head_leaf
    call = {"attempt": 1, "effect": "once", "tool_name": "pay"}
    shapes = {
        "started": ("tool_invocation_started", 1, {**call, "idempotency_key": "ab" * 32}, [("args", b"{}")]),
        "committed": (
            "tool_invocation_finished",
            1,
            {**call, "duration_us": 1, "outcome": "success"},
            [("result", b"1")],
        ),
        "completed": ("job_completed", 0, {}, [("result", b"1")]),
        "plain": ("job_leased", 0, {"worker_id": "w1"}, []),
    }
    for kind in kinds:
        type_, step, data, bodies = shapes[kind]
        seq += 1
        event, line, leaf, cells = make_event(
            job=lease.job, seq=seq, prev=leaf, at=at, by="w1", epoch=lease.epoch, type=type_, step=step, data=data,
            bodies=bodies,
        )  # fmt: skip
        made.lines.append(line)
        made.leaves.append(leaf)
        made.cells.extend(cells)
        if (transition := transition_of(event)) is not None:
            made.ledger.append(transition)
        made.open_delta += {"started": 1, "committed": -1}.get(kind, 0)
        if kind == "completed":
            made.status, made.release = JobStatus.COMPLETED, True
    return made


def test_a_step_is_written_whole_and_moves_the_head(database: Database) -> None:
    """Events, cells and ledger of a step stand or fall together."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            written = batch(lease, "started", "committed")
            assert await append(d.connection, "w1", [written]) == {}
            assert await d.rows(lease) == (3, 2, 2)
            assert (await heads(d.connection, [lease.key]))[lease.key] == (3, written.leaves[-1], lease.epoch)

    asyncio.run(work())


def test_a_stale_epoch_writes_nothing_and_is_lost(database: Database) -> None:
    """A worker paused past its lease must not add a line to the record of the one that took over."""

    async def work() -> None:
        async with desk(database) as d:
            old = (await d.lease(seconds=0.01))[0]
            await asyncio.sleep(0.05)
            new = (await d.claim("w2"))[0]
            assert new.epoch == old.epoch + 1
            assert new.taken_from == "w1"
            refused = await append(d.connection, "w1", [batch(old, "started")])
            assert isinstance(refused[old.key], Lost)
            assert await d.rows(old) == (1, 0, 0)

    asyncio.run(work())


def test_a_lease_lost_while_the_append_waits_for_the_row_is_lost(database: Database) -> None:
    """The statement still sees the row as it was before it waited: the reason is read anew."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            taker = await psycopg.AsyncConnection.connect(database.admin_dsn)
            async with taker:
                await taker.execute("UPDATE aetheris.jobs SET lease_epoch = lease_epoch + 1")
                appending = asyncio.create_task(append(d.connection, "w1", [batch(lease, "plain")]))
                async with await psycopg.AsyncConnection.connect(database.admin_dsn, autocommit=True) as watch:
                    while not await (
                        await watch.execute(
                            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                            " AND datname = current_database()"
                        )
                    ).fetchone():
                        await asyncio.sleep(0.01)
                await taker.commit()
                assert isinstance((await appending)[lease.key], Lost)

    asyncio.run(work())


def test_a_lease_that_ran_out_writes_nothing_even_if_nobody_took_over(database: Database) -> None:
    """The lease's end is the database's to judge, not the holder's."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease(seconds=0.01))[0]
            await asyncio.sleep(0.05)
            refused = await append(d.connection, "w1", [batch(lease, "plain")])
            assert isinstance(refused[lease.key], Lost)

    asyncio.run(work())


def test_a_moved_head_is_a_conflict(database: Database) -> None:
    """A second writer under one epoch is a bug, and is reported as such."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            assert await append(d.connection, "w1", [batch(lease, "plain")]) == {}
            refused = await append(d.connection, "w1", [batch(lease, "started")])
            assert isinstance(refused[lease.key], Conflict)
            assert await d.rows(lease) == (2, 0, 0)

    asyncio.run(work())


def test_one_jobs_refusal_does_not_touch_the_others_of_its_commit(database: Database) -> None:
    """Many jobs ride one transaction; what one did wrong is its own affair."""

    async def work() -> None:
        async with desk(database) as d:
            good, stale, ended = await d.lease(3)
            assert await append(d.connection, "w1", [batch(ended, "completed")]) == {}
            late = Lease(**{**{f: getattr(stale, f) for f in Lease.__dataclass_fields__}, "epoch": 99})
            refused = await append(
                d.connection, "w1", [batch(good, "started"), batch(late, "plain"), batch(ended, "plain")]
            )
            assert set(refused) == {stale.key, ended.key}
            assert isinstance(refused[stale.key], Lost)
            assert isinstance(refused[ended.key], Lost | Refused)
            assert await d.rows(good) == (2, 1, 1)

    asyncio.run(work())


def test_a_job_with_a_call_in_doubt_can_not_end(database: Database) -> None:
    """Terminal in doubt would hide the doubt for ever."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            refused = await append(d.connection, "w1", [batch(lease, "started", "completed")])
            assert "not known" in str(refused[lease.key])
            assert await d.rows(lease) == (1, 0, 0)

    asyncio.run(work())


def test_an_event_from_the_future_is_refused(database: Database) -> None:
    """A worker whose clock is an hour ahead must not date the record."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            refused = await append(d.connection, "w1", [batch(lease, "plain", at=4_000_000_000_000_000)])
            assert "ahead of the database" in str(refused[lease.key])

    asyncio.run(work())


def test_a_terminal_job_takes_no_event_whoever_writes(database: Database) -> None:
    """The database itself holds the end: raw SQL past the append is refused by a trigger."""

    async def work() -> None:
        async with desk(database) as d:
            lease = (await d.lease())[0]
            assert await append(d.connection, "w1", [batch(lease, "completed")]) == {}
            with pytest.raises(psycopg.Error, match="has ended"):
                await d.connection.execute(
                    "UPDATE aetheris.jobs SET head_seq = head_seq + 1 WHERE job_id = %s", [lease.job]
                )
            with pytest.raises(psycopg.Error, match="lies beyond its head"):
                await d.connection.execute(
                    "INSERT INTO aetheris.job_events (tenant_id, job_id, seq, leaf, line) VALUES (%s, %s, 3, '', '{}')",
                    [lease.tenant, lease.job],
                )

    asyncio.run(work())


def test_appends_in_any_order_never_deadlock(database: Database) -> None:
    """Two loops that locked job rows as they came deadlocked many times in seconds; ordered locks never do."""

    async def work() -> None:
        async with desk(database) as d, await database.connect("worker") as second:
            held = await d.lease(20)
            stop = asyncio.get_running_loop().time() + 2.0

            async def loop(connection: Connection, seed: int) -> int:
                shuffle, rounds = random.Random(seed), 0
                while asyncio.get_running_loop().time() < stop:
                    some = shuffle.sample(held, 12)
                    # Wrong heads on purpose: the rows are locked all the same.
                    await append(connection, "w1", [batch(x, "plain") for x in some])
                    beat = [(x.tenant, x.job, x.epoch) for x in shuffle.sample(held, 12)]
                    await leases.heartbeat(connection, "w1", beat, 30)
                    rounds += 1
                return rounds

            rounds = await asyncio.gather(loop(d.connection, 1), loop(second, 2))
            assert min(rounds) > 20

    asyncio.run(work())


def test_a_poisoned_row_is_one_error_and_writes_nothing(database: Database) -> None:
    """The journal sends such a batch again job by job; this is what it relies on."""

    async def work() -> None:
        async with desk(database) as d:
            good, bad = await d.lease(2)
            poison = batch(bad, "plain")
            poison.cells = [Cell(2, "x", b"s" * 32, b"\x00")]
            with pytest.raises(Refused):
                await append(d.connection, "w1", [batch(good, "plain"), poison])
            assert await d.rows(good) == (1, 0, 0)

    asyncio.run(work())
