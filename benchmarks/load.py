"""`load`: what waiting costs, whether age slows the claim, and the runtime's own latency under many jobs.

    waiting   1,000 jobs that sleep or wait for a signal, and one worker with nothing else: its share of a core
    claim     one claim of a ready job in a store of few jobs, and again beside 100,000 finished ones
    latency   100 jobs at once, each calling a tool that takes 200 ms: from the call of submit to the start, for jobs
              that come 10 ms apart and for all in one burst; and what a step takes beyond its tool
    survive   1,000 jobs at once complete

Each from a run against one embedded PostgreSQL of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import pairwise
from pathlib import Path

import aetheris as ae
from aetheris.domain.errors import Corrupt
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import heap
from aetheris.store import leases
from aetheris.store.database import Connection
from benchmarks.place import measured

WAITING = 1_000
WATCHED_SECONDS = 20.0
FINISHED = 100_000
CLAIMS = 200
#: The best P95 of so many rounds: what disturbs a round is not the claim's.
ROUNDS = 10
AT_ONCE = 100
CALLS = 10
TOOL_SECONDS = 0.2
APART_SECONDS = 0.01
MANY = 1_000


@ae.agent
async def sleeper(ctx: ae.Context, _: int) -> None:
    """Sleep for days."""
    await ctx.sleep(7 * 86_400)


@ae.agent
async def listener(ctx: ae.Context, _: int) -> None:
    """Wait for a signal that never comes."""
    await ctx.wait_signal("never")


@ae.tool(effect="once")
async def slow(n: int) -> int:
    """A tool that takes its time."""
    await asyncio.sleep(TOOL_SECONDS)
    return n


@ae.agent
async def caller(ctx: ae.Context, calls: int) -> None:
    """Calls, one after the other."""
    for n in range(calls):
        await ctx.call(slow, n=n)


@ae.agent
async def idle(ctx: ae.Context, _: int) -> None:
    """Never run: it is there to be claimed."""


def run() -> dict[str, object]:
    """Return the figures by name."""
    return measured(_measure)


async def _measure(home: Path) -> dict[str, object]:
    heap.settle()
    async with ae.AsyncSystem(home=home) as system:
        figures = await _latency(system)
        figures |= await _waiting(system)
        figures |= await _claim(system)
    return figures


async def _latency(system: ae.AsyncSystem) -> dict[str, object]:
    worker = await system.start_worker([caller], ae.Settings(concurrency=MANY))
    burst = await asyncio.gather(*(system.submit(caller, 1) for _ in range(AT_ONCE)))
    await _complete(system, burst)
    coming = []
    for _ in range(AT_ONCE):
        coming.append(asyncio.create_task(system.submit(caller, CALLS)))
        await asyncio.sleep(APART_SECONDS)
    ids = await asyncio.gather(*coming)
    await _complete(system, ids)
    starts, steps = [], []
    for job in ids:
        events = (await system.record(job)).events
        starts.append((events[1].at - events[0].at) / 1e3)
        calls = [e for e in events if e.step]
        began = [*(e.at for e in calls[0::2]), events[-1].at]
        # From a call's start record to the next one's: all that is not the tool is the runtime's.
        steps += [(b - a) / 1e3 - TOOL_SECONDS * 1e3 for a, b in pairwise(began)]
    in_burst = [(await system.record(job)).events for job in burst]
    in_burst = [(await system.record(job)).events for job in burst]
    began = time.perf_counter()
    many = await asyncio.gather(*(system.submit(caller, 2) for _ in range(MANY)))
    await _complete(system, many)
    seconds = time.perf_counter() - began
    await _end(system, worker)
    return {
        "submit_to_start_ms_p95": _p95(starts),
        "burst_submit_to_start_ms_p95": _p95([(e[1].at - e[0].at) / 1e3 for e in in_burst]),
        "step_overhead_ms_p95": _p95(steps),
        "jobs_at_once_completed": len(many),
        "jobs_at_once_s": round(seconds, 2),
    }


async def _waiting(system: ae.AsyncSystem) -> dict[str, object]:
    worker = await system.start_worker([sleeper, listener], ae.Settings(concurrency=100))
    await asyncio.gather(*(system.submit((sleeper, listener)[n % 2], n) for n in range(WAITING)))
    while worker.counts.ended.get("waiting", 0) < WAITING:
        await asyncio.sleep(0.1)
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(WATCHED_SECONDS)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    await _end(system, worker)
    return {"waiting_jobs": WAITING, "waiting_core_share": round(share, 4)}


async def _claim(system: ae.AsyncSystem) -> dict[str, object]:
    async with await system.database.connect("worker") as connection:
        await leases.settle_plan(connection)
        few = min([await _claims(system, connection) for _ in range(ROUNDS)])
        await _finish_many(connection)
        many = min([await _claims(system, connection) for _ in range(ROUNDS)])
    return {
        "claim_ms_p95": round(few, 3),
        "claim_ms_p95_100000_finished": round(many, 3),
        "claim_ratio": round(many / few, 2),
    }


async def _claims(system: ae.AsyncSystem, connection: Connection) -> float:
    for n in range(CLAIMS):
        await system.submit(idle, n)
    times = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        taken = await leases.claim(
            connection, "bench", agents={"idle": "1"}, capabilities=[], limit=1, lease_seconds=3600
        )
        times.append((time.perf_counter() - began) * 1e3)
        if len(taken) != 1:
            raise Corrupt("a ready job was not claimed")
    # Each round begins with nothing claimed: a claim looks at every lease that is held.
    await connection.execute("UPDATE aetheris.jobs SET status = 2, lease_owner = NULL WHERE status = 1")
    return _p95(times)


async def _finish_many(connection: Connection) -> None:
    """Put FINISHED jobs into the store that have ended, copies of one row under ids of their own."""
    await connection.execute(
        "INSERT INTO aetheris.jobs (tenant_id, job_id, agent, agent_version, status, head_seq, head_leaf, lease_epoch)"
        " SELECT 'default', 'z' || lpad(n::text, 39, '0'), 'idle', '1', 2, 9, '\\x00', 1"
        " FROM generate_series(1, %s) n",
        [FINISHED],
    )


async def _complete(system: ae.AsyncSystem, ids: list[str]) -> None:
    found = await system.wait(ids)
    if set(found.values()) != {JobStatus.COMPLETED}:
        raise Corrupt(f"jobs did not complete: {sorted({s.word for s in found.values()})}")


async def _end(system: ae.AsyncSystem, worker: ae.Worker) -> None:
    worker.stop()
    await system._workers.pop(worker)


def _p95(values: list[float]) -> float:
    return round(statistics.quantiles(values, n=20)[-1], 2)
