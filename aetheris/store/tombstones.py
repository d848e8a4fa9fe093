"""Jobs that left the store on record: what is still known of them here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aetheris.domain.errors import Refused
from aetheris.store.database import Connection
from aetheris.store.errors import translated


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A collected job. Its events, cells and ledger are in the lake."""

    tenant: str
    job: str
    agent: str
    key: str | None
    event_count: int
    head_leaf: bytes
    created_at: datetime
    ended_at: datetime
    collected_at: datetime
    collected_by: str
    reason: str
    archive_ref: str


async def find(connection: Connection, tenant: str, prefix: str) -> Tombstone | None:
    """Return the one collected job whose id starts so, or None. Errors: Refused when several do."""
    with translated():
        cursor = await connection.execute(
            f"{_SELECT} AND job_id >= %s AND job_id < %s ORDER BY job_id LIMIT 2", [tenant, prefix, prefix + "~"]
        )
        rows = await cursor.fetchall()
    if len(rows) > 1 and rows[0]["job_id"] != prefix:
        first, second = rows[0]["job_id"][:12], rows[1]["job_id"][:12]
        raise Refused(f"several collected jobs start with {prefix!r} ({first}, {second}): type more of it")
    return _tombstone(rows[0]) if rows else None


async def get(connection: Connection, tenant: str, job: str) -> Tombstone | None:
    """Return the tombstone of the job with this very id, or None."""
    with translated():
        cursor = await connection.execute(f"{_SELECT} AND job_id = %s", [tenant, job])
        row = await cursor.fetchone()
    return None if row is None else _tombstone(row)


async def listing(connection: Connection, tenant: str, limit: int) -> list[Tombstone]:
    """Return the tenant's collected jobs, latest first."""
    with translated():
        cursor = await connection.execute(f"{_SELECT} ORDER BY recorded_at DESC, job_id LIMIT %s", [tenant, limit])
        return [_tombstone(r) async for r in cursor]


_SELECT = (
    "SELECT tenant_id, job_id, agent, idempotency_key, event_count, head_leaf, created_at, ended_at, recorded_at,"
    " deleted_by, reason, archive_ref FROM aetheris.job_tombstones WHERE tenant_id = %s"
)


def _tombstone(r: dict[str, object]) -> Tombstone:
    return Tombstone(*r.values())  # type: ignore[arg-type]
