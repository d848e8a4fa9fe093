"""The deployment's keys: made anew, never removed. What an old key made verifies for ever."""

from __future__ import annotations

import os

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from aetheris.domain.errors import Refused
from aetheris.store.database import CONNECT_SECONDS, Database, unreachable
from aetheris.store.errors import translated

KINDS = ("job_id", "snapshot")
MOST = 255


async def rotate(database: Database, kind: str) -> int:
    """Make a new key of this kind the one in use, and return its number.

    Acts as owner, with the rights of the connection string, as a migration does. Running processes learn of it
    within half a minute. Errors: Refused when there are 255 of them; Denied, Unreachable.
    """
    if kind not in KINDS:
        raise Refused(f"no keys of kind {kind!r}; there are {', '.join(KINDS)}")
    try:
        connection = await AsyncConnection.connect(
            database.admin_dsn, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
        )
    except psycopg.OperationalError as error:
        raise unreachable(error, database.where) from None
    async with connection:
        with translated(database.where):
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE aetheris_owner")
                await connection.execute("LOCK TABLE aetheris.deployment_keys IN SHARE ROW EXCLUSIVE MODE")
                cursor = await connection.execute(
                    "SELECT coalesce(max(key_id), 0) AS newest FROM aetheris.deployment_keys WHERE kind = %s", [kind]
                )
                row = await cursor.fetchone()
                newest = int(row["newest"]) if row else 0
                if newest >= MOST:
                    raise Refused(f"{MOST} keys of kind {kind} are there, and no more fit into an id")
                await connection.execute(
                    "INSERT INTO aetheris.deployment_keys (kind, key_id, secret) VALUES (%s, %s, %s)",
                    [kind, newest + 1, os.urandom(32)],
                )
                return newest + 1
