"""Jobs as the app role sees them: submitted, found, listed; one tenant at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aetheris.domain.cells import Cell
from aetheris.domain.errors import Conflict, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.store import arrays
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as its row tells it."""

    tenant: str
    job: str
    agent: str
    agent_version: str
    status: JobStatus
    key: str | None
    head_seq: int
    head_leaf: bytes
    epoch: int
    open_calls: int
    created_at: datetime
    updated_at: datetime
    lease_owner: str | None
    waits_for: str = ""
    capabilities: Sequence[str] = ()

    def told(self) -> dict[str, Any]:
        """Return what people and programs are told of it, by name; the id comes before it, under the teller's name."""
        return {
            "agent": self.agent,
            "agent_version": self.agent_version,
            "status": self.status.word,
            "events": self.head_seq,
            "epoch": self.epoch,
            "key": self.key,
            "waits_for": self.waits_for,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


@dataclass(frozen=True, slots=True)
class Submission:
    """A job's first event, ready to be written."""

    tenant: str
    job: str
    agent: str
    agent_version: str
    leaf: bytes
    line: bytes
    cells: Sequence[Cell]
    key: str | None = None
    goal: str = ""
    capabilities: Sequence[str] = ()
    parent: str | None = None


_COLUMNS = (
    "tenant_id, job_id, agent, agent_version, status, idempotency_key, head_seq, head_leaf, lease_epoch, open_calls,"
    " created_at, updated_at, lease_owner, waits_for,"
    " required_capabilities"
)


async def submit(connection: Connection, new: Submission) -> str:
    """Write the job with its first event and return its id; or the id of the job that has this key already,
    also when that job was collected.

    Within a transaction of `as_tenant`. Errors: Conflict when the key is
    another agent's job; Refused when the tenant doesn't exist or isn't active.
    """
    cursor = await connection.execute(
        statement("submit"),
        {
            "tenant": new.tenant,
            "job": new.job,
            "agent": new.agent,
            "version": new.agent_version,
            "goal": new.goal,
            "key": new.key,
            "capabilities": list(new.capabilities),
            "parent": new.parent,
            "leaf": new.leaf,
            "line": new.line.decode(),
            "c_names": arrays.text([c.name for c in new.cells]),
            "c_salts": arrays.bytea([c.salt for c in new.cells]),
            "c_bodies": arrays.text([c.body for c in new.cells]),
        },
    )
    if row := await cursor.fetchone():
        return str(row["job_id"])
    cursor = await connection.execute(
        "SELECT job_id, agent FROM aetheris.jobs WHERE tenant_id = %(tenant)s AND idempotency_key = %(key)s"
        " UNION ALL SELECT job_id, agent FROM aetheris.job_tombstones"
        " WHERE tenant_id = %(tenant)s AND idempotency_key = %(key)s",
        {"tenant": new.tenant, "key": new.key},
    )
    row = await cursor.fetchone()
    if row is None:
        raise Conflict(f"the job with key {new.key!r} is being submitted elsewhere: try again")
    if row["agent"] != new.agent:
        raise Refused(f"key {new.key!r} is already job {row['job_id'][:8]} of agent {row['agent']}: use another key")
    return str(row["job_id"])


async def ensure_tenant(connection: Connection, tenant: str) -> None:
    """Make the tenant exist; the app may found only the tenant it speaks for."""
    await connection.execute(
        "INSERT INTO aetheris.tenants (tenant_id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", [tenant, tenant]
    )


async def job_id_keys(connection: Connection) -> dict[int, bytes]:
    """Return the keys that mint and check job ids; the highest number mints."""
    with translated():
        cursor = await connection.execute("SELECT key_id, secret FROM aetheris.deployment_keys WHERE kind = 'job_id'")
        return {r["key_id"]: bytes(r["secret"]) async for r in cursor}


async def find(connection: Connection, tenant: str, prefix: str) -> JobRow:
    """Return the one job whose id starts with `prefix`. Errors: Refused when none or several do."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM aetheris.jobs WHERE tenant_id = %s AND job_id >= %s AND job_id < %s"
        " ORDER BY job_id LIMIT 2",
        [tenant, prefix, prefix + "~"],
    )
    rows = [_row(r) async for r in cursor]
    if not rows:
        raise Refused(f"no job starts with {prefix!r}: `aetheris jobs` lists them")
    if len(rows) > 1 and rows[0].job != prefix:
        raise Refused(f"several jobs start with {prefix!r} ({rows[0].job[:12]}, {rows[1].job[:12]}): type more of it")
    return rows[0]


async def get(connection: Connection, tenant: str, job: str) -> JobRow | None:
    """Return the job of exactly this id, or None."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM aetheris.jobs WHERE tenant_id = %s AND job_id = %s", [tenant, job]
    )
    row = await cursor.fetchone()
    return None if row is None else _row(row)


