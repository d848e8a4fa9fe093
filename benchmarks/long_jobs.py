"""Long jobs ready made: the record that an agent's run would have left, appended in large batches.

The rows are those of the runtime (same events, cells, ledger rows, one fenced
append); only the time that thousands of commits one after the other would take
is saved.
"""

from __future__ import annotations

import time

import aetheris as ae
from aetheris.domain.cells import Cell
from aetheris.domain.encode import body_bytes
from aetheris.domain.ledger import transition_of
from aetheris.runtime.joblog import Bodies, make_event
from aetheris.runtime.tools import idempotency_key
from aetheris.store.append import Batch, append
from aetheris.store.database import Connection
from benchmarks import ceiling

STEPS_PER_APPEND = 2000


@ae.tool
async def bump(n: int) -> int:
    """The cheapest effect there is: what remains is the runtime's own cost."""
    return n + 1


@ae.agent(version="1")
async def long_bumper(ctx: ae.Context, steps: int) -> int:
    """Make `steps` once calls, one after the other."""
    n = 0
    for _ in range(steps):
        n = await ctx.call(bump, n=n)
    return n


@ae.agent(version="1")
async def resting_bumper(ctx: ae.Context, done: int) -> int:
    """Rest at a checkpoint every 500 calls."""
    while True:
        n = 0
        for _ in range(500):
            n = await ctx.call(bump, n=n)
        done += 500
        await ctx.checkpoint(done)


class Writer:
    """Appends made events to one job under a lease of its own."""

    def __init__(self, connection: Connection, tenant: str, job: str) -> None:
        self._connection, self.tenant, self.job = connection, tenant, job
        self.step = 0
        self.n = 0

    async def open(self) -> None:
        """Take the lease."""
        heads = await ceiling.lease(self._connection, [(self.tenant, self.job)])
        self._batch = Batch(self.tenant, self.job, 1, *heads[self.tenant, self.job])
        self._emit("job_leased", 0, {"agent_version": "1", "worker_id": "w"}, [])

    async def calls(self, count: int) -> None:
        """Write `count` calls of `bump`, each started and committed."""
        for _ in range(count):
            self.step += 1
            shared = {"attempt": 1, "effect": "once", "tool_name": "bump"}
            key = idempotency_key(self.tenant, self.job, self.step, "bump")
            args = [("args", body_bytes({"n": self.n}))]
            self.n += 1
            self._emit("tool_invocation_started", self.step, {**shared, "idempotency_key": key, "waited_us": 0}, args)
            result = [("result", body_bytes(self.n))]
            done = {**shared, "duration_us": 9, "outcome": "success"}
            self._emit("tool_invocation_finished", self.step, done, result)
            if len(self._batch.lines) >= 2 * STEPS_PER_APPEND:
                await self._send()

    async def checkpoint(self, state: int) -> None:
        """Write a resume point."""
        self.step += 1
        self.n = 0
        self._emit("state_checkpointed", self.step, {}, [("state", body_bytes(state))])
        self._batch.checkpoint_seq = self._batch.new_head

    async def close(self) -> None:
        """Write what is left and let the job go, to nobody."""
        await self._send()
        await self._connection.execute(
            "UPDATE aetheris.jobs SET status = 6, lease_owner = NULL, lease_until = NULL, wake_at = 'infinity'"
            " WHERE tenant_id = %s AND job_id = %s",
            [self.tenant, self.job],
        )

    def _emit(self, type: str, step: int, data: dict[str, object], bodies: Bodies) -> None:
        batch = self._batch
        event, line, leaf, cells = make_event(
            job=self.job, seq=batch.new_head + 1, prev=batch.new_leaf, at=time.time_ns() // 1000, by="worker/w",
            epoch=1, type=type, step=step, data=data, bodies=bodies,
        )  # fmt: skip
        batch.lines.append(line)
        batch.leaves.append(leaf)
        batch.cells.extend(Cell(*c) for c in cells)
        if (transition := transition_of(event)) is not None:
            batch.ledger.append(transition)

    async def _send(self) -> None:
        batch = self._batch
        if batch.lines:
            refused = await append(self._connection, ceiling.WORKER, [batch])
            if refused:
                raise next(iter(refused.values()))
        self._batch = Batch(self.tenant, self.job, 1, batch.new_head, batch.new_leaf)
