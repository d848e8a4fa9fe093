"""Migrations: numbered SQL files, applied in order, once, under an advisory lock.

They are the only thing that runs with more than a role's rights. A schema
newer than the code is refused, never touched.
"""

from __future__ import annotations

import os
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from aetheris.domain.errors import Unusable
from aetheris.store.database import CONNECT_SECONDS, Database, unreachable
from aetheris.store.errors import translated

_LOCK = 0x6165746865726973  # "aetheris"
ROLES = ("aetheris_owner", "aetheris_app", "aetheris_worker", "aetheris_mirror", "aetheris_keeper")


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) of every migration that ships, in order."""
    folder = files("aetheris.store") / "sql" / "migrations"
    found = sorted((f.name, f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name[:4]), name[5:-4], text) for name, text in found]


async def migrate(database: Database) -> list[str]:
    """Bring the database to this code's schema and return what was applied.

    Creates roles and schema when missing. Safe to run from many processes at
    once. Errors: Unusable for a newer schema, Unreachable, Denied.
    """
    try:
        connection = await AsyncConnection.connect(
            database.admin_dsn, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
        )
    except psycopg.OperationalError as error:
        raise unreachable(error, database.where) from None
    async with connection:
        with translated(database.where):
            if await _is_current(connection):
                return []
            await _check_encoding(connection)
            await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            return await _apply(connection, login=database.embedded is not None)


async def _is_current(connection: AsyncConnection[dict[str, Any]]) -> bool:
    """Return whether nothing is to be done: then no lock is taken and no right is needed."""
    cursor = await connection.execute("SELECT to_regclass('aetheris.schema_migrations') IS NOT NULL AS there")
    row = await cursor.fetchone()
    if row is None or not row["there"]:
        return False
    cursor = await connection.execute("SELECT max(number) AS newest FROM aetheris.schema_migrations")
    row = await cursor.fetchone()
    return row is not None and row["newest"] == migrations()[-1][0]


async def _apply(connection: AsyncConnection[dict[str, Any]], *, login: bool) -> list[str]:
    async with connection.transaction():
        await _create_roles(connection, login=login)
    cursor = await connection.execute("SELECT coalesce(max(number), 0) AS newest FROM aetheris.schema_migrations")
    row = await cursor.fetchone()
    newest = row["newest"] if row else 0
    known = migrations()
    if newest > known[-1][0]:
        raise Unusable(
            f"the database's schema is version {newest}, newer than this Aetheris knows ({known[-1][0]}): "
            "use the newer release"
        )
    applied = []
    for number, name, text in known:
        if number > newest:
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE aetheris_owner")
                await connection.execute("SET LOCAL search_path = aetheris, pg_temp")
                await connection.execute(text.encode())
                await connection.execute(
                    "INSERT INTO aetheris.schema_migrations (number, name) VALUES (%s, %s)", [number, name]
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
