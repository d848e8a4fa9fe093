"""The peer's side of `throughput`: durable steps per second of one DBOS process, by kind and concurrency.

    python -m benchmarks.throughput_dbos URL [WAY...]

Prints one JSON object, "async 32" -> steps per second, for the ways given or for all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from dbos import DBOS

CONCURRENCIES = (4, 16, 32, 64, 100)
STEPS_IN_ALL = 1600


@DBOS.step()
def bump(n: int) -> int:
    """The cheapest effect there is."""
    return n + 1


@DBOS.workflow()
def bumper(steps: int) -> int:
    """Make `steps` steps, one after the other."""
    n = 0
    for _ in range(steps):
        n = bump(n)
    return n


@DBOS.step()
async def bump_async(n: int) -> int:
    """The cheapest effect there is."""
    return n + 1


@DBOS.workflow()
async def bumper_async(steps: int) -> int:
    """Make `steps` steps, one after the other."""
    n = 0
    for _ in range(steps):
        n = await bump_async(n)
    return n


def threads(jobs: int) -> float:
    """Return the rate of `jobs` workflows in threads."""
    steps = STEPS_IN_ALL // jobs
    began = time.perf_counter()
    handles = [DBOS.start_workflow(bumper, steps) for _ in range(jobs)]
    for handle in handles:
        handle.get_result()
    return jobs * steps / (time.perf_counter() - began)


async def tasks(jobs: int) -> float:
    """Return the rate of `jobs` workflows in one event loop."""
    steps = STEPS_IN_ALL // jobs
    began = time.perf_counter()
    await asyncio.gather(*(bumper_async(steps) for _ in range(jobs)))
    return jobs * steps / (time.perf_counter() - began)


def main() -> None:
    """Measure each way at each concurrency."""
    DBOS(
        config={
            "name": "throughput",
            "system_database_url": sys.argv[1],
            "application_version": "1",
            "log_level": "WARNING",
            "sys_db_pool_size": 20,
            "max_executor_threads": max(CONCURRENCIES),
        }
    )
    DBOS.launch()
    every = [f"{kind} {jobs}" for jobs in CONCURRENCIES for kind in ("threads", "async")]
    rates = {}
    for way in sys.argv[2:] or every:
        kind, jobs = way.split()
        rates[way] = threads(int(jobs)) if kind == "threads" else asyncio.run(tasks(int(jobs)))
    print(json.dumps(rates), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
