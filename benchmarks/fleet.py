"""Worker processes under a limit, and what their tool itself saw: the tool writes down when it was started.

Used by the benchmark of limits and by the tests that kill workers.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aetheris as ae
from aetheris.domain.errors import Unusable

ROOT = Path(__file__).parents[1]
LOG = "AETHERIS_FLEET_LOG"
READY_SECONDS = 60


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
    return await ctx.call(hit, n=n)


@dataclass(frozen=True, slots=True)
class Start:
    """One start, by the tool's own log."""

    at_ns: int
    pid: int
    n: int


@contextmanager
def workers(
    count: int, *, dsn: str, config: Path, log: Path, lease_seconds: float = 5.0
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield `count` worker processes; they are drained on leaving."""
    env = {**os.environ, "AETHERIS_DSN": dsn, LOG: str(log)}
    command = [sys.executable, "-m", "aetheris", "--config", str(config), "worker", "benchmarks.fleet:caller"]
    command += ["--concurrency", "100", "--lease", str(lease_seconds), "--metrics-port", "0"]
    with (log.parent / "workers.log").open("ab") as said:
        started = [subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


async def serving(system: ae.AsyncSystem, count: int) -> None:
    """Return once `count` workers are known to the store. Errors: Unusable."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        async with await system.database.connect("worker") as connection:
            row = await (await connection.execute("SELECT count(*) AS n FROM aetheris.workers")).fetchone()
        if row is not None and row["n"] >= count:
            return
        await asyncio.sleep(0.1)
    raise Unusable(f"{count} workers did not come up within {READY_SECONDS} s")


def starts(log: Path) -> list[Start]:
    """Return the tool's own record, in order of time."""
    if not log.exists():
        return []
    return sorted((Start(*(int(x) for x in line.split())) for line in log.read_text().splitlines()), key=_at)


def achieved_per_second(found: Sequence[Start]) -> float:
    """Return (n - 1) / (last - first)."""
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


def _at(start: Start) -> int:
    return start.at_ns
