"""`throughput`: durable steps per second of one process, against the ceiling and the peer.

One embedded PostgreSQL with everything that durability asks for switched on.
In one run, ROUNDS times in turn: our own append statement with the same rows
ready made on one connection (the ceiling), 100 concurrent jobs of `once`
steps, and of `none` steps, and DBOS, in a process and a database of its own:
in the first round at every concurrency, then at the two that did best. At the
end the whole record is mirrored and every check runs over it: a figure of a
broken run is no figure. Rates are the best of their rounds; a ratio is the
median of the rounds', so that what else the machine does counts on both sides.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import aetheris as ae
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import heap
from aetheris.runtime.agents import Agent
from aetheris.store import health
from benchmarks import ceiling
from benchmarks.crash import database_of
from benchmarks.main_job import bumper, mirrored_and_checked
from benchmarks.place import measured

JOBS = 100
STEPS = 200
ROUNDS = 3


@ae.tool(effect="none")
async def look(n: int) -> int:
    """A reading: it may be run again, so nothing is written before it."""
    return n + 1


@ae.agent(version="1")
async def looker(ctx: ae.Context, steps: int) -> int:
    """Make `steps` readings, one after the other."""
    n = 0
    for _ in range(steps):
        n = await ctx.call(look, n=n)
    return n


def run() -> dict[str, object]:
    """Return the figures by name. Errors: Refused without DBOS; Corrupt when the record is not sound."""
    if find_spec("dbos") is None:
        raise Refused("this benchmark needs DBOS beside it: pip install -c constraints.txt -e '.[bench]'")
    return measured(_measure)


async def _measure(home: Path) -> dict[str, object]:
    rounds: list[dict[str, float]] = []
    ways: dict[str, float] = {}
    figures: dict[str, object] = {}
    async with ae.AsyncSystem(home=home) as system:
        async with await system.database.connect("app") as connection:
            figures |= await health.durability(connection)
        heap.settle()  # as `aetheris worker` does
        assert system.database.embedded is not None
        url = database_of(system.database.embedded, "peer")
        for _ in range(ROUNDS):
            rate, rows, size = await _ceiling(system)
            figures |= {"rows_per_step": rows, "bytes_per_step": size}
            once, none = await steps_per_second(system, bumper), await steps_per_second(system, looker)
            peer = await _peer(url, sorted(ways, key=lambda way: -ways[way])[:2])
            ways = {way: max(rate, ways.get(way, 0.0)) for way, rate in (ways | peer).items()}
            rounds.append({"pg_ceiling": rate, "once": once, "none": none, "dbos": max(peer.values())})
        figures |= await mirrored_and_checked(system.database, home / "lake")
    figures |= {f"{name}_steps_per_s": round(max(r[name] for r in rounds)) for name in rounds[0]}
    figures["rounds"] = [{name: round(rate) for name, rate in r.items()} for r in rounds]
    figures["dbos_by_concurrency"] = {way: round(rate) for way, rate in ways.items()}
    for name, other in (("ceiling", "pg_ceiling"), ("dbos", "dbos")):
        figures[f"ratio_to_{name}"] = round(statistics.median(r["once"] / r[other] for r in rounds), 2)
    return figures


async def steps_per_second(system: ae.AsyncSystem, agent: Agent) -> float:
    """Return the rate of JOBS jobs of STEPS steps each, from a worker's start to the last job's end."""
    ids = await asyncio.gather(*(system.submit(agent, STEPS) for _ in range(JOBS)))
    began = time.perf_counter()
    worker = await system.start_worker([agent], ae.Settings(concurrency=JOBS))
    found = await system.wait(ids)
    seconds = time.perf_counter() - began
    worker.stop()
    await system._workers.pop(worker)
    if set(found.values()) != {JobStatus.COMPLETED}:
        raise Corrupt(f"jobs did not complete: {sorted({s.word for s in found.values()})}")
    return JOBS * STEPS / seconds


async def _ceiling(system: ae.AsyncSystem) -> tuple[float, int, int]:
    jobs = [(system.tenant, await system.submit(bumper, STEPS)) for _ in range(JOBS)]
    measured = await ceiling.steps_per_second(system.database, jobs, STEPS)
    async with await system.database.connect("worker") as connection:
        # Out of the way: nobody is to take these jobs up, their tool was never run.
        await connection.execute(
            "UPDATE aetheris.jobs SET status = 6, lease_owner = NULL, wake_at = 'infinity' WHERE status = 1"
        )
    return measured


async def _peer(url: str, ways: Sequence[str]) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.throughput_dbos", url, *ways, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise Corrupt(f"DBOS ended with {process.returncode}")
    rates: dict[str, float] = json.loads(said.splitlines()[-1])
    return rates
