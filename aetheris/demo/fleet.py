"""A rate limit over several worker processes, and what the limited tool itself saw.

The tool writes down when it was started, so nobody has to believe the limiter.
The notebook on limits, the benchmark and the tests that kill workers all run
this: jobs of one call each, workers of their own processes, one budget.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import aetheris as ae
from aetheris.domain.errors import Unusable
from aetheris.domain.jobs import JobStatus
from aetheris.domain.limits import Limit
from aetheris.forensics.source import open_source
from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store import jobs
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

LOG = "AETHERIS_FLEET_LOG"
READY_SECONDS = 60
#: Enough that each worker claims some.
WARM_JOBS = 100
DONE_SECONDS = 300
SILENCE_SECONDS = 45.0
#: Longer than it takes a worker to put its last waits on record.
SETTLE_SECONDS = 0.5


@ae.tool
async def hit(n: int) -> int:
    """An effect that notes its own start."""
    line = f"{time.time_ns()} {os.getpid()} {n}\n".encode()
    out = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(out, line)
    finally:
        os.close(out)
    return n


@ae.agent
async def caller(ctx: ae.Context, n: int) -> int:
    """One call of the limited tool."""
    return int(await ctx.call(hit, n=n))


@ae.tool
async def breathe() -> None:
    """No effect and no limit."""


@ae.agent
async def warm(ctx: ae.Context) -> None:
    """One call that nothing limits: a worker's connections and statements are made by it."""
    await ctx.call(breathe)


@dataclass(frozen=True, slots=True)
class Start:
    """One start, by the tool's own log."""

    at_ns: int
    pid: int
    n: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: the tool's record, how the jobs ended, the workers' metrics, the lake.

    `on_time` are the starts at most an interval after their slot. One comes
    later where the machine holds it (its start record is made durable in
    between): then a second has more of them than the limiter gave.
    """

    starts: list[Start]
    on_time: list[Start]
    done: int
    workers: int
    metrics: list[str] = field(repr=False)
    lake: Path

    @property
    def achieved_per_second(self) -> float:
        """(n - 1) / (last - first), by the tool's own log."""
        return achieved_per_second(self.starts)

    @property
    def most_in_1s(self) -> int:
        """The most starts in any second, wherever it begins."""
        return most_within(self.starts)

    def waits_by_prometheus(self) -> dict[float, int]:
        """Return the histogram of waits as the workers' metrics show it: upper bound -> calls, over all workers."""
        found: dict[float, int] = {}
        for text in self.metrics:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == "aetheris_rate_limit_wait_seconds_bucket" and sample.labels["name"] == hit.name:
                        bound = float(sample.labels["le"])
                        found[bound] = found.get(bound, 0) + int(sample.value)
        return found


