"""`limiter`: one budget over worker processes, its own cost, how well a what-if foretells, and a budget of tokens."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import aetheris as ae
import aetheris.workbench as wb
from aetheris.demo import fleet, token_run
from aetheris.domain.jobs import JobStatus
from aetheris.domain.limits import Limit
from aetheris.runtime.clock import Clock
from aetheris.runtime.limiter import Limiter
from aetheris.store import workers
from benchmarks.place import folder

WORKERS = 3
CALLS = 100
HOT_WAITERS = 10_000
HOT_QPS = 500_000
CHAINS = 50
STEPS = 100
ROUNDS = 7
ARRIVALS = 160
ARRIVALS_PER_SECOND = 16
TOKENS_PER_MINUTE, TOKEN_SECONDS = 60_000, 180
RECORDED_QPS, FORETOLD_QPS = 20.0, 10.0


class _Hot:
    def find(self, kind: str, name: str) -> Limit | None:
        return Limit(qps=HOT_QPS)


class _NoTurn:
    """What a call would enter if there were no limiter at all."""

    async def __aenter__(self) -> int:
        return 0

    async def __aexit__(self, *_: object) -> None:
        return None

    def used(self, tokens: int) -> None:
        return None

    def line(self) -> dict[str, Any]:
        return {}

    def hold(self, seconds: float) -> None:
        return None


@ae.tool(effect="none")
async def free(n: int) -> int:
    """A tool that nothing limits."""
    return n


@ae.agent
async def chain(ctx: ae.Context, steps: int) -> None:
    """Calls in a row."""
    for n in range(steps):
        await ctx.call(free, n=n)


def run() -> dict[str, object]:
    """Return the figures of limits; needs a quiet machine for those of cost."""
    with folder() as place:
        return _budget(place / "budget") | asyncio.run(_cost(place / "cost")) | _foretold(place)


def _budget(folder: Path) -> dict[str, object]:
    found = fleet.run(folder, calls=CALLS, workers=WORKERS, qps=10, burst=1)
    return {
        "achieved_qps": round(found.achieved_per_second, 3),
        "max_starts_in_1s": found.most_in_1s,
        "done": found.done,
        "workers": found.workers,
    }


async def _cost(home: Path) -> dict[str, object]:
    async with ae.AsyncSystem(home=home) as system:
        return {
            "reservations_per_s": round(await _hot(system)),
            "unlimited_overhead_ratio": round(await _overhead(system), 3),
            **await _tokens(system),
        }


async def _tokens(system: ae.AsyncSystem) -> dict[str, object]:
    """Fifty jobs that ask a model without pause at 60,000 tokens a minute, in real minutes."""
    found = await token_run.measure(
        system.database, tokens_per_minute=TOKENS_PER_MINUTE, window_seconds=60, seconds=TOKEN_SECONDS
    )
    return {
        "token_overrun_ratio": round(found.most_ratio, 4),
        "token_unused_ratio": round(-found.least_ratio, 4),
        "token_minutes": found.windows,
    }


async def _hot(system: ae.AsyncSystem) -> float:
    """Turns per second of three limiters on one key, each turn asked, reserved and entered."""
    async with await system.database.connect("worker") as connection:
        clock = Clock(await workers.clock_offset_us(connection))
    limiters = [Limiter(_Hot(), f"bench-{n}", clock, lambda: system.database.connect("worker")) for n in range(WORKERS)]

    async def turn(n: int) -> None:
        async with limiters[n % WORKERS].turn("tool", "hot", "bench", f"job-{n}", 1, 1):
            pass

    began = time.perf_counter()
    await asyncio.gather(*(turn(n) for n in range(HOT_WAITERS)))
    rate = HOT_WAITERS / (time.perf_counter() - began)
    for limiter in limiters:
        await limiter.close()
    return rate


async def _overhead(system: ae.AsyncSystem) -> float:
    """Time of unlimited calls through the limiter over time without one, round about in one run."""
    worker = await system.start_worker([chain], ae.Settings(concurrency=CHAINS))
    none = _NoTurn()
    through, without = worker._limiter.turn, lambda *_: none
    times: dict[Any, list[float]] = {through: [], without: []}
    for n in range(2 * ROUNDS + 2):
        turn = (through, without)[n % 2]
        worker._limiter.turn = turn  # type: ignore[method-assign, assignment]
        began = time.process_time()
        found = await system.wait(await asyncio.gather(*(system.submit(chain, STEPS) for _ in range(CHAINS))))
        assert set(found.values()) == {JobStatus.COMPLETED}, found  # a call that fails is cheap
        if n > 1:
            times[turn].append(time.process_time() - began)
    return statistics.median(times[through]) / statistics.median(times[without])


def _foretold(folder: Path) -> dict[str, object]:
    """Record at one limit, foretell another, then run that and compare."""
    arriving: dict[str, Any] = {"calls": ARRIVALS, "workers": WORKERS, "arrivals_per_second": ARRIVALS_PER_SECOND}
    recorded = fleet.run(folder / "recorded", qps=RECORDED_QPS, **arriving)
    foretold = wb.open(recorded.lake).limits("hit").what_if(qps=FORETOLD_QPS)
    real = wb.open(fleet.run(folder / "real", qps=FORETOLD_QPS, **arriving).lake).limits("hit").recorded()
    return {
        "whatif_p50_error": round(abs(foretold.p50_us / real.p50_us - 1), 4),
        "whatif_p95_error": round(abs(foretold.p95_us / real.p95_us - 1), 4),
    }
