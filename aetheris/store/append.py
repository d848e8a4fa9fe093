"""The fenced append: what a lease holder writes, for many jobs in one statement.

Protocol. A writer builds lines on the head that it believes, under the epoch
of its lease. `append` sends any number of jobs' batches as one transaction;
each job's rows are written whole or not at all, and only where epoch and head
in the database are what the writer believed. What was not written comes back
with its reason:

    Lost      the lease is gone: another epoch, or it ran out
    Conflict  the epoch is ours but the head moved: a second writer, or a bug; reported
    Refused   the job has ended, a line is dated ahead of the database's clock, or it
              would end with a call in doubt

A batch that errors as a whole (one poisoned row) is the caller's to send again
job by job. After a connection lost in COMMIT nobody knows; `heads` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aetheris.domain.cells import Cell
from aetheris.domain.errors import AetherisError, Conflict, Lost, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.domain.ledger import Transition
from aetheris.store import arrays
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement

JobKey = tuple[str, str]
#: An event may be dated so far ahead of the database's clock (sql/append.sql holds it).
AHEAD_US = 1_000_000


@dataclass(slots=True)
class Batch:
    """One job's part of an append: consecutive events on one head."""

    tenant: str
    job: str
    epoch: int
    old_head: int
    old_leaf: bytes
    status: JobStatus = JobStatus.RUNNING
    last_at: int = 0
    open_delta: int = 0
    checkpoint_seq: int = 0
    release: bool = False
    wake_at: int = 0  # microseconds UTC; 0 is never
    waits_for: str = ""  # what a job at rest waits for, in words
    continued_seq: int = 0  # of the event that names the run this one goes on as, where this ends it so
    taken: list[tuple[int, str]] = field(default_factory=list)  # (seq of its event, signal id)
    leaves: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    ledger: list[Transition] = field(default_factory=list)

    @property
    def key(self) -> JobKey:
        """(tenant, job)"""
        return self.tenant, self.job

    @property
    def new_head(self) -> int:
        """The head's seq once this is written."""
        return self.old_head + len(self.lines)

    @property
    def new_leaf(self) -> bytes:
        """The head's leaf once this is written."""
        return self.leaves[-1] if self.leaves else self.old_leaf


async def append(connection: Connection, worker: str, batches: Sequence[Batch]) -> dict[JobKey, AetherisError]:
    """Write the batches in one transaction; return the jobs of which nothing was written, and why.

    At most one batch a job. Errors: whatever refused the statement as a whole
    (then nothing of any job was written); Unreachable (then nobody knows).
    """
    with translated():
        cursor = await connection.execute(statement("append"), parameters(worker, batches))
        refused = [(r["tenant_id"], r["job_id"]) for r in await cursor.fetchall()]
        if not refused:
            return {}
        # Read anew: the statement saw the rows as they were before it waited for their locks.
        cursor = await connection.execute(_STATE, _columns_of(refused))
        now = {(r["tenant_id"], r["job_id"]): r async for r in cursor}
    wanted = {batch.key: batch for batch in batches}
    return {key: _why_not(wanted[key], now.get(key)) for key in refused}


async def heads(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, tuple[int, bytes, int]]:
    """Return head seq, head leaf and epoch of each job, as committed now."""
    with translated():
        cursor = await connection.execute(
            "SELECT tenant_id, job_id, head_seq, head_leaf, lease_epoch FROM aetheris.jobs"
            " JOIN unnest(%s::text[], %s::text[]) AS k (tenant_id, job_id) USING (tenant_id, job_id)"
            # A backend whose client is gone may still be committing: wait for its row locks.
            " FOR SHARE OF jobs",
            list(_columns_of(keys).values()),
        )
        return {
            (r["tenant_id"], r["job_id"]): (r["head_seq"], bytes(r["head_leaf"]), r["lease_epoch"])
            async for r in cursor
        }


