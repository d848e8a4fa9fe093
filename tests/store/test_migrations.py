"""What a store's migrations are held to: a schema that this code's texts did not make is not touched."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import psycopg
import pytest

from aetheris.domain.errors import Unusable
from aetheris.store.database import Database
from aetheris.store.migrate import migrate, migrations

TEXTS = {number: hashlib.sha256(text.encode()).hexdigest() for number, _, text in migrations()}


def admin(database: Database, statement: str) -> list[Any]:
    """Run a statement past all walls; return its rows."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def recorded(database: Database) -> dict[int, str | None]:
    """Number and digest of each migration on record."""
    return dict(admin(database, "SELECT number, sha256 FROM aetheris.schema_migrations"))


def test_a_new_store_has_the_digest_of_every_migration_on_record(database: Database) -> None:
    """The number alone says nothing of what was run."""
    assert recorded(database) == TEXTS
    assert asyncio.run(migrate(database)) == []


def test_an_older_store_is_taken_as_it_is_and_gets_its_digests(database: Database) -> None:
    """By whoever may; a process's own login goes on without, and nobody waits for a dump under way."""
    admin(database, "ALTER TABLE aetheris.schema_migrations DROP COLUMN sha256")
    admin(database, "CREATE ROLE some_worker LOGIN PASSWORD 'x' IN ROLE aetheris_app, aetheris_worker")
    try:
        theirs = Database(psycopg.conninfo.make_conninfo(database.admin_dsn, user="some_worker", password="x"))
        assert asyncio.run(migrate(theirs)) == []
        with psycopg.connect(database.admin_dsn) as dump:
            dump.execute("SELECT FROM aetheris.schema_migrations")
            assert asyncio.run(migrate(database)) == []
    finally:
        admin(database, "DROP ROLE some_worker")
    assert asyncio.run(migrate(database)) == []
    assert recorded(database) == TEXTS


def test_an_older_store_that_is_behind_gets_its_digests_with_the_next_migration(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of before and the new one alike."""
    admin(database, "ALTER TABLE aetheris.schema_migrations DROP COLUMN sha256")
    added = (max(TEXTS) + 1, "added", "CREATE TABLE added (n integer)")
    monkeypatch.setattr("aetheris.store.migrate.migrations", lambda: [*migrations(), added])
    assert asyncio.run(migrate(database)) == [f"{added[0]:04} added"]
    assert recorded(database) == {**TEXTS, added[0]: hashlib.sha256(added[2].encode()).hexdigest()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE aetheris.schema_migrations SET sha256 = repeat('0', 64) WHERE number = 2", "migration 0002 lake_cat"),
        ("DELETE FROM aetheris.schema_migrations WHERE number = 2", "lacks migration 0002 lake_catalog"),
        ("INSERT INTO aetheris.schema_migrations VALUES (9999, 'later')", "newer than this Aetheris knows"),
    ],
)
def test_a_schema_that_is_not_ours_is_refused_and_not_touched(database: Database, change: str, told: str) -> None:
    """A gap under the newest number passed for a whole schema, and so did another build's."""
    admin(database, change)
    before = recorded(database)
    with pytest.raises(Unusable, match=told):
        asyncio.run(migrate(database))
    assert recorded(database) == before
