"""Tenants: whether they may be spoken for."""

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


async def tenant(connection: Connection, name: str) -> Tenant | None:
    """Return the tenant's row, or None."""
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, name, status, created_at FROM aetheris.tenants WHERE tenant_id = %s", [name]
        )
        row = await cursor.fetchone()
    return None if row is None else Tenant(row["tenant_id"], row["name"], row["status"], row["created_at"])
