"""Legal holds, and finished jobs leaving the store: the keeper's statements.

Nothing leaves here by itself: the caller shows that a job is in the lake
(runtime/collection.py), and takes the locks, removes and tells in one
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import errors as pg
from psycopg import sql

from aetheris.domain.errors import Refused
from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.mirror_rows import SOURCES
from aetheris.store.statements import named

#: In the order in which they are removed; the job's own row goes last.
REMOVED = (
    "signals", "job_snapshots", "limit_waits", "lease_changes", "ledger", "cells", "job_events", "seals", "jobs",
)  # fmt: skip
_LOCK = 0x6165746867630001


@dataclass(frozen=True, slots=True)
class Due:
    """A finished job that may leave the store once it is shown to be in the lake."""

    tenant: str
    job: str
    created_at: datetime
    ended_at: datetime

    @property
    def key(self) -> JobKey:
        """(tenant, job)"""
        return self.tenant, self.job


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold, open while `released_at` is None."""

    tenant: str
    job: str
    placed_at: datetime
    placed_by: str
    reason: str
    released_at: datetime | None = None
    released_by: str | None = None


async def alone(connection: Connection) -> bool:
    """Return whether this connection is now the only one that collects; held until it closes."""
    with translated():
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS got", [_LOCK])
        row = await cursor.fetchone()
    return bool(row and row["got"])


async def incarnation(connection: Connection) -> str:
    """Return the store's own id, which the lake's watermark names."""
    with translated():
        cursor = await connection.execute("SELECT incarnation::text AS id FROM aetheris.store_identity")
        row = await cursor.fetchone()
    assert row is not None
    return str(row["id"])


async def tenants(connection: Connection) -> list[str]:
    """Return all tenants, in order."""
    with translated():
        cursor = await connection.execute("SELECT tenant_id FROM aetheris.tenants ORDER BY tenant_id")
        return [r["tenant_id"] async for r in cursor]


async def cutoff(connection: Connection, days: int, as_of: datetime | None = None) -> datetime:
    """Return the moment `days` before `as_of`, or before now by the database's clock."""
    with translated():
        cursor = await connection.execute(
            "SELECT coalesce(%s::timestamptz, clock_timestamp()) - %s * interval '1 day' AS before", [as_of, days]
        )
        row = await cursor.fetchone()
    assert row is not None
    found: datetime = row["before"]
    return found


async def survey(connection: Connection, before: datetime) -> dict[str, tuple[int, int]]:
    """Return (jobs, events) that are older than `before`, by what keeps or frees them."""
    with translated():
        cursor = await connection.execute(named("collect", "survey").encode(), {"before": before})
        return {r["standing"]: (r["jobs"], r["events"]) async for r in cursor}


async def due(
    connection: Connection, tenant: str, before: datetime, after: tuple[datetime, str], limit: int
) -> list[Due]:
    """Return up to `limit` jobs that may leave, oldest first, after (created_at, job)."""
    values = {"tenant": tenant, "before": before, "after_at": after[0], "after_job": after[1], "limit": limit}
    with translated():
        cursor = await connection.execute(named("collect", "due").encode(), values)
        return [Due(r["tenant_id"], r["job_id"], r["created_at"], r["updated_at"]) async for r in cursor]


async def lock(connection: Connection, keys: Sequence[JobKey]) -> list[JobKey]:
    """Lock those of the jobs that may still leave, and return them. Within a transaction.

    Holds are looked for once the locks are had: one that came while this waited
    is not in the first statement's view.
    """
    with translated():
        cursor = await connection.execute(named("collect", "lock").encode(), _columns(keys))
        locked = [(r["tenant_id"], r["job_id"]) async for r in cursor]
        cursor = await connection.execute(named("collect", "held").encode(), _columns(locked))
        held = {(r["tenant_id"], r["job_id"]) async for r in cursor}
    return [key for key in locked if key not in held]