@dataclass(slots=True)
class Process:
    """A worker process and the port of its metrics."""

    popen: subprocess.Popen[bytes]
    port: int

    @property
    def metrics(self) -> str:
        """What a scrape returns now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text: bytes = answer.read()
        return text.decode()


def run(
    folder: Path,
    *,
    calls: int = 100,
    workers: int = 3,
    qps: float = 10,
    burst: int = 1,
    arrivals_per_second: float | None = None,
    seed: int = 1,
) -> Outcome:
    """Submit one-call jobs to worker processes under a limit, wait for all, and mirror the record.

    All at once, or at random times at a mean rate, the same for the same seed.
    Uses an embedded PostgreSQL in `folder`. Works inside a running event loop.
    """
    pauses = random.Random(seed)
    rests = [pauses.expovariate(arrivals_per_second) if arrivals_per_second else 0.0 for _ in range(calls)]
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_run(folder, rests, workers, qps, burst))).result()


async def _run(folder: Path, rests: Sequence[float], count: int, qps: float, burst: int) -> Outcome:
    config, log, home = folder / "aetheris.yaml", folder / "starts", folder / "home"
    config.write_text(f"rate_limits:\n  tools:\n    hit: {{qps: {qps}, burst: {burst}}}\n")
    async with ae.AsyncSystem(home=home) as system:
        where = {"AETHERIS_HOME": str(home)}
        with processes(count, where=where, config=config, log=log) as started:
            await serving(system, count)
            ids = await _submit(system, rests)
            found = await system.wait(ids, seconds=DONE_SECONDS)
            await asyncio.sleep(SETTLE_SECONDS)
            scraped = [p.metrics for p in started]
        await _mirror(system.database, folder / "lake")
    done = sum(status is JobStatus.COMPLETED for status in found.values())
    seen = starts(log)
    on_time = punctual(seen, slots(folder / "lake", ids), Limit(qps=qps).interval_ns)
    return Outcome(seen, on_time, done, count, scraped, folder / "lake")


async def _submit(system: ae.AsyncSystem, rests: Sequence[float]) -> list[str]:
    if not any(rests):
        return await asyncio.gather(*(system.submit(caller, n) for n in range(len(rests))))
    ids, due = [], time.monotonic()
    for n, rest in enumerate(rests):
        due += rest
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        ids.append(await system.submit(caller, n))
    return ids


async def _mirror(database: Database, folder: Path) -> None:
    source = MirrorSource(database)
    lake = Lake(folder, source.catalog_uri)
    try:
        await mirror_once(source, lake)
    finally:
        lake.close()


@contextmanager
def processes(
    count: int,
    *,
    where: Mapping[str, str],
    config: Path,
    log: Path,
    lease_seconds: float = 30.0,
    concurrency: int = 100,
) -> Iterator[list[Process]]:
    """Yield `count` worker processes on the database that `where` (environment) names; drained on leaving."""
    env = {**os.environ, **where, LOG: str(log)}
    started = []
    with (log.parent / "workers.log").open("ab") as said:
        for _ in range(count):
            port = _free_port()
            command = [
                sys.executable,
                "-m",
                "aetheris",
                "--config",
                str(config),
                "worker",
                "aetheris.demo.fleet",
            ]
            command += ["--concurrency", str(concurrency), "--lease", str(lease_seconds), "--metrics-port", str(port)]
            started.append(Process(subprocess.Popen(command, env=env, stdout=said, stderr=said), port))
    try:
        yield started
    finally:
        for process in started:
            process.popen.terminate()
        for process in started:
            process.popen.wait(timeout=60)


async def serving(system: ae.AsyncSystem, count: int) -> None:
    """Return once `count` workers are up and have worked. Errors: Unusable."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        async with await system.database.connect("app") as connection:
            if await jobs.live_workers(connection, caller.name, SILENCE_SECONDS) >= count:
                break
        await asyncio.sleep(0.1)
    else:
        raise Unusable(f"{count} workers did not come up within {READY_SECONDS} s")
    await system.wait(await asyncio.gather(*(system.submit(warm) for _ in range(WARM_JOBS))), seconds=READY_SECONDS)


def starts(log: Path) -> list[Start]:
    """Return the tool's own record, in order of time."""
    if not log.exists():
        return []
    found = [Start(*(int(x) for x in line.split())) for line in log.read_text().splitlines()]
    return sorted(found, key=lambda s: s.at_ns)


def slots(lake: Path, ids: Sequence[str]) -> dict[int, int]:
    """Return the slot (microseconds) under which each call started, by the record; `ids` are the jobs in turn."""
    with open_source(lake) as session:
        rows = session.query("limits/slots", kind="tool", limit=hit.name).rows
    at = {str(row["job_id"]): int(row["slot_us"]) for row in rows}
    return {n: at[job] for n, job in enumerate(ids) if job in at}


def punctual(found: Sequence[Start], slots: Mapping[int, int], interval_ns: int) -> list[Start]:
    """Return the starts that came at most an interval after their slot; one that has no slot on record is no excuse."""
    return [s for s in found if s.n not in slots or s.at_ns - slots[s.n] * 1000 <= interval_ns]


def achieved_per_second(found: Sequence[Start]) -> float:
    """Return (n - 1) / (last - first); 0 for less than two."""
    if len(found) < 2:
        return 0.0
    return (len(found) - 1) / ((found[-1].at_ns - found[0].at_ns) / 1e9)


def most_within(found: Sequence[Start], seconds: float = 1.0) -> int:
    """Return the most starts in any window of that length, wherever it begins."""
    times = [s.at_ns for s in found]
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds * 1e9:
            first += 1
        most = max(most, last - first + 1)
    return most


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
