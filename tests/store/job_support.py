"""What tests of running jobs share: run a body, wait for a state, crash a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.record import JobRecord
from aetheris.store.database import Database

FAST = ae.Settings(poll_seconds=0.1)


#: A body that is not through by then hangs; far above what any takes, also beside other work.
HANGS_SECONDS = 180


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body; one that hangs is ended and fails."""
    asyncio.run(asyncio.wait_for(work(), HANGS_SECONDS))  # type: ignore[arg-type]


async def at_rest(system: ae.AsyncSystem, job: str, waits_for: str = "") -> JobRecord:
    """Return the record once no worker holds the job (and it waits for what is said)."""
    while True:
        record = await system.record(job)
        row = record.row
        resting = row.lease_owner is None and row.status is not JobStatus.PENDING
        if resting and (row.status.terminal or waits_for in row.waits_for):
            return record
        await asyncio.sleep(0.02)


async def ended(system: ae.AsyncSystem, job: str) -> JobRecord:
    """Return the record once the job has ended."""
    while not (record := await system.record(job)).row.status.terminal:
        await asyncio.sleep(0.02)
    return record


async def crash(system: ae.AsyncSystem, worker: ae.Worker) -> None:
    """End a worker as a kill would: nothing is drained, leases are left to run out."""
    task = system._workers.pop(worker)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def tamper(database: Database, word: str) -> int:
    """Change one letter in every stored line that holds `word`, past all walls; return how many."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        other = word[:-1] + word[-1].swapcase()
        found = connection.execute(
            "UPDATE aetheris.job_events SET line = replace(line, %s, %s) WHERE strpos(line, %s) > 0",
            [word, other, word],
        )
        return found.rowcount


def types(record: JobRecord) -> list[str]:
    """The event types, without the leases'."""
    return [e.type for e in record.events if e.type != "job_leased"]


def last_value(record: JobRecord, name: str) -> Any:
    """The value of a cell of the last event."""
    return record.value(record.events[-1], name)
