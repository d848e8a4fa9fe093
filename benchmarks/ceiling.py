"""The ceiling: our own append statement with the same rows ready made, on one connection.

Nothing of the runtime takes part: lines, leaves, cells and ledger rows are made
beforehand, and each round sends one step of every job in flight.
"""

from __future__ import annotations

import time

from aetheris.domain.cells import Cell
from aetheris.domain.ledger import Transition
from aetheris.runtime.joblog import make_event
from aetheris.store import arrays
from aetheris.store.append import Batch, append
from aetheris.store.database import Connection, Database

WORKER = "ceiling"
ARGS, RESULT = b'{"n":41}', b"42"


async def steps_per_second(database: Database, jobs: list[tuple[str, str]], steps: int) -> tuple[float, int, int]:
    """Return (steps/s, rows per step, bytes per step) of appending `steps` steps to each job.

    A step here is what a `once` call writes: two events, two cells, two ledger
    rows, and its job row moved.
    """
    async with await database.connect("worker") as connection:
        heads = await lease(connection, jobs)
        rounds = [[] for _ in range(steps)]
        size = 0
        for tenant, job in jobs:
            seq, leaf = heads[tenant, job]
            for number in range(steps):
                batch = _step(tenant, job, seq, leaf, number + 1)
                seq, leaf = batch.new_head, batch.new_leaf
                rounds[number].append(batch)
                size += sum(map(len, batch.lines)) + sum(len(c.salt or b"") + len(c.body or b"") for c in batch.cells)
        began = time.perf_counter()
        for batches in rounds:
            refused = await append(connection, WORKER, batches)
            if refused:
                raise next(iter(refused.values()))
        seconds = time.perf_counter() - began
    return len(jobs) * steps / seconds, 2 + 2 + 2 + 1, size // (len(jobs) * steps)


async def lease(connection: Connection, jobs: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, bytes]]:
    """Take the leases of `jobs` for an hour and return their heads."""
    cursor = await connection.execute(
        "UPDATE aetheris.jobs j SET status = 1, lease_epoch = 1, lease_owner = %(worker)s,"
        " lease_until = clock_timestamp() + interval '1 hour'"
        " FROM unnest(%(tenants)b::text[], %(jobs)b::text[]) AS k (tenant_id, job_id)"
        " WHERE j.tenant_id = k.tenant_id AND j.job_id = k.job_id"
        " RETURNING j.tenant_id, j.job_id, j.head_seq, j.head_leaf",
        {"worker": WORKER, "tenants": arrays.text([j[0] for j in jobs]), "jobs": arrays.text([j[1] for j in jobs])},
    )
    return {(r["tenant_id"], r["job_id"]): (r["head_seq"], bytes(r["head_leaf"])) async for r in cursor}


def _step(tenant: str, job: str, seq: int, leaf: bytes, step: int) -> Batch:
    batch = Batch(tenant, job, 1, seq, leaf)
    at = time.time_ns() // 1000
    shared = {"attempt": 1, "effect": "once", "tool_name": "bump"}
    started = {**shared, "idempotency_key": "0" * 64}
    finished = {**shared, "duration_us": 9, "outcome": "success"}
    for type_, data, name, body in (
        ("tool_invocation_started", started, "args", ARGS),
        ("tool_invocation_finished", finished, "result", RESULT),
    ):
        seq += 1
        event, line, leaf, cells = make_event(
            job=job, seq=seq, prev=leaf, at=at, by=f"worker/{WORKER}", epoch=1, type=type_, step=step, data=data,
            bodies=[(name, body)],
        )  # fmt: skip
        batch.lines.append(line)
        batch.leaves.append(leaf)
        batch.cells.extend(Cell(*c) for c in cells)
        begins = name == "args"
        batch.ledger.append(
            Transition(
                seq, step, 1, "bump", "once", "started" if begins else "committed", 1,
                "0" * 64 if begins else "", event.cells.get("args", ""), event.cells.get("result", ""),
            )
        )  # fmt: skip
    return batch
