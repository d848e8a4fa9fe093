"""Migrations: numbered SQL files, applied in order, once, under an advisory lock.

They are the only thing that runs with more than a role's rights. Each is on
record with the digest of its text. A schema that is newer than the code, has a
gap, or was made by other texts is refused, never touched.
"""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg import errors as pg
from psycopg.rows import dict_row

from aetheris.domain.errors import Unusable
from aetheris.store.database import CONNECT_SECONDS, Database, unreachable
from aetheris.store.errors import translated

_LOCK = 0x6165746865726973  # "aetheris"
_ADD_DIGESTS = "ALTER TABLE aetheris.schema_migrations ADD COLUMN IF NOT EXISTS sha256 text"
ROLES = ("aetheris_owner", "aetheris_app", "aetheris_worker", "aetheris_mirror", "aetheris_keeper")


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) of every migration that ships, in order."""
    folder = files("aetheris.store") / "sql" / "migrations"
    found = sorted((f.name, f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name[:4]), name[5:-4], text) for name, text in found]


def digest(text: str) -> str:
    """Return the SHA-256 that a migration is on record with, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


async def migrate(database: Database) -> list[str]:
    """Bring the database to this code's schema and return what was applied.

    Creates roles and schema when missing. Safe to run from many processes at
    once. Errors: Unusable for a newer schema or another's, Unreachable, Denied.
    """
    try:
        connection = await AsyncConnection.connect(
            database.admin_dsn, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
        )
    except psycopg.OperationalError as error:
        raise unreachable(error, database.where) from None
    async with connection:
        with translated(database.where):
            found = await _recorded(connection)
            if found is not None and len(found) == len(migrations()):
                # Nothing is to be done: no lock is taken and no right is needed.
                if None in found.values():
                    await _fill_in(connection)
                return []
            await _check_encoding(connection)
            await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            return await _apply(connection, login=database.embedded is not None)


async def _recorded(connection: AsyncConnection[dict[str, Any]]) -> dict[int, str | None] | None:
    """Return the digest of every migration on record, None for one from before digests were; None without a schema.

    Held to what ships: a schema that another release or build made is not touched. No right is needed for it.
    Errors: Unusable.
    """
    cursor = await connection.execute("SELECT to_regclass('aetheris.schema_migrations') IS NOT NULL AS there")
    row = await cursor.fetchone()
    if row is None or not row["there"]:
        return None
    # As JSON: an older store has no such column.
    cursor = await connection.execute(
        "SELECT number, to_jsonb(m) ->> 'sha256' AS sha256 FROM aetheris.schema_migrations m"
    )
    found = {r["number"]: r["sha256"] async for r in cursor}
    newest, ours = max(found, default=0), migrations()
    if newest > ours[-1][0]:
        raise Unusable(
            f"the database's schema is version {newest}, newer than this Aetheris knows ({ours[-1][0]}): "
            "use the newer release"
        )
    for number, name, text in ours:
        if number not in found and number < newest:
            raise Unusable(
                f"the database lacks migration {number:04} {name}, and has later ones: its schema is not whole; "
                "restore a backup from before that"
            )
        if found.get(number) not in (None, digest(text)):
            raise Unusable(
                f"the database's migration {number:04} {name} is not this release's (SHA-256 {found[number]:.12}, "
                f"here {digest(text):.12}): another build made this schema; use that build"
            )
    return found


async def _fill_in(connection: AsyncConnection[dict[str, Any]]) -> None:
    """Note that an older store's migrations are taken to be ours. Who may not, or can't now, leaves it to another."""
    try:
        async with connection.transaction():
            # A dump under way reads the table until it is through: no start waits for that.
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute("SET LOCAL ROLE aetheris_owner")
            await connection.execute(_ADD_DIGESTS)
            for number, _, text in migrations():
                await connection.execute(
                    "UPDATE aetheris.schema_migrations SET sha256 = %s WHERE number = %s AND sha256 IS NULL",
                    [digest(text), number],
                )
    except (pg.InsufficientPrivilege, pg.InvalidParameterValue, pg.LockNotAvailable, pg.ReadOnlySqlTransaction):
        pass


async def _apply(connection: AsyncConnection[dict[str, Any]], *, login: bool) -> list[str]:
    async with connection.transaction():
        await _create_roles(connection, login=login)
    found = await _recorded(connection) or {}  # again: another may have migrated before the lock was ours
    if None in found.values():
        await _fill_in(connection)
    applied = []
    for number, name, text in migrations():
        if number not in found:
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE aetheris_owner")
                await connection.execute("SET LOCAL search_path = aetheris, pg_temp")
                await connection.execute(text.encode())
                await connection.execute(
                    "INSERT INTO aetheris.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                    [number, name, digest(text)],
                )
            applied.append(f"{number:04} {name}")
    await _ensure_keys(connection)
    return applied


async def _create_roles(connection: AsyncConnection[dict[str, Any]], *, login: bool) -> None:
    # The advisory lock is per database, roles are per server: a second database's
    # migration may create one between our look and our CREATE.
    for role in ROLES:
        cursor = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        if await cursor.fetchone() is None:
            how = "LOGIN" if login and role != "aetheris_owner" else "NOLOGIN"
            try:
                async with connection.transaction():
                    await connection.execute(f"CREATE ROLE {role} NOSUPERUSER NOBYPASSRLS NOINHERIT {how}".encode())
            except psycopg.errors.DuplicateObject:
                continue
        if not login:
            await connection.execute(f"GRANT {role} TO CURRENT_USER".encode())
    cursor = await connection.execute("SELECT current_database() AS name")
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(
        sql.SQL("GRANT CREATE ON DATABASE {} TO aetheris_owner").format(sql.Identifier(row["name"]))
    )
    await connection.execute("CREATE SCHEMA IF NOT EXISTS aetheris AUTHORIZATION aetheris_owner")
    await connection.execute("SET LOCAL ROLE aetheris_owner")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS aetheris.schema_migrations ("
        " number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute(_ADD_DIGESTS)
    await connection.execute(
        "GRANT SELECT ON aetheris.schema_migrations TO aetheris_app, aetheris_worker, aetheris_mirror, aetheris_keeper"
    )


async def _ensure_keys(connection: AsyncConnection[dict[str, Any]]) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE aetheris_owner")
        for kind in ("job_id", "snapshot"):
            await connection.execute(
                "INSERT INTO aetheris.deployment_keys (kind, key_id, secret)"
                " SELECT %s, 1, %s WHERE NOT EXISTS (SELECT FROM aetheris.deployment_keys WHERE kind = %s)",
                [kind, os.urandom(32), kind],
            )


async def _check_encoding(connection: AsyncConnection[dict[str, Any]]) -> None:
    cursor = await connection.execute("SELECT current_setting('server_encoding') AS encoding")
    row = await cursor.fetchone()
    if row is None or row["encoding"] != "UTF8":
        raise Unusable("the database's encoding is not UTF8: event lines are kept byte for byte; create it with UTF8")
