"""Seals of finished jobs, and what was erased of them: made once, kept beside the job, the same in every export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement

SEALED, BROKEN = 1, 2


@dataclass(frozen=True, slots=True)
class Seal:
    """What stands in the store of one job's seal, each as the bytes of its member in a package."""

    statement: bytes
    dsse: bytes | None = None
    tlog_proof: bytes | None = None
    timestamp: bytes | None = None


@dataclass(frozen=True, slots=True)
class ErasedCell:
    """A cell whose salt and body were taken away, by the audit chain's entry `audit_seq`."""

    seq: int
    name: str
    audit_seq: int


async def unsealed(connection: Connection, limit: int) -> list[tuple[JobKey, int]]:
    """Return finished jobs that nobody has sealed yet, each with its number of events."""
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, job_id, head_seq FROM aetheris.jobs"
            " WHERE status IN (2, 3, 4) AND seal_state = 0 ORDER BY tenant_id, job_id LIMIT %s",
            [limit],
        )
        return [((r["tenant_id"], r["job_id"]), r["head_seq"]) async for r in cursor]


async def put(
    connection: Connection, sealed: Sequence[tuple[JobKey, bytes, bytes | None]], broken: Sequence[JobKey]
) -> int:
    """Store seals (job, statement, DSSE envelope), mark broken records as such, and return how many seals are new.

    A job that is sealed already keeps its seal. Within a transaction of the caller's.
    """
    keys = [*(key for key, _, _ in sealed), *broken]
    with translated():
        await connection.execute(
            statement("mark_sealed"),
            {
                "tenants": arrays.text([k[0] for k in keys]),
                "jobs": arrays.text([k[1] for k in keys]),
                "states": arrays.int2([SEALED] * len(sealed) + [BROKEN] * len(broken)),
            },
        )
        cursor = await connection.execute(
            "INSERT INTO aetheris.seals (tenant_id, job_id, seal, dsse)"
            " SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(seals)b::text[], %(dsses)b::text[])"
            " ON CONFLICT DO NOTHING",
            {
                "tenants": arrays.text([k[0] for k, _, _ in sealed]),
                "jobs": arrays.text([k[1] for k, _, _ in sealed]),
                "seals": arrays.text([told for _, told, _ in sealed]),
                "dsses": arrays.text([dsse for _, _, dsse in sealed]),
            },
        )
        return cursor.rowcount


async def find(connection: Connection, tenant: str, job: str) -> Seal | None:
    """Return the job's seal, or None when it has none (yet)."""
    with translated():
        cursor = await connection.execute(
            "SELECT seal, dsse, tlog_proof, timestamp FROM aetheris.seals WHERE tenant_id = %s AND job_id = %s",
            [tenant, job],
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    dsse, proof, stamp = row["dsse"], row["tlog_proof"], row["timestamp"]
    return Seal(
        row["seal"].encode(),
        None if dsse is None else dsse.encode(),
        None if proof is None else proof.encode(),
        None if stamp is None else bytes(stamp),
    )


async def erased(connection: Connection, tenant: str, job: str) -> list[ErasedCell]:
    """Return what was erased of the job, on record."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, name, audit_seq FROM aetheris.erasures WHERE tenant_id = %s AND job_id = %s"
            " ORDER BY seq, name",
            [tenant, job],
        )
        return [ErasedCell(r["seq"], r["name"], r["audit_seq"]) async for r in cursor]
