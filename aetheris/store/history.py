"""A job's record as stored: lines, cells, ledger. Read whole, never repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aetheris.domain.cells import Cell
from aetheris.domain.ledger import Transition
from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated


@dataclass(slots=True)
class Record:
    """What stands in the store of one job, from `first_seq` on."""

    first_seq: int = 1
    leaves: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)
    ledger: list[Transition] = field(default_factory=list)


async def load(connection: Connection, keys: Sequence[JobKey], since: Sequence[int]) -> dict[JobKey, Record]:
    """Return events and cells of many jobs in one query each; of job i from event `since[i]` on.

    The first event always comes too (it holds the job's input), and so do signals that came
    before: the code may still wait for one.
    """
    columns = {
        "tenants": arrays.text([k[0] for k in keys]),
        "jobs": arrays.text([k[1] for k in keys]),
        "since": arrays.int8(list(since)),
    }
    records = {key: Record(first) for key, first in zip(keys, since, strict=True)}
    with translated():
        cursor = await connection.execute(_EVENTS, columns)
        async for r in cursor:
            record = records[r["tenant_id"], r["job_id"]]
            record.leaves.append(bytes(r["leaf"]))
            record.lines.append(r["line"].encode())
        cursor = await connection.execute(_CELLS, columns)
        async for r in cursor:
            body = None if r["body"] is None else r["body"].encode()
            salt = None if r["salt"] is None else bytes(r["salt"])
            records[r["tenant_id"], r["job_id"]].cells[r["seq"], r["name"]] = Cell(r["seq"], r["name"], salt, body)
    return records


async def lines(
    connection: Connection, tenant: str, job: str, *, after: int, limit: int
) -> list[tuple[int, bytes, bytes]]:
    """Return (seq, line, leaf) of up to `limit` events after number `after`, in order."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, line, leaf FROM aetheris.job_events WHERE tenant_id = %s AND job_id = %s AND seq > %s"
            " ORDER BY seq LIMIT %s",
            [tenant, job, after, limit],
        )
        return [(r["seq"], r["line"].encode(), bytes(r["leaf"])) async for r in cursor]


async def load_ledger(connection: Connection, tenant: str, job: str) -> list[Transition]:
    """Return the job's ledger transitions in order."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, step, attempt, tool_name, effect, status, epoch, idempotency_key, args_hash, result_hash,"
            " outcome FROM aetheris.ledger WHERE tenant_id = %s AND job_id = %s ORDER BY seq",
            [tenant, job],
        )
        return [
            Transition(
                seq=r["seq"],
                step=r["step"],
                attempt=r["attempt"],
                tool_name=r["tool_name"],
                effect=r["effect"],
                status=r["status"],
                epoch=r["epoch"],
                idempotency_key=bytes(r["idempotency_key"] or b"").hex(),
                args_hash=bytes(r["args_hash"] or b"").hex(),
                result_hash=bytes(r["result_hash"] or b"").hex(),
                outcome=r["outcome"],
            )
            async for r in cursor
        ]


_WANTED = """
WITH wanted AS (
    SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(since)b::bigint[]) AS w (tenant_id, job_id, since)
)
"""
_EVENTS = (
    _WANTED
    + """SELECT e.tenant_id, e.job_id, e.leaf, e.line
FROM wanted w JOIN aetheris.job_events e USING (tenant_id, job_id)
WHERE e.seq >= w.since OR e.seq = 1 OR e.seq IN (
    SELECT s.taken_seq FROM aetheris.signals s
    WHERE s.tenant_id = w.tenant_id AND s.job_id = w.job_id AND s.kind = 'signal' AND s.taken_seq < w.since)
ORDER BY e.tenant_id, e.job_id, e.seq"""
)
_CELLS = (
    _WANTED
    + """SELECT c.tenant_id, c.job_id, c.seq, c.name, c.salt, c.body
FROM wanted w JOIN aetheris.cells c USING (tenant_id, job_id)
WHERE c.seq >= w.since OR c.seq = 1 OR c.seq IN (
    SELECT s.taken_seq FROM aetheris.signals s
    WHERE s.tenant_id = w.tenant_id AND s.job_id = w.job_id AND s.kind = 'signal' AND s.taken_seq < w.since)"""
)
