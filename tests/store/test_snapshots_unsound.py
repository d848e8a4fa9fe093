"""What a wrong snapshot can do: nothing. It is passed over, reported and replaced, and a broken record gets none."""

from __future__ import annotations

import asyncio
import logging

import psycopg
import pytest

import aetheris as ae
from aetheris.domain.errors import Corrupt
from aetheris.runtime.config import Snapshots
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.runtime.snapshots import take_asked
from aetheris.store import snapshots
from aetheris.store.database import Database
from tests.store.job_support import crash, ended, run
from tests.store.snapshot_support import (
    EFFECTS,
    QUIET,
    nothing_paid,  # noqa: F401  for every test of this module
    payer,
    resting,
    stored,
)

TAMPERED: dict[str, str] = {
    "packed edited": "packed = overlay(packed placing '\\x00' from 20)",
    "packed cut": "packed = substr(packed, 1, length(packed) / 2)",
    "packed empty": "packed = ''",
    "leaf of another event": "leaf = sha256('x')",
    "a newer version": "version = 2",
    "an unknown key": "key_id = 9",
    "HMAC edited": "packed_mac = sha256('x')",
    "moved to an earlier event": "seq = seq - 1",
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_an_unsound_snapshot_is_passed_over_reported_and_replay_is_right(
    database: Database, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can write to the database must not be able to change what a job believes has happened."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            await take_asked(connection, key, Snapshots(), 30)
            assert await snapshots.newest_sound(connection, key) > 0
            assert await snapshots.look(connection, 100) == (1, [])
            _tamper(database, change)
            assert await snapshots.newest_sound(connection, key) == 0
            count, unsound = await snapshots.look(connection, 100)
            assert count == 1
            assert unsound[0][0] == key
            assert unsound[0][2]
            await system.operator.signal(key[1], "go", 100)
            with caplog.at_level(logging.ERROR):
                await system.start_worker([payer], QUIET)
                record = await ended(system, key[1])
            assert "the snapshot at event" in caplog.text
            assert "is passed over: its" in caplog.text or "is passed over: it does not" in caplog.text
            assert record.result() == [0, 2, 4, 6, 8, 100, 10, 12, 14, 16, 18]
            assert list(range(10)) == EFFECTS

    run(work)


def _tamper(database: Database, change: str) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as superuser:
        superuser.execute(f"UPDATE aetheris.job_snapshots SET {change}".encode())


def test_another_jobs_snapshot_is_passed_over_and_an_older_own_one_serves(database: Database) -> None:
    """Put in place by someone who knows SQL; what is older and sound still saves its events."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key, other = await resting(system), await resting(system)
            taken = await take_asked(connection, key, Snapshots(), 30)
            assert taken is not None
            await take_asked(connection, other, Snapshots(), 30)
            await system.operator.signal(key[1], "x")
            worker = await system.start_worker([payer], QUIET)
            while (row := await system.find(key[1])).head_seq < taken.seq + 2 or row.lease_owner:
                await asyncio.sleep(0.02)
            await crash(system, worker)
            with psycopg.connect(database.admin_dsn, autocommit=True) as superuser:
                superuser.execute(
                    "INSERT INTO aetheris.job_snapshots"
                    " (tenant_id, job_id, seq, kind, version, leaf, body, mac, key_id, packed, packed_mac)"
                    " SELECT tenant_id, %s, seq + 1, kind, version, leaf, body, mac, key_id, packed, packed_mac"
                    " FROM aetheris.job_snapshots WHERE job_id = %s",
                    [key[1], other[1]],
                )
            assert await snapshots.newest_sound(connection, key) == taken.seq
            builder = ReplayContextBuilder(await snapshots.snapshot_keys(connection))
            context = (await builder.build(connection, [key], [0]))[key]
            assert context.packed is not None
            assert context.packed.seq == taken.seq
            assert builder.statements == 2

    run(work)


def test_a_new_snapshot_replaces_one_that_is_not_sound(database: Database) -> None:
    """It is built from the events, never on what can't be trusted."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            await take_asked(connection, key, Snapshots(), 30)
            for change in ("body = overlay(body placing '9' from 20)", "packed = ''"):
                _tamper(database, change)
                taken = await take_asked(connection, key, Snapshots(), 30)
                assert taken is not None
                assert taken.seq == taken.events
                assert await snapshots.look(connection, 10) == (1, [])

    run(work)


def test_a_broken_record_gets_no_snapshot(database: Database) -> None:
    """A snapshot must not make an edited result look recorded."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            key = await resting(system)
            with psycopg.connect(database.admin_dsn, autocommit=True) as superuser:
                superuser.execute("UPDATE aetheris.cells SET body = '999' WHERE name = 'result' AND body = '8'")
            with pytest.raises(Corrupt, match="not what it committed to"):
                await take_asked(connection, key, Snapshots(), 30)
            assert await stored(connection, key) == []

    run(work)
