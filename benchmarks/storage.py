"""`storage`: what a job costs on disk, what collection gives back, and a month of it.

Airline runs are the mix: the generated ones, or recorded ones from the folders
that BENCH_RUNS (runs.jsonl.gz) and BENCH_WORLD name. They are played ROUNDS
times, measured, sealed, mirrored, compacted, collected, and played as often
again: what the second load adds to the store's size is what collection did not
give back.

A month is 20 jobs a minute for 30 days. In the store's steady state as many
jobs leave as come, so a month adds only what stays for good (tombstones, audit
chain); what it holds all the time is the retention's days of jobs.

The lake's metadata: 240 commits a table over 30 simulated days, compacted and expired
once a simulated day (the mirror does it hourly), against a month of data.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

import aetheris as ae
from aetheris.demo import generate
from aetheris.demo.player import play
from aetheris.domain.errors import Corrupt
from aetheris.forensics.checks import run_checks
from aetheris.forensics.source import open_source
from aetheris.lake import TABLES, Lake, Watermark, open_lake, sweep, tables
from aetheris.lake.lake import Published
from aetheris.lake.parquet import TableWriter
from aetheris.lake.rewrite import rewrite, worth_merging
from aetheris.lake.schema import DAY_MICROSECONDS
from aetheris.runtime.archive import compact
from aetheris.runtime.collection import Collector
from aetheris.runtime.mirror import mirror_once
from aetheris.runtime.sealing import seal_finished
from aetheris.store.airline_data import DataSet
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from benchmarks.place import measured
from ingest.tau_bench import Run, names_in_force, read_runs, read_world

ROUNDS = 10
JOBS_A_MONTH = 20 * 60 * 24 * 30
DAYS = 30
COMMITS_A_DAY = 8
#: What a simulated commit writes to: the tables that grow with every job.
COMMITTED = ("events", "cells", "ledger", "lease_changes", "limit_waits", "seals")
GB = 1e9


def run() -> dict[str, object]:
    """Return the figures by name."""
    return measured(_measure)


async def _measure(home: Path) -> dict[str, object]:
    runs, world, mix = _material(home)
    folder = home / "lake"
    async with ae.AsyncSystem(home=home, lake=folder) as system:
        database = system.database
        source = MirrorSource(database)
        lake = Lake(folder, source.catalog_uri)
        try:
            figures = await _load_and_collect(system, source, lake, runs, world)
        finally:
            lake.close()
    async with ae.AsyncSystem(home=home / "month") as system:  # a store has one lake
        source = MirrorSource(system.database)
        metadata = await asyncio.to_thread(_month_of_commits, Lake(home / "month" / "lake", source.catalog_uri))
    month = figures["lake_bytes_per_job"] * JOBS_A_MONTH
    return {
        "mix": mix,
        **figures,
        "jobs_per_month": JOBS_A_MONTH,
        "pg_gb_per_month": round(figures["pg_stays_bytes_per_job"] * JOBS_A_MONTH / GB, 3),
        "lake_gb_per_month": round(month / GB, 3),
        "pg_gb_held_at_1_day": round(figures["pg_bytes_per_job"] * JOBS_A_MONTH / DAYS / GB, 3),
        "pg_gb_held_at_90_days": round(figures["pg_bytes_per_job"] * JOBS_A_MONTH / DAYS * 90 / GB, 3),
        "metadata_bytes_after_month": metadata,
        "metadata_ratio": round(metadata / month, 5),
    }


def _material(home: Path) -> tuple[list[Run], DataSet, str]:
    recorded, world = os.environ.get("BENCH_RUNS"), os.environ.get("BENCH_WORLD")
    if recorded and world:
        runs = read_runs(Path(recorded))
        return runs, read_world(Path(world), renamed=names_in_force(runs) or None), "recorded airline runs"
    generate.write(home / "demo")
    return read_runs(home / "demo" / "runs.jsonl.gz"), read_world(home / "demo"), "generated airline runs"


async def _load_and_collect(
    system: ae.AsyncSystem, source: MirrorSource, lake: Lake, runs: list[Run], world: DataSet
) -> dict[str, Any]:
    database = system.database
    empty = _size(database)
    jobs = 0
    for _ in range(ROUNDS):  # a round of the mirror after each, so that there are small files to merge
        jobs += await _played(system, runs, world)
        await mirror_once(source, lake)
    full = _size(database)
    events = _count(database, "job_events")
    while (await seal_finished(database, by="bench")).more:
        pass
    await mirror_once(source, lake)
    done = await compact(source, lake, now=4e9, grace_seconds=0)
    lake_bytes = sum(file.bytes for file in open_lake(lake.folder).files)
    sealed = _size(database)
    _age(database)
    collected = await Collector(database, lake.folder, days=90, by="bench").run()
    if collected.jobs != jobs:
        raise Corrupt(f"{collected.jobs} of {jobs} jobs were collected: {dict(collected.kept)}")
    stays = _size(database, ("job_tombstones", "audit_log", "audit_heads", "erasures"))
    again = sum([await _played(system, runs, world) for _ in range(ROUNDS)])
    refilled = _size(database)
    _check(lake.folder, source)
    return {
        "jobs": jobs,
        "pg_bytes_per_job": (full - empty) // jobs,
        "pg_bytes_per_event": (full - empty) // events,
        "pg_stays_bytes_per_job": stays // jobs,
        "lake_bytes_per_job": lake_bytes // jobs,
        "lake_bytes_per_event": lake_bytes // events,
        "events_per_job": round(events / jobs, 1),
        "compacted_files": f"{done.files_before} to {done.files_after}",
        # Of what the first load took, how much the second did not take again.
        "gc_freed_ratio": round(1 - (refilled - sealed - stays) / ((full - empty) * again / jobs), 3),
        "vacuumed": collected.vacuumed,
    }


async def _played(system: ae.AsyncSystem, runs: list[Run], world: DataSet) -> int:
    played = await play(system, runs, world)
    for worker in list(system._workers):  # each round starts a worker of its own
        worker.stop()
        await system._workers.pop(worker)
    return len(played.jobs)


def _check(folder: Path, source: MirrorSource) -> None:
    with open_source(folder) as session:
        if broken := [r.name for r in run_checks(session) if not r.passed]:
            raise Corrupt(f"the run's own record is broken: {', '.join(broken)}")


def _admin(database: Database) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(database.admin_dsn, autocommit=True)


def _size(database: Database, names: Sequence[str] = ()) -> int:
    with _admin(database) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'aetheris' AND c.relkind = 'r'"
            " AND (%(names)s::text[] = '{}' OR relname = ANY (%(names)s))",
            {"names": list(names)},
        ).fetchone()
    assert row is not None
    return int(row[0])


def _count(database: Database, table: str) -> int:
    with _admin(database) as connection:
        row = connection.execute(f"SELECT count(*) FROM aetheris.{table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def _age(database: Database) -> None:
    with _admin(database) as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE aetheris.jobs SET created_at = created_at - interval '100 days',"
            " updated_at = updated_at - interval '100 days'"
        )


def _month_of_commits(lake: Lake) -> int:
    """Return the bytes of metadata that a month of commits leaves."""
    nothing = Published(None, "")
    mark = Watermark("1:1:", "bench", "bench", "bench", 1)
    try:
        for day in range(DAYS):
            for _ in range(COMMITS_A_DAY):
                for name, head in lake.heads(nothing).items():
                    if name in COMMITTED:
                        writer = TableWriter(head.shape, lake.folder)
                        writer.add(head.shape.batch(_row(name, day)))
                        files = [tables.data_file(head, lake.folder, f) for f in writer.finish()]
                        tables.append(head, files, mark)
            for head in lake.heads(nothing).values():
                now = head
                for paths in worth_merging(head, lake.folder, DAYS + 1):
                    now = rewrite(now, lake.folder, paths).head
            sweep.expire(lake.heads(nothing), lake.catalog, older_than_seconds=0)
            sweep.sweep(lake.folder, lake.catalog, grace_seconds=0)
        return sum(p.stat().st_size for n in TABLES for p in (lake.folder / n / "metadata").rglob("*") if p.is_file())
    finally:
        lake.close()


def _row(name: str, day: int) -> list[list[Any]]:
    """Return one row of a table, column by column, written on that day."""
    plain = {"text": "x", "bytes": b"x", "long": 1, "int": 1, "time": day * DAY_MICROSECONDS}
    given = {"tenant_id": "default", "line": "{}"}
    return [[given.get(c.name, plain[c.kind])] for c in TABLES[name].columns if not c.derived]
