"""The person in the loop: signals, approves, and ends a doubt by looking at the world.

What happened is looked up where the effects are: in the world of the soak's own
tools, in the airline's receipts for the airline's. That a call did not happen
is said only when the process which began it is dead, or has been awake for long
enough that whatever it had begun is over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

import aetheris as ae
from aetheris.domain.ledger import Transition
from aetheris.runtime.record import JobRecord
from tests.soak.agents import COUNTED, shard
from tests.soak.load import Load, Outside, Submitted
from tests.soak.processes import Fleet

LOOK_SECONDS = 1.0
#: The longest tool takes half a second; a process that slept has come to its end of it by then.
AWAKE_SECONDS = 5.0


@dataclass(slots=True)
class Person:
    """Looks at parked jobs again and again, and does what each waits for."""

    load: Load
    fleet: Fleet
    woken: dict[int, float]
    parked: Callable[[], list[Submitted]]
    did: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Answer until cancelled; while the database is away, later."""
        while True:
            for job in self.parked():
                try:
                    await self._answer(job)
                except Outside:  # it went on meanwhile, or nobody can be asked now
                    continue
            await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self, job: Submitted) -> None:
        system = self.load.systems[job.tenant]
        record = await system.record(job.job)
        last = {t.step: t for t in record.ledger}
        if doubts := [t for t in last.values() if t.status == "unknown"]:
            for doubt in doubts:
                await self._resolve(system, record, doubt)
            return
        asked = {e.step for e in record.events if e.type == "approval_requested"}
        if asked := asked - {e.step for e in record.events if e.type == "approval_completed"}:
            for step in asked:
                self.did["approved"] += await system.operator.approve(job.job, step, approved=True, why="soak")
        elif job.kind in ("listener", "reader", "resumer"):
            self.did["signalled"] += await system.operator.signal(job.job, "go on", {"from": "soak"})

    async def _resolve(self, system: ae.AsyncSystem, record: JobRecord, doubt: Transition) -> None:
        began = next(t for t in record.ledger if t.step == doubt.step and t.idempotency_key)
        result = await asyncio.to_thread(self._found, began)
        if result is None and not self._over(record, doubt):
            return
        outcome: ae.runtime.operator.Outcome = "not_done" if result is None else "done"
        sent = await system.operator.resolve(
            record.row.job, doubt.step, outcome, why="looked at the world", result=result, worker_gone=True
        )
        self.did["resolved"] += sent

    def _found(self, began: Transition) -> str | None:
        """Return what the world holds of a call, or None."""
        key = began.idempotency_key
        if began.tool_name in COUNTED:
            return f"receipt-{key[:24]}" if shard(self.fleet.place.world, key).keys()[key] else None
        with psycopg.connect(self.fleet.place.dsn, autocommit=True) as admin:
            row = admin.execute("SELECT answer FROM airline.receipts WHERE key = %s", [key]).fetchone()
        return row[0] if row is not None else None

    def _over(self, record: JobRecord, doubt: Transition) -> bool:
        """Whether the process that began the call can't do it any more."""
        start = next(
            t for t in record.ledger if (t.step, t.attempt, t.status) == (doubt.step, doubt.attempt, "started")
        )
        leased = next(e for e in record.events if e.type == "job_leased" and e.epoch == start.epoch)
        member = self.fleet.holder(leased.data["worker_id"])
        if member is None or not member.process.alive:
            return True
        parked = record.events[-1].at / 1e6
        awake = max(self.woken.get(member.pid, 0.0), parked)
        return not member.process.stopped and time.time() > awake + AWAKE_SECONDS
