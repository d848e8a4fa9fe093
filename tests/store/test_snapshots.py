"""Snapshots over a real PostgreSQL: who takes them, who may write them, and what they save."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.domain.errors import Conflict, Lost, Refused
from aetheris.domain.fold import fold, loads
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.config import Snapshots
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.runtime.snapshots import Snapshotter, take_asked
from aetheris.store import snapshots
from aetheris.store.database import Connection, Database
from tests.store.job_support import at_rest, crash, ended, run
from tests.store.snapshot_support import (
    EFFECTS,
    OTHER_WORDS,
    QUIET,
    nothing_paid,  # noqa: F401  for every test of this module
    pay,
    payer,
    resting,
    stored,
)

ASKED = Snapshots(event_threshold=1)


@ae.agent
async def counter(ctx: ae.Context, done: int) -> int:
    """A resume point every ten calls."""
    while done < 30:
        for n in range(10):
            await ctx.call(pay, n=done + n)
        done += 10
        await ctx.checkpoint(done)
    await ctx.wait_signal("go")
    return done


def test_a_job_goes_on_from_its_snapshot_and_does_nothing_twice(database: Database) -> None:
    """What a snapshot is for: the next worker reads it and the tail, in one statement, and the result is the same."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            taken = await take_asked(connection, key, Snapshots(), 30)
            head = (await system.find(key[1])).head_seq
            assert taken is not None
            assert taken.seq == head
            assert await take_asked(connection, key, Snapshots(), 30) is None  # there is one as it stands
            builder = ReplayContextBuilder(await snapshots.snapshot_keys(connection))
            context = (await builder.build(connection, [key], [0]))[key]
            assert builder.statements == 1
            assert context.packed is not None
            assert len(context.record.lines) == 2
            await system.operator.signal(key[1], "go", 100)
            await system.start_worker([payer], QUIET)
            record = await ended(system, key[1])
            assert record.result() == [0, 2, 4, 6, 8, 100, 10, 12, 14, 16, 18]
            assert list(range(10)) == EFFECTS

    run(work)


def test_other_arguments_than_those_in_a_snapshot_are_found(database: Database) -> None:
    """A snapshot holds no salts; that must not make a replay from it any less strict."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            await take_asked(connection, key, Snapshots(), 30)
            await system.operator.signal(key[1], "go")
            OTHER_WORDS.append("other")
            await system.start_worker([payer], QUIET)
            record = await at_rest(system, key[1], "other code")
            assert "other arguments" in record.events[-1].data["reason"]
            assert list(range(5)) == EFFECTS

    run(work)


def test_the_timer_takes_snapshots_of_jobs_in_hand_and_at_rest_without_disturbing_them(database: Database) -> None:
    """A running job is the one that will need it; its holder must not notice."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            settings = Snapshots(event_threshold=8)
            worker = await system.start_worker([payer], QUIET)
            rests = await system.submit(payer, 5)
            short = await system.submit(payer, 1)
            await asyncio.gather(at_rest(system, rests, "signal go"), at_rest(system, short, "signal go"))
            held = await system.submit(payer, 100)
            while (row := await system.find(held)).head_seq < 40:
                await asyncio.sleep(0.01)
            taken = await Snapshotter(settings, within_seconds=30).round(connection)
            assert {t.key[1] for t in taken} == {rests, held}
            again = await Snapshotter(settings, within_seconds=30).round(connection)
            assert rests not in {t.key[1] for t in again}  # not due any more
            await system.operator.signal(held, "go")
            record = await ended(system, held)
            assert (record.row.epoch, record.row.status) == (row.epoch, JobStatus.COMPLETED)
            assert worker.counts.ended.get("lost") is None
            assert await stored(connection, (system.tenant, short)) == []
            await crash(system, worker)

    run(work)


@pytest.mark.parametrize(
    ("agent", "value", "settings", "kind"),
    [
        (payer, 30, Snapshots(interval=0.1, event_threshold=15, keep_latest=2), "timer"),
        (counter, 0, Snapshots(event_threshold=15), "checkpoint"),
    ],
    ids=["timer", "checkpoint"],
)
def test_a_worker_takes_snapshots_by_itself(
    database: Database, agent: ae.Agent, value: int, settings: Snapshots, kind: str
) -> None:
    """By the clock, and soon after a checkpoint: nobody has to remember to."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            await system.start_worker([agent], ae.Settings(poll_seconds=0.1, snapshot=settings))
            key = system.tenant, await system.submit(agent, value)
            while not (found := await snapshots.folds(connection, key)):
                await asyncio.sleep(0.02)
            assert {f.kind for f in found} == {kind}
            assert len(found) <= settings.keep_latest
            await system.operator.signal(key[1], "go")
            await ended(system, key[1])

    run(work)


def test_a_snapshots_fold_is_the_fold_of_its_events_wherever_it_fell(database: Database) -> None:
    """Built each on the last one, across a checkpoint."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            worker = await system.start_worker([counter], QUIET)
            key = system.tenant, await system.submit(counter, 0)
            keep = Snapshots(keep_latest=100)
            while (await system.find(key[1])).waits_for == "":
                with contextlib.suppress(Lost):  # the worker claimed it just then
                    await take_asked(connection, key, keep, 30)
            await at_rest(system, key[1], "signal go")
            await take_asked(connection, key, keep, 30)
            record = await system.record(key[1])
            folds = await snapshots.folds(connection, key)
            assert len(folds) > 1
            for found in folds:
                assert loads(found.body) == fold(record.events[: found.place.seq])
            await crash(system, worker)

    run(work)


