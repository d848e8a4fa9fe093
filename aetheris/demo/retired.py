"""Jobs that are collected, and as many after them: what a collection gives back, and what can still be asked.

The notebooks on replay and snapshots and on acceptance run it: a hundred
airline jobs on a PostgreSQL of their own, sealed, mirrored, compacted, looked
at as if 89 days had passed, collected as if a hundred had, then a hundred more.

A month is 20 jobs a minute for 30 days, as `benchmarks storage` reckons it: in
the store's steady state as many jobs leave as come, so a month adds there what
stays for good; in the lake it adds everything.
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
from aetheris.lake import Lake, open_lake
from aetheris.runtime import keeping
from aetheris.runtime.archive import compact
from aetheris.runtime.collection import Collected, Collector
from aetheris.runtime.system import AsyncSystem
from aetheris.store import health
from aetheris.store.mirror_rows import MirrorSource

RETENTION_DAYS, LATER_DAYS = 90, 100
#: A look before they are due.
EARLY_DAYS = 89
JOBS_A_MONTH = 20 * 60 * 24 * 30
#: What a collected job leaves in the store.
STAYS = ("job_tombstones", "audit_log", "audit_heads", "erasures")
GB = 1e9
#: Unix seconds beyond any day that is written to: only days that are over are compacted.
DAYS_END = 4e9
#: Sizes shown one by one; the others together.
SHOWN = ("job_events", "cells", "ledger", "jobs", "job_tombstones", "audit_log")


@dataclass(frozen=True)
class Retired:
    """What was measured. Sizes are bytes on disk by table, indexes included."""

    jobs: int
    #: Collected as if 89 days had passed.
    collected_early: int
    collected: Collected
    empty: dict[str, int]
    full: dict[str, int]
    after: dict[str, int]
    again: dict[str, int]
    lake: Path
    #: Of the lake's files, with the first jobs alone, compacted.
    lake_bytes: int
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

    @property
    def lake_gb_a_month(self) -> float:
        """What a month of such jobs adds to the lake, 10^9 bytes."""
        return self.lake_bytes / self.jobs * JOBS_A_MONTH / GB

    @property
    def store_gb_a_month(self) -> float:
        """What a month of such jobs adds to PostgreSQL for good, 10^9 bytes, indexes included."""
        return sum(self.after[name] for name in STAYS) / self.jobs * JOBS_A_MONTH / GB

    @property
    def store_gb_held_a_day(self) -> float:
        """What a day of such jobs takes in PostgreSQL until it is collected, 10^9 bytes, indexes included."""
        full = sum(self.full.values()) - sum(self.empty.values())
        return full / self.jobs * JOBS_A_MONTH / 30 / GB


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
        lake_bytes = await _compacted(system)
        early = await _collected(system, EARLY_DAYS)
        collected = await _collected(system, LATER_DAYS)
        after = await _sizes(system)
        read_after = len((await system.record(jobs[0])).stored.lines)
        await _played(system, made)
        again = await _sizes(system)
        await keeping.mirror(system)
    return Retired(
        len(jobs), early.jobs, collected, empty, full, after, again, system.lake, lake_bytes, read_before, read_after
    )


async def _collected(system: AsyncSystem, days_later: int) -> Collected:
    later = datetime.now(UTC) + timedelta(days=days_later)
    return await Collector(system.database, system.lake, days=RETENTION_DAYS, by="demo", as_of=later).run()


async def _compacted(system: AsyncSystem) -> int:
    """Merge the lake's small files, today's too, and return what readers then read."""
    source = MirrorSource(system.database)
    lake = Lake(system.lake, source.catalog_uri)
    try:
        await compact(source, lake, now=DAYS_END, grace_seconds=0)
    finally:
        lake.close()
    return sum(file.bytes for file in open_lake(system.lake).files)


async def _played(system: AsyncSystem, made: Generated) -> list[str]:
    return (await play(system, [_Run(r["task_id"], r["trial"], r["traj"]) for r in made.runs], made.world)).jobs


async def _sizes(system: AsyncSystem) -> dict[str, int]:
    async with await system.database.connect("app") as connection:
        return await health.table_bytes(connection)
