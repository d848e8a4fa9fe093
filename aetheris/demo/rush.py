"""A hundred jobs and more at once, kept up for a while: how long each takes, and how much of that is not its tools'.

Each lane submits a job, waits for its end, and submits the next, so that there
are always as many jobs as lanes. A job calls tools that take 50 to 500 ms, one
after the other. The tools measure themselves, and whoever submits has a watch
of his own: nothing here is the runtime's word.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aetheris as ae
from aetheris.domain.errors import Corrupt
from aetheris.domain.jobs import JobStatus
from aetheris.domain.rows import Rows
from aetheris.runtime import heap, keeping
from aetheris.runtime.lookout import at_rest

LANES = 115
CALLS = 5
TOOL_MS = (50, 500)
SECONDS = 8.0
#: The lanes begin within so long, as jobs of their own time would.
RAMP_SECONDS = 2.0
LOOK_SECONDS = 0.01

#: A job whose end a lane waits for.
Ends = dict[str, asyncio.Future[JobStatus]]


@dataclass(slots=True)
class _Watch:
    """What the tools see of themselves: how many jobs have one under way, and how long each job's took."""

    under_way: int = 0
    most: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


_watch = _Watch()


@ae.tool
async def errand(call: ae.Call, ms: int) -> int:
    """Take so long, and keep time."""
    watch, began = _watch, time.perf_counter()
    watch.under_way += 1
    watch.most = max(watch.most, watch.under_way)
    try:
        await asyncio.sleep(ms / 1e3)
    finally:
        watch.under_way -= 1
        watch.seconds[call.job] += time.perf_counter() - began
    return ms


@ae.agent
async def runner(ctx: ae.Context, plan: list[int]) -> int:
    """Run the errands, one after the other."""
    return sum([await ctx.call(errand, ms=ms) for ms in plan])


@dataclass(frozen=True, slots=True)
class Errand:
    """One job, by its submitter's watch: seconds since the rush began, and of that its tools' own."""

    job: str
    submitted_at: float
    ended_at: float
    tool_seconds: float

    @property
    def seconds(self) -> float:
        """From the call of submit until its end was known."""
        return self.ended_at - self.submitted_at

    @property
    def overhead_seconds(self) -> float:
        """What of that was not its tools'."""
        return self.seconds - self.tool_seconds


@dataclass(frozen=True)
class Rush:
    """What came of it; `most_at_once` counts jobs that had a tool under way at the same instant."""

    jobs: list[Errand]
    lanes: int
    most_at_once: int
    lake: Path

    @property
    def per_minute(self) -> float:
        """Jobs that ended in a minute, from the end of the ramp until the last submit; 0 where there was none."""
        first, last = RAMP_SECONDS, max(job.submitted_at for job in self.jobs)
        if last <= first:
            return 0.0
        return sum(first <= job.ended_at <= last for job in self.jobs) / (last - first) * 60

    @property
    def p95_seconds(self) -> float:
        """95 of 100 jobs took at most so long from submit to finish."""
        return quantile([job.seconds for job in self.jobs], 0.95)

    @property
    def p95_overhead_seconds(self) -> float:
        """95 of 100 jobs took at most so long beyond their tools' own time."""
        return quantile([job.overhead_seconds for job in self.jobs], 0.95)

    @property
    def table(self) -> Rows:
        """Milliseconds, at the median and where 95 of 100 jobs are done."""
        sides = {
            "submit to finish": [job.seconds for job in self.jobs],
            "its tools' own time": [job.tool_seconds for job in self.jobs],
            "the difference": [job.overhead_seconds for job in self.jobs],
        }
        rows = [[name, *(f"{quantile(v, q) * 1e3:,.0f}" for q in (0.5, 0.95, 1.0))] for name, v in sides.items()]
        return Rows(["a job's ms", "P50", "P95", "most"], rows)


def run(folder: Path, *, lanes: int = LANES, seconds: float = SECONDS, concurrency: int = 2 * LANES) -> Rush:
    """Keep `lanes` jobs under way for `seconds` and let the last ones end. Errors: Corrupt when one does not complete.

    Uses an embedded PostgreSQL in `folder` and a worker in this process, whose heap
    is settled as that of `aetheris worker` is. Works inside a running event loop.
    """
    heap.settle()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_run(folder, lanes, seconds, concurrency))).result()


async def _run(folder: Path, lanes: int, seconds: float, concurrency: int) -> Rush:
    global _watch
    _watch = _Watch()
    async with ae.AsyncSystem(home=folder / "home", lake=folder / "lake") as system:
        await system.start_worker([runner], ae.Settings(concurrency=concurrency))
        await system.wait([await system.submit(runner, [1])])  # connections and statements are made by it
        _watch, began = _Watch(), time.perf_counter()
        starts = [RAMP_SECONDS * n / lanes for n in range(lanes)]
        ends: Ends = {}
        looking = asyncio.create_task(_look(system, ends))
        try:
            lanes_run = (_lane(system, ends, random.Random(n), began, at, seconds) for n, at in enumerate(starts, 1))
            running = asyncio.gather(*lanes_run)
            either: list[asyncio.Future[Any]] = [looking, running]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():  # it failed, and nobody would be told of an end any more
                running.cancel()
                looking.result()
            found = await running
        finally:
            looking.cancel()
        await keeping.mirror(system)
    return Rush([job for lane in found for job in lane], lanes, _watch.most, folder / "lake")


async def _look(system: ae.AsyncSystem, ends: Ends) -> None:
    """Tell each lane of its job's end. One asks for all: a hundred askers were most of the load that they measured."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for job, status in (await system.wait(list(ends), seconds=0)).items() if ends else ():
            if at_rest(status):
                ends.pop(job).set_result(status)


async def _lane(
    system: ae.AsyncSystem, ends: Ends, pauses: random.Random, began: float, at: float, seconds: float
) -> list[Errand]:
    await asyncio.sleep(at)
    done: list[Errand] = []
    while not done or time.perf_counter() - began < seconds:
        plan = [pauses.randint(*TOOL_MS) for _ in range(CALLS)]
        submitted = time.perf_counter()
        job = await system.submit(runner, plan)
        # It can't have ended before; looking earlier would only keep the database busy.
        await asyncio.sleep(sum(plan) / 1e3)
        ends[job] = asyncio.get_running_loop().create_future()
        status = await ends[job]
        if status is not JobStatus.COMPLETED:
            raise Corrupt(f"job {job[:8]} is {status.word}, not completed")
        done.append(Errand(job, submitted - began, time.perf_counter() - began, _watch.seconds.pop(job)))
    return done


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that `share` of them are at most."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