async def keys_of(
    connection: Connection, table: str, columns: Sequence[str], keys: Sequence[JobKey]
) -> list[tuple[Any, ...]]:
    """Return these columns of the jobs' rows in a table that the lake mirrors (by the lake's name for it)."""
    query = sql.SQL(named("collect", "keys")).format(
        table=sql.Identifier(SOURCES[table]), columns=sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with translated():
        cursor = await connection.execute(query, _columns(keys))
        return [tuple(r[name] for name in columns) async for r in cursor]


async def remove(
    connection: Connection, keys: Sequence[JobKey], *, by: str, reason: str, days: int, archive: str
) -> dict[str, int]:
    """Bury the jobs and take their rows away, in the transaction that locked them; return how many of each table."""
    values = {**_columns(keys), "by": by, "reason": reason, "days": days, "archive": archive}
    removed: dict[str, int] = {}
    with translated():
        await connection.execute(named("collect", "bury").encode(), values)
        for table in REMOVED:
            query = sql.SQL(named("collect", "remove")).format(table=sql.Identifier(table))
            cursor = await connection.execute(query, values)
            removed[table] = cursor.rowcount
    return removed


async def vacuum(connection: Connection) -> bool:
    """Make the space of removed rows usable again; False where this role may not and autovacuum has to."""
    with translated():
        try:
            for table in REMOVED:
                await connection.execute(sql.SQL("VACUUM (ANALYZE) aetheris.{}").format(sql.Identifier(table)))
        except pg.InsufficientPrivilege:
            return False
    return connection.info.server_version >= 170_000


async def place_hold(connection: Connection, tenant: str, job: str, by: str, reason: str) -> bool:
    """Keep the job from collection and erasure; False when a hold is open already. Within a transaction."""
    with translated():
        cursor = await connection.execute(
            "INSERT INTO aetheris.legal_holds (tenant_id, job_id, placed_by, reason) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (tenant_id, job_id) WHERE released_at IS NULL DO NOTHING",
            [tenant, job, by, reason],
        )
        # Waits for a collection under way, which would not see the new row: then the job is gone.
        kept = await connection.execute(
            "SELECT FROM aetheris.jobs WHERE tenant_id = %s AND job_id = %s FOR NO KEY UPDATE", [tenant, job]
        )
        if cursor.rowcount and await kept.fetchone() is None and not await is_collected(connection, tenant, job):
            raise Refused(f"job {job[:8]} is not there: nothing is held")
    return cursor.rowcount == 1


async def release_hold(connection: Connection, tenant: str, job: str, by: str, reason: str) -> bool:
    """End the job's hold; False when none is open. Within a transaction."""
    with translated():
        cursor = await connection.execute(
            "UPDATE aetheris.legal_holds SET released_at = clock_timestamp(), released_by = %s, release_reason = %s"
            " WHERE tenant_id = %s AND job_id = %s AND released_at IS NULL",
            [by, reason, tenant, job],
        )
    return cursor.rowcount == 1


async def holds(connection: Connection, tenant: str, job: str | None = None) -> list[Hold]:
    """Return the tenant's open holds, or those of one job, oldest first."""
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, job_id, placed_at, placed_by, reason FROM aetheris.legal_holds"
            " WHERE tenant_id = %(tenant)s AND released_at IS NULL AND (%(job)s::text IS NULL OR job_id = %(job)s)"
            " ORDER BY placed_at, job_id",
            {"tenant": tenant, "job": job},
        )
        return [Hold(r["tenant_id"], r["job_id"], r["placed_at"], r["placed_by"], r["reason"]) async for r in cursor]


async def is_collected(connection: Connection, tenant: str, job: str) -> bool:
    """Return whether the job's rows left the store on record."""
    cursor = await connection.execute(
        "SELECT FROM aetheris.job_tombstones WHERE tenant_id = %s AND job_id = %s", [tenant, job]
    )
    return await cursor.fetchone() is not None


def _columns(keys: Sequence[JobKey]) -> dict[str, Any]:
    return {"tenants": arrays.text([k[0] for k in keys]), "jobs": arrays.text([k[1] for k in keys])}
