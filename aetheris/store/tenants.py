"""Tenants: whether they may be spoken for, and what became of a job that was collected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aetheris.store.database import Connection
from aetheris.store.errors import translated


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's row."""

    id: str
    name: str
    status: str  # active, suspended, removed
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What stays in the store of a job whose rows were collected."""

    job: str
    agent: str
    events: int
    deleted_by: str
    reason: str
    archive_ref: str
    deleted_at: datetime


async def tenant(connection: Connection, name: str) -> Tenant | None:
    """Return the tenant's row, or None."""
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, name, status, created_at FROM aetheris.tenants WHERE tenant_id = %s", [name]
        )
        row = await cursor.fetchone()
    return None if row is None else Tenant(row["tenant_id"], row["name"], row["status"], row["created_at"])


async def tombstone(connection: Connection, name: str, job: str) -> Tombstone | None:
    """Return what is left of a collected job, or None."""
    with translated():
        cursor = await connection.execute(
            "SELECT job_id, agent, event_count, deleted_by, reason, archive_ref, recorded_at"
            " FROM aetheris.job_tombstones WHERE tenant_id = %s AND job_id = %s",
            [name, job],
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    return Tombstone(
        row["job_id"],
        row["agent"],
        row["event_count"],
        row["deleted_by"],
        row["reason"],
        row["archive_ref"],
        row["recorded_at"],
    )