async def listing(
    connection: Connection,
    tenant: str,
    *,
    agent: str | None = None,
    statuses: Sequence[JobStatus] = (),
    limit: int = 50,
    after: tuple[datetime, str] | None = None,
    prefix: str = "",
) -> list[JobRow]:
    """Return the newest jobs first; with `after` (a row's created_at and id) those that follow it.

    With `prefix` only those whose id starts so.
    """
    created_at, job = after or (None, None)
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM aetheris.jobs WHERE tenant_id = %(tenant)s"
        " AND (%(agent)s::text IS NULL OR agent = %(agent)s)"
        " AND (%(statuses)s::smallint[] = '{}' OR status = ANY (%(statuses)s))"
        " AND (%(prefix)s = '' OR (job_id >= %(prefix)s AND job_id < %(prefix)s || '~'))"
        " AND (%(at)s::timestamptz IS NULL OR (created_at <= %(at)s AND (created_at < %(at)s OR job_id > %(job)s)))"
        " ORDER BY created_at DESC, job_id LIMIT %(limit)s",
        {
            "tenant": tenant,
            "agent": agent,
            "statuses": [int(s) for s in statuses],
            "limit": limit,
            "at": created_at,
            "job": job,
            "prefix": prefix,
        },
    )
    return [_row(r) async for r in cursor]


async def count_by_status(connection: Connection, tenant: str) -> dict[JobStatus, int]:
    """Return how many jobs stand in each status."""
    cursor = await connection.execute(
        "SELECT status, count(*) AS n FROM aetheris.jobs WHERE tenant_id = %s GROUP BY status", [tenant]
    )
    return {JobStatus(r["status"]): r["n"] async for r in cursor}


async def statuses(connection: Connection, tenant: str, jobs: Sequence[str]) -> dict[str, JobStatus]:
    """Return the status of each of `jobs` that exists; a parked one that was sent something counts as retrying.

    It goes on as soon as a worker takes it: whoever waits for it to come to rest must not stop here.
    """
    cursor = await connection.execute(
        "SELECT job_id, CASE WHEN status = 6 AND inbox > 0 THEN 7 ELSE status END AS status"
        " FROM aetheris.jobs WHERE tenant_id = %s AND job_id = ANY (%s)",
        [tenant, list(jobs)],
    )
    return {r["job_id"]: JobStatus(r["status"]) async for r in cursor}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job stands, and the cells of its last event once it has ended."""

    status: JobStatus
    bodies: dict[str, bytes]
    #: Some of its cells were erased: `bodies` is not all that it returned.
    erased: bool = False


async def outcome(connection: Connection, tenant: str, job: str) -> Outcome | None:
    """Return how a job stands; None when there is no such job. Errors: Unreachable."""
    with translated():
        cursor = await connection.execute(
            "SELECT j.status, c.name, c.body FROM aetheris.jobs j LEFT JOIN aetheris.cells c"
            " ON c.tenant_id = j.tenant_id AND c.job_id = j.job_id AND c.seq = j.head_seq AND j.status IN (2, 3, 4)"
            " WHERE j.tenant_id = %s AND j.job_id = %s",
            [tenant, job],
        )
        rows = await cursor.fetchall()
    if not rows:
        return None
    bodies = {r["name"]: r["body"].encode() for r in rows if r["name"] is not None and r["body"] is not None}
    erased = any(r["name"] is not None and r["body"] is None for r in rows)
    return Outcome(JobStatus(rows[0]["status"]), bodies, erased)


async def live_workers(
    connection: Connection, agent: str, within_seconds: float, capabilities: Sequence[str] = ()
) -> int:
    """Return how many workers that serve `agent` and have `capabilities` were heard of within so many seconds."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM aetheris.workers WHERE %s = ANY (agents || versions) AND %s::text[] <@ capabilities"
        " AND last_seen_at > clock_timestamp() - %s * interval '1 second'",
        [agent, list(capabilities), within_seconds],
    )
    row = await cursor.fetchone()
    return row["n"] if row else 0


def _row(r: dict[str, Any]) -> JobRow:
    return JobRow(
        tenant=r["tenant_id"],
        job=r["job_id"],
        agent=r["agent"],
        agent_version=r["agent_version"],
        status=JobStatus(r["status"]),
        key=r["idempotency_key"],
        head_seq=r["head_seq"],
        head_leaf=bytes(r["head_leaf"]),
        epoch=r["lease_epoch"],
        open_calls=r["open_calls"],
        created_at=r["created_at"],
        updated_at=r["updated_at"],
        lease_owner=r["lease_owner"],
        waits_for=r["waits_for"],
        capabilities=r["required_capabilities"],
    )
