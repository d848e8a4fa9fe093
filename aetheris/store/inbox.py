"""The inbox of a job: what others want of it, until the lease holder makes it an event.

Senders act as the app role, for one tenant; they write here and nowhere else.
A row is taken in the same statement that appends its event, so it becomes one
event exactly once, whoever dies in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aetheris.domain.errors import Refused
from aetheris.domain.jobs import JobStatus
from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the inbox, not yet taken."""

    id: str
    kind: str  # signal, approval, cancel, pause, resume, resolve, child
    key: str
    by: str
    payload: bytes | None
    sent_us: int  # by the database's clock


async def send(
    connection: Connection, tenant: str, job: str, *, kind: str, key: str, by: str, payload: bytes | None
) -> bool:
    """Put a message into the inbox and wake the job; False when this key was sent before.

    Errors: Refused when there is no such job, or it has ended: nothing is written.
    """
    with translated():
        cursor = await connection.execute(
            statement("send"),
            {
                "tenant": tenant,
                "job": job,
                "kind": kind,
                "key": key,
                "by": by,
                "payload": None if payload is None else payload.decode(),
            },
        )
        row = await cursor.fetchone()
    if row is None:
        raise Refused(f"no job {job[:8]}: `aetheris jobs` lists them")
    if row["ended"]:
        raise Refused(f"job {job[:8]} is {JobStatus(row['status']).word}: it takes no {kind} any more")
    return not row["repeated"]


async def carry(connection: Connection, runs: Mapping[JobKey, int]) -> None:
    """Put what these runs left unheard into the inboxes of those they go on as; each with the seq of its
    `run_continued`. Within the transaction that ended them."""
    with translated():
        await connection.execute(
            statement("carry"),
            {
                "tenants": arrays.text([tenant for tenant, _ in runs]),
                "jobs": arrays.text([job for _, job in runs]),
                "continued_seqs": arrays.int8(list(runs.values())),
            },
        )


async def untaken(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, list[Message]]:
    """Return what waits in the inboxes of these jobs, in the order in which it came."""
    found: dict[JobKey, list[Message]] = {}
    with translated():
        cursor = await connection.execute(
            "SELECT s.tenant_id, s.job_id, s.signal_id::text AS id, s.kind, s.correlation_key, s.sent_by, s.payload,"
            " (extract(epoch FROM s.recorded_at) * 1e6)::bigint AS sent_us"
            " FROM aetheris.signals s"
            " JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS k (tenant_id, job_id) USING (tenant_id, job_id)"
            " WHERE s.taken_seq IS NULL ORDER BY s.recorded_at, s.signal_id",
            {"tenants": arrays.text([k[0] for k in keys]), "jobs": arrays.text([k[1] for k in keys])},
        )
        async for r in cursor:
            payload = None if r["payload"] is None else r["payload"].encode()
            message = Message(r["id"], r["kind"], r["correlation_key"], r["sent_by"], payload, r["sent_us"])
            found.setdefault((r["tenant_id"], r["job_id"]), []).append(message)
    return found