def test_only_one_worker_takes_a_given_one(database: Database) -> None:
    """Work is not done twice, and nobody waits for it."""

    async def work() -> None:
        async with (
            ae.AsyncSystem(database=database) as system,
            await database.connect("worker") as one,
            await database.connect("worker") as two,
        ):
            key = await resting(system)
            async with snapshots.taking(one, key, 30) as standing:
                assert standing is not None
                assert await Snapshotter(ASKED, within_seconds=30).round(two) == []
                with pytest.raises(Conflict, match="just now"):
                    await take_asked(two, key, ASKED, 30)
            both = await asyncio.gather(*(Snapshotter(ASKED, within_seconds=30).round(c) for c in (one, two)))
            assert sum(map(len, both)) == 1

    run(work)


async def _nothing(connection: Connection, database: Database) -> None:
    await asyncio.sleep(0)


async def _silence(connection: Connection, database: Database) -> None:
    await asyncio.sleep(0.8)


async def _another_holder(connection: Connection, database: Database) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as superuser:
        superuser.execute("UPDATE aetheris.jobs SET lease_epoch = lease_epoch + 1")


async def _late_but_talking(connection: Connection, database: Database) -> None:
    for _ in range(8):
        await connection.execute("SELECT 1")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("meanwhile", "written"),
    [(_nothing, True), (_silence, False), (_another_holder, False), (_late_but_talking, False)],
    ids=["in time", "silent for a lease", "another holder", "late"],
)
def test_who_is_late_or_overtaken_writes_no_snapshot(
    database: Database, meanwhile: Callable[[Connection, Database], Any], written: bool
) -> None:
    """A worker paused past its lease can write nothing, a snapshot as little as an event."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            key = await resting(system)
            connection = await database.connect("worker")
            taker = _Slow(Snapshots(), within_seconds=0.5)
            taker.meanwhile = lambda: meanwhile(connection, database)
            if written:
                assert await taker.take(connection, key, "asked") is not None
            else:
                with pytest.raises(Lost):
                    await taker.take(connection, key, "asked")
            await connection.close()
            async with await database.connect("worker") as other:
                assert bool(await stored(other, key)) is written

    run(work)


class _Slow(Snapshotter):
    """One that something happens to between reading and writing."""

    meanwhile: Callable[[], Any]

    async def _read(self, *args: Any) -> Any:
        read = await super()._read(*args)
        await self.meanwhile()
        return read


def test_an_erasure_drops_every_snapshot_of_the_job(database: Database) -> None:
    """They hold bodies; the next one is made from what is left."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key, other = await resting(system), await resting(system)
            for each in (key, other):
                await take_asked(connection, each, Snapshots(), 30)
            assert await snapshots.delete_all(connection, *key) == 1
            assert (await stored(connection, key), len(await stored(connection, other))) == ([], 1)

    run(work)


def test_an_erasure_waits_for_who_has_read_the_body_before(database: Database) -> None:
    """Or a snapshot written a moment later would bring back what was erased."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            other = await database.connect("worker")
            taker = _Slow(Snapshots(), within_seconds=30)
            erased = asyncio.Event()

            async def erase() -> None:
                async with other.transaction():
                    assert await snapshots.delete_all(other, *key) == 1
                    # Nobody takes one until the erasure is done.
                    assert await Snapshotter(ASKED, within_seconds=30).take(connection, key, "timer") is None
                erased.set()

            erasing: list[asyncio.Task[None]] = []

            async def meanwhile() -> None:
                erasing.append(asyncio.create_task(erase()))
                await _blocked(database)
                assert not erased.is_set()

            taker.meanwhile = meanwhile
            assert await taker.take(connection, key, "timer") is not None
            await erasing[0]
            assert await stored(connection, key) == []
            await other.close()

    run(work)


async def _blocked(database: Database) -> None:
    """Return once somebody waits for an advisory lock."""
    async with await psycopg.AsyncConnection.connect(database.admin_dsn, autocommit=True) as superuser:
        while True:
            cursor = await superuser.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if await cursor.fetchone():
                return
            await asyncio.sleep(0.01)


def test_the_rest_of_a_round_is_taken_when_one_job_changes_hands(database: Database) -> None:
    """One job that a worker takes over just then is no reason to leave the others without."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            keys = [await resting(system) for _ in range(3)]
            taker = _Slow(ASKED, within_seconds=30)
            rounds: list[int] = []

            async def meanwhile() -> None:
                rounds.append(1)
                if len(rounds) == 1:
                    await _another_holder(connection, database)

            taker.meanwhile = meanwhile
            assert len(await taker.round(connection)) == 2
            assert sorted([len(await stored(connection, key)) for key in keys]) == [0, 1, 1]

    run(work)


def test_a_job_that_has_ended_needs_no_snapshot(database: Database) -> None:
    """Nothing will ever replay it to go on."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            await system.operator.signal(key[1], "go")
            await system.start_worker([payer], QUIET)
            await ended(system, key[1])
            with pytest.raises(Refused, match="has ended"):
                await take_asked(connection, key, Snapshots(), 30)
            assert await snapshots.due(connection, 1, 10) == []

    run(work)
