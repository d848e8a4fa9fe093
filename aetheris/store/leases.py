"""Leases: who may append to a job, until when, under which epoch.

The database decides time: a lease is `lease_until` on the job row, set and
compared by PostgreSQL's clock alone. Every claim raises `lease_epoch`, the
fence; whatever an earlier holder still sends is refused by the append. A
worker that hears nothing of a job in a heartbeat's answer has lost it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement

_PLANS_OF_SMALL_TABLES = ("enable_seqscan", "enable_bitmapscan", "enable_sort")


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in hand: its key, its fence, and the head to append to."""

    tenant: str
    job: str
    agent: str
    agent_version: str
    epoch: int
    head_seq: int
    head_leaf: bytes
    checkpoint_seq: int
    taken_from: str | None  # the worker whose lease ran out, if one did
    inbox: int = 0  # how many messages wait to be taken
    parent: str | None = None
    version_before: str = ""  # of the code that had the job until now

    @property
    def key(self) -> JobKey:
        """(tenant, job)"""
        return self.tenant, self.job


async def settle_plan(connection: Connection) -> None:
    """Have this connection's claims read the index of ready jobs in its order, however few jobs there are now.

    Else the plan of a young store (collect all ready jobs, sort them) stays
    prepared while thousands gather.
    """
    with translated():
        await connection.execute(
            "SELECT set_config(n, 'off', false) FROM unnest(%s::text[]) n", [list(_PLANS_OF_SMALL_TABLES)]
        )


async def claim(
    connection: Connection,
    worker: str,
    *,
    agents: Mapping[str, str],
    accepts: Sequence[str] = (),
    capabilities: Sequence[str],
    limit: int,
    lease_seconds: float,
) -> list[Lease]:
    """Return up to `limit` jobs that are now this worker's, each under a new epoch.

    `agents` is name -> version of the code at hand. A job that has begun under
    another version is left alone, unless `accepts` names it ("rebook@4").
    """
    own = [f"{name}@{version}" for name, version in agents.items()]
    with translated():
        cursor = await connection.execute(
            statement("claim"),
            {
                "worker": worker,
                "agents": arrays.text(list(agents)),
                "own": arrays.text(list(agents.values())),
                "versions": arrays.text([*own, *accepts]),
                "capabilities": arrays.text(list(capabilities)),
                "limit": limit,
                "lease_seconds": lease_seconds,
            },
        )
        return [
            Lease(
                tenant=r["tenant_id"],
                job=r["job_id"],
                agent=r["agent"],
                agent_version=r["agent_version"],
                epoch=r["lease_epoch"],
                head_seq=r["head_seq"],
                head_leaf=bytes(r["head_leaf"]),
                checkpoint_seq=r["checkpoint_seq"],
                taken_from=r["before"],
                inbox=r["inbox"],
                parent=r["parent_job_id"],
                version_before=r["version_before"],
            )
            async for r in cursor
        ]


async def heartbeat(
    connection: Connection, worker: str, held: Sequence[tuple[str, str, int]], lease_seconds: float
) -> dict[JobKey, bool]:
    """Renew the leases `held` (tenant, job, epoch); return those still held, and whether the inbox wants them.

    What is missing from the answer is lost: stop working on it at once.
    """
    with translated():
        cursor = await connection.execute(
            statement("heartbeat"), {"worker": worker, "lease_seconds": lease_seconds, **_columns(held)}
        )
        return {(r["tenant_id"], r["job_id"]): r["wanted"] async for r in cursor}


async def release(
    connection: Connection, worker: str, held: Sequence[tuple[str, str, int]], *, delay_seconds: float = 0
) -> None:
    """Give up leases, so that another worker may claim the jobs after `delay_seconds`."""
    with translated():
        await connection.execute(
            statement("release"), {"worker": worker, "delay_seconds": delay_seconds, **_columns(held)}
        )


async def holder_gone(connection: Connection, tenant: str, job: str, epoch: int) -> bool:
    """Return whether the worker that held the job under `epoch` has left in order.

    A worker that is only silent may be paused and wake again: that is not gone.
    """
    with translated():
        cursor = await connection.execute(
            "SELECT EXISTS (SELECT FROM aetheris.workers w JOIN aetheris.lease_changes c USING (worker_id)"
            " WHERE c.tenant_id = %s AND c.job_id = %s AND c.epoch = %s AND c.change <> 'released') AS there",
            [tenant, job, epoch],
        )
        row = await cursor.fetchone()
    return row is not None and not row["there"]


def _columns(held: Sequence[tuple[str, str, int]]) -> dict[str, arrays.Column]:
    return {
        "tenants": arrays.text([h[0] for h in held]),
        "jobs": arrays.text([h[1] for h in held]),
        "epochs": arrays.int8([h[2] for h in held]),
    }
