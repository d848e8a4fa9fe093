"""Support grants: whom a tenant lets in from another, as what, and until when. By the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aetheris.store.database import Connection
from aetheris.store.errors import translated

_COLUMNS = "grant_id::text AS id, guest_tenant, guest, role, reason, granted_by, granted_at, expires_at, revoked_at"


@dataclass(frozen=True, slots=True)
class Grant:
    """One guest's way in."""

    id: str
    guest_tenant: str
    guest: str
    role: str
    reason: str
    granted_by: str
    granted_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


async def grant(
    connection: Connection, tenant: str, *, guest_tenant: str, guest: str, role: str, reason: str, by: str, minutes: int
) -> Grant:
    """Let `guest` of `guest_tenant` in as `role` for `minutes` (1 to 480). Errors: Refused."""
    with translated():
        cursor = await connection.execute(
            "INSERT INTO aetheris.support_grants"
            " (tenant_id, guest_tenant, guest, role, reason, granted_by, granted_at, expires_at)"
            " SELECT %s, %s, %s, %s, %s, %s, t.now, t.now + %s * interval '1 minute' FROM clock_timestamp() AS t (now)"
            f" RETURNING {_COLUMNS}",
            [tenant, guest_tenant, guest, role, reason, by, minutes],
        )
        row = await cursor.fetchone()
    assert row is not None
    return _grant(row)


async def in_force(connection: Connection, tenant: str, guest_tenant: str, guest: str) -> Grant | None:
    """Return the grant by which this guest may come in now; the one that ends last."""
    with translated():
        cursor = await connection.execute(
            f"SELECT {_COLUMNS} FROM aetheris.support_grants WHERE tenant_id = %s AND guest_tenant = %s AND guest = %s"
            " AND revoked_at IS NULL AND expires_at > clock_timestamp() ORDER BY expires_at DESC LIMIT 1",
            [tenant, guest_tenant, guest],
        )
        row = await cursor.fetchone()
    return None if row is None else _grant(row)


async def grants(connection: Connection, tenant: str) -> list[Grant]:
    """Return every grant that this tenant gave, newest first."""
    with translated():
        cursor = await connection.execute(
            f"SELECT {_COLUMNS} FROM aetheris.support_grants WHERE tenant_id = %s ORDER BY granted_at DESC LIMIT 1000",
            [tenant],
        )
        return [_grant(r) async for r in cursor]


async def revoke(connection: Connection, tenant: str, grant_id: str) -> bool:
    """End a grant now; False when there is none of this id in force."""
    with translated():
        cursor = await connection.execute(
            "UPDATE aetheris.support_grants SET revoked_at = clock_timestamp()"
            " WHERE tenant_id = %s AND grant_id::text = %s AND revoked_at IS NULL AND expires_at > clock_timestamp()",
            [tenant, grant_id],
        )
    return cursor.rowcount == 1


def _grant(r: dict[str, Any]) -> Grant:
    return Grant(**{name: r[name] for name in Grant.__slots__})
