"""Cells erased on a person's request: the store's part. What the lake holds is runtime/erasure.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aetheris.domain.jobs import JobStatus
from aetheris.store import arrays, snapshots
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated

CellKey = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What an erasure must know of the job, whose row it has locked: its status (None once it is collected), holds."""

    status: JobStatus | None
    held: str | None


async def lock(connection: Connection, tenant: str, job: str) -> Standing:
    """Lock the job's row, if it is still there, and return how the job stands. Within a transaction."""
    with translated():
        cursor = await connection.execute(
            "SELECT status FROM aetheris.jobs WHERE tenant_id = %s AND job_id = %s FOR UPDATE", [tenant, job]
        )
        row = await cursor.fetchone()
        cursor = await connection.execute(
            "SELECT reason FROM aetheris.legal_holds WHERE tenant_id = %s AND job_id = %s AND released_at IS NULL",
            [tenant, job],
        )
        held = await cursor.fetchone()
    return Standing(JobStatus(row["status"]) if row else None, held["reason"] if held else None)


async def erased(connection: Connection, tenant: str, job: str) -> set[CellKey]:
    """Return the cells of the job that were erased before."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, name FROM aetheris.erasures WHERE tenant_id = %s AND job_id = %s", [tenant, job]
        )
        return {(r["seq"], r["name"]) async for r in cursor}


async def erase(
    connection: Connection, tenant: str, job: str, cells: Sequence[CellKey], *, audit_seq: int, by: str, reason: str
) -> int:
    """Take salt and body of these cells away, with every copy the store has of them; return how many were here.

    Copies are the job's snapshots, and what was sent to it and never taken.
    Within the transaction that locked the job.
    """
    values = {
        "tenant": tenant,
        "job": job,
        "seqs": arrays.int8([seq for seq, _ in cells]),
        "names": arrays.text([name for _, name in cells]),
        "audit": audit_seq,
        "by": by,
        "reason": reason,
    }
    with translated():
        await connection.execute(
            "INSERT INTO aetheris.erasures (tenant_id, job_id, seq, name, audit_seq, erased_by, reason)"
            " SELECT %(tenant)s, %(job)s, c.seq, c.name, %(audit)s, %(by)s, %(reason)s"
            " FROM unnest(%(seqs)b::bigint[], %(names)b::text[]) AS c (seq, name)",
            values,
        )
        cursor = await connection.execute(
            "UPDATE aetheris.cells t SET salt = NULL, body = NULL"
            " FROM unnest(%(seqs)b::bigint[], %(names)b::text[]) AS c (seq, name)"
            " WHERE t.tenant_id = %(tenant)s AND t.job_id = %(job)s AND t.seq = c.seq AND t.name = c.name"
            " AND t.body IS NOT NULL",
            values,
        )
        await connection.execute(
            "UPDATE aetheris.signals SET payload = NULL WHERE tenant_id = %(tenant)s AND job_id = %(job)s", values
        )
    await snapshots.delete_all(connection, tenant, job)
    return cursor.rowcount


async def waiting_in_lake(connection: Connection) -> dict[JobKey, list[CellKey]]:
    """Return the cells that are erased here and may still lie in the lake."""
    found: dict[JobKey, list[CellKey]] = {}
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, job_id, seq, name FROM aetheris.erasures WHERE lake_erased_at IS NULL"
            " ORDER BY tenant_id, job_id, seq, name"
        )
        async for r in cursor:
            found.setdefault((r["tenant_id"], r["job_id"]), []).append((r["seq"], r["name"]))
    return found


async def gone_from_lake(connection: Connection, cells: Mapping[JobKey, Sequence[CellKey]]) -> None:
    """Note that nothing of these cells is left under the lake's folder.

    Of no others: what was erased while those were looked for has not been looked for.
    """
    rows = [(*job, *cell) for job, own in cells.items() for cell in own]
    with translated():
        await connection.execute(
            "UPDATE aetheris.erasures e SET lake_erased_at = clock_timestamp()"
            " FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(seqs)b::bigint[], %(names)b::text[])"
            " AS w (tenant_id, job_id, seq, name)"
            " WHERE e.tenant_id = w.tenant_id AND e.job_id = w.job_id AND e.seq = w.seq AND e.name = w.name"
            " AND e.lake_erased_at IS NULL",
            {
                "tenants": arrays.text([row[0] for row in rows]),
                "jobs": arrays.text([row[1] for row in rows]),
                "seqs": arrays.int8([row[2] for row in rows]),
                "names": arrays.text([row[3] for row in rows]),
            },
        )
