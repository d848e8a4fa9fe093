"""`main`: the main job's figures, each from a run against an embedded PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from pathlib import Path

import aetheris as ae
from aetheris.domain.errors import Corrupt
from aetheris.domain.jobs import JobStatus
from aetheris.evidence import verify, write
from aetheris.forensics.checks import run_checks
from aetheris.forensics.session import Session
from aetheris.lake import Lake, open_lake
from aetheris.runtime.export import evidence_source
from aetheris.runtime.mirror import mirror_once
from aetheris.store import health
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from benchmarks import ceiling
from benchmarks.place import measured

JOBS = 100
STEPS = 100
ONE_STEP_JOBS = 200
EVIDENCE_STEPS = 2000
SHA_EVENTS = 200_000


@ae.tool
async def bump(n: int) -> int:
    """The cheapest effect there is: what remains is the runtime's own cost."""
    return n + 1


@ae.agent(version="1")
async def bumper(ctx: ae.Context, steps: int) -> int:
    """Make `steps` once calls, one after the other."""
    n = 0
    for _ in range(steps):
        n = await ctx.call(bump, n=n)
    return n


def run() -> dict[str, object]:
    """Return the figures by name."""
    return measured(_measure)


async def _measure(home: Path) -> dict[str, object]:
    figures: dict[str, object] = {}
    async with ae.AsyncSystem(home=home) as system:
        figures |= await _ceiling(system)
        async with await system.database.connect("app") as connection:
            figures |= await health.durability(connection)
        await system.start_worker([bumper], ae.Settings(concurrency=JOBS))
        figures |= await _throughput(system)
        figures |= await _latency(system)
        figures |= await mirrored_and_checked(system.database, home / "lake")
        figures |= await _plain(system, home)
    return figures


async def _ceiling(system: ae.AsyncSystem) -> dict[str, object]:
    jobs = [(system.tenant, await system.submit(bumper, STEPS)) for _ in range(JOBS)]
    rate, rows, size = await ceiling.steps_per_second(system.database, jobs, STEPS)
    async with await system.database.connect("worker") as connection:
        # Out of the way: nobody is to take these jobs up, their tool was never run.
        await connection.execute("UPDATE aetheris.jobs SET status = 6, lease_owner = NULL, wake_at = 'infinity'")
    return {"pg_ceiling_steps_per_s": round(rate), "rows_per_step": rows, "bytes_per_step": size}


async def _throughput(system: ae.AsyncSystem) -> dict[str, object]:
    before = await _store_bytes(system.database)
    began = time.perf_counter()  # before the submits: the worker begins with the first of them
    ids = await asyncio.gather(*(system.submit(bumper, STEPS) for _ in range(JOBS)))
    found = await system.wait(ids)
    seconds = time.perf_counter() - began
    if set(found.values()) != {JobStatus.COMPLETED}:
        raise Corrupt(f"jobs did not complete: {sorted({s.word for s in found.values()})}")
    grown = await _store_bytes(system.database) - before
    return {"once_steps_per_s": round(JOBS * STEPS / seconds), "pg_bytes_per_job": grown // JOBS}


async def _latency(system: ae.AsyncSystem) -> dict[str, object]:
    times = []
    for _ in range(ONE_STEP_JOBS):
        began = time.perf_counter()
        await system.wait([await system.submit(bumper, 1)])
        times.append((time.perf_counter() - began) * 1e3)
    return {
        "latency_ms_p50": round(statistics.median(times), 1),
        "latency_ms_p95": round(statistics.quantiles(times, n=20)[-1], 1),
    }


async def mirrored_and_checked(database: Database, folder: Path) -> dict[str, object]:
    """Mirror the store, run every check over the lake, and return what that took. Errors: Corrupt."""
    source = MirrorSource(database)
    lake = Lake(folder, source.catalog_uri)
    try:
        round_ = await mirror_once(source, lake)
    finally:
        lake.close()
    opened = open_lake(folder, verify=True)
    with Session.over_lake(opened) as session:
        results = list(run_checks(session))
        jobs = session.sql("select count(distinct job_id) as n from events").rows[0]["n"]
    if broken := [r.name for r in results if not r.passed]:
        raise Corrupt(f"the run's own record is broken: {', '.join(broken)}")
    events = round_.rows["events"]
    return {
        "mirror_rows_per_s": round(round_.total / round_.seconds),
        "duckdb_verify_events_per_s": round(events / sum(r.seconds for r in results)),
        "checks": len(results),
        "lake_bytes_per_job": sum(f.bytes for f in opened.files) // jobs,
    }


async def _plain(system: ae.AsyncSystem, home: Path) -> dict[str, object]:
    job = await system.submit(bumper, EVIDENCE_STEPS)
    await system.wait([job])
    package = home / "bench.zip"
    summary = write(evidence_source(await system.record(job)), package)
    began = time.perf_counter()
    verdict = verify(package)
    seconds = time.perf_counter() - began
    if verdict.failed:
        raise Corrupt(verdict.sentence)
    lines = [b"x" * 400] * SHA_EVENTS
    began = time.perf_counter()
    for line in lines:
        hashlib.sha256(b"\x00" + line).digest()
    return {
        "plain_verify_events_per_s": round(summary.events / seconds),
        "sha256_events_per_s": round(SHA_EVENTS / (time.perf_counter() - began)),
    }


async def _store_bytes(database: Database) -> int:
    async with await database.connect("app") as connection:
        cursor = await connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint AS bytes FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'aetheris' AND c.relkind = 'r'"
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row["bytes"])
