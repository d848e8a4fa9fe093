"""Jobs that are collected, and as many after them: what a collection gives back, and what can still be asked.

The notebook on replay and snapshots runs it: a hundred airline jobs on a
PostgreSQL of their own, sealed, mirrored, collected as if a hundred days had
passed, then a hundred more.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aetheris.demo import generate
from aetheris.demo.generate import Generated
from aetheris.demo.player import play
from aetheris.domain.rows import Rows
from aetheris.runtime import keeping
from aetheris.runtime.collection import Collected, Collector
from aetheris.runtime.system import AsyncSystem
from aetheris.store import health

RETENTION_DAYS, LATER_DAYS = 90, 100
#: Sizes shown one by one; the others together.
SHOWN = ("job_events", "cells", "ledger", "jobs", "job_tombstones", "audit_log")


@dataclass(frozen=True)
class Retired:
    """What was measured. Sizes are bytes on disk by table, indexes included."""

    jobs: int
    collected: Collected
    empty: dict[str, int]
    full: dict[str, int]
    after: dict[str, int]
    again: dict[str, int]
    lake: Path
    #: Events of a collected job, before and after it left.
    read_before: int
    read_after: int

    @property
    def table(self) -> Rows:
        """Sizes in kB: with the jobs, after their collection, and after as many more."""
        sizes = (self.full, self.after, self.again)
        others = sorted(self.full.keys() - set(SHOWN))
        rows = [[name, *(f"{size[name] / 1000:,.0f}" for size in sizes)] for name in SHOWN]
        rows.append(["all others", *(f"{sum(size[n] for n in others) / 1000:,.0f}" for size in sizes)])
        return Rows(["table", f"{self.jobs} jobs, kB", "collected", f"{self.jobs} more"], rows)

    @property
    def freed_ratio(self) -> float:
        """Of what the first jobs took, how much the second ones did not take again."""
        full, again = sum(self.full.values()), sum(self.again.values())
        return 1 - (again - full) / (full - sum(self.empty.values()))


@dataclass(frozen=True)
class _Run:
    task_id: int
    trial: int
    messages: list[dict[str, Any]]


def run(folder: Path) -> Retired:
    """Do it all on an embedded PostgreSQL in `folder`. Works inside a running loop. Errors: as the runtime's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_run(folder))).result()


async def _run(folder: Path) -> Retired:
    made = generate.generate()
    async with AsyncSystem(home=folder, lake=folder / "lake") as system:
        empty = await _sizes(system)
        jobs = await _played(system, made)
        full = await _sizes(system)
        read_before = len((await system.record(jobs[0])).stored.lines)
        await keeping.seal(system)
        await keeping.mirror(system)
        later = datetime.now(UTC) + timedelta(days=LATER_DAYS)
        collector = Collector(system.database, system.lake, days=RETENTION_DAYS, by="demo", as_of=later)
        collected = await collector.run()
        after = await _sizes(system)
        read_after = len((await system.record(jobs[0])).stored.lines)
        await _played(system, made)
        again = await _sizes(system)
        await keeping.mirror(system)
        return Retired(len(jobs), collected, empty, full, after, again, system.lake, read_before, read_after)


async def _played(system: AsyncSystem, made: Generated) -> list[str]:
    return (await play(system, [_Run(r["task_id"], r["trial"], r["traj"]) for r in made.runs], made.world)).jobs


async def _sizes(system: AsyncSystem) -> dict[str, int]:
    async with await system.database.connect("app") as connection:
        return await health.table_bytes(connection)