def parameters(worker: str, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return the statement's parameters: one column per field, jobs numbered from 1."""
    numbered = list(enumerate(batches, 1))
    events = [
        (n, seq, leaf, line)
        for n, b in numbered
        for seq, (leaf, line) in enumerate(zip(b.leaves, b.lines, strict=True), b.old_head + 1)
    ]
    cells = [(n, c) for n, b in numbered for c in b.cells]
    ledger = [(n, t) for n, b in numbered for t in b.ledger]
    taken = [(n, seq, signal) for n, b in numbered for seq, signal in b.taken]
    return {
        "worker": worker,
        "tenants": arrays.text([b.tenant for b in batches]),
        "jobs": arrays.text([b.job for b in batches]),
        "epochs": arrays.int8([b.epoch for b in batches]),
        "old_heads": arrays.int8([b.old_head for b in batches]),
        "new_heads": arrays.int8([b.new_head for b in batches]),
        "new_leaves": arrays.bytea([b.new_leaf for b in batches]),
        "last_ats": arrays.int8([b.last_at for b in batches]),
        "statuses": arrays.int2([int(b.status) for b in batches]),
        "open_deltas": arrays.int4([b.open_delta for b in batches]),
        "checkpoints": arrays.int8([b.checkpoint_seq for b in batches]),
        "releases": arrays.boolean([b.release for b in batches]),
        "wake_ats": arrays.int8([b.wake_at for b in batches]),
        "takens": arrays.int4([len(b.taken) for b in batches]),
        "waits_for": arrays.text([b.waits_for for b in batches]),
        "t_jobs": arrays.int4([t[0] for t in taken]),
        "t_seqs": arrays.int8([t[1] for t in taken]),
        "t_ids": arrays.text([t[2] for t in taken]),
        "e_jobs": arrays.int4([e[0] for e in events]),
        "e_seqs": arrays.int8([e[1] for e in events]),
        "e_leaves": arrays.bytea([e[2] for e in events]),
        "e_lines": arrays.text([e[3] for e in events]),
        "c_jobs": arrays.int4([n for n, _ in cells]),
        "c_seqs": arrays.int8([c.seq for _, c in cells]),
        "c_names": arrays.text([c.name for _, c in cells]),
        "c_salts": arrays.bytea([c.salt for _, c in cells]),
        "c_bodies": arrays.text([c.body for _, c in cells]),
        "l_jobs": arrays.int4([n for n, _ in ledger]),
        "l_seqs": arrays.int8([t.seq for _, t in ledger]),
        "l_steps": arrays.int8([t.step for _, t in ledger]),
        "l_attempts": arrays.int4([t.attempt for _, t in ledger]),
        "l_tools": arrays.text([t.tool_name for _, t in ledger]),
        "l_effects": arrays.text([t.effect for _, t in ledger]),
        "l_statuses": arrays.text([t.status for _, t in ledger]),
        "l_epochs": arrays.int8([t.epoch for _, t in ledger]),
        "l_keys": arrays.bytea([bytes.fromhex(t.idempotency_key) or None for _, t in ledger]),
        "l_args": arrays.bytea([bytes.fromhex(t.args_hash) or None for _, t in ledger]),
        "l_results": arrays.bytea([bytes.fromhex(t.result_hash) or None for _, t in ledger]),
        "l_outcomes": arrays.text([t.outcome for _, t in ledger]),
    }


_STATE = (
    "SELECT j.tenant_id, j.job_id, j.lease_epoch, j.head_seq, j.status, j.lease_until > clock_timestamp() AS held,"
    " (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us"
    " FROM aetheris.jobs j JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS k (tenant_id, job_id)"
    " USING (tenant_id, job_id)"
)


def _columns_of(keys: Sequence[JobKey]) -> dict[str, arrays.Column]:
    return {"tenants": arrays.text([k[0] for k in keys]), "jobs": arrays.text([k[1] for k in keys])}


def _why_not(batch: Batch, row: dict[str, Any] | None) -> AetherisError:
    job = f"job {batch.job[:8]}"
    if row is None:
        return Lost(f"{job} is not in the store any more")
    if row["lease_epoch"] != batch.epoch or not row["held"]:
        return Lost(f"{job}: the lease of epoch {batch.epoch} is gone (now {row['lease_epoch']})")
    if row["status"] in (2, 3, 4):
        return Refused(f"{job} has ended: nothing may follow")
    if row["head_seq"] != batch.old_head:
        return Conflict(f"{job}: a second writer moved the head from {batch.old_head} to {row['head_seq']}")
    if batch.last_at > row["now_us"] + AHEAD_US:
        return Refused(f"{job}: an event is dated more than a second ahead of the database's clock")
    if batch.status.terminal:
        return Refused(f"{job} can't end: a call's outcome is not known")
    return Conflict(f"{job}: another write came first")
