"""The load: jobs of twelve tenants are submitted by a plan of the seed, and a person answers what they wait for.

60 jobs a minute whose overhead is measured, each of 5 to 11 tools of 50 to 500
ms; so many that call, sleep and call that at least 100 jobs are in hand; and
some of every other kind. A job is submitted under a key until its id is known:
an outage delays it, and never makes two.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

import aetheris as ae
from aetheris.demo import generate, long_jobs
from aetheris.demo.airline import airline
from aetheris.demo.player import _script
from aetheris.domain.errors import AetherisError
from aetheris.runtime.agents import Agent
from aetheris.store.airline import install
from aetheris.store.airline_data import load
from aetheris.store.database import Database
from ingest.tau_bench import Run, read_runs, read_world
from tests.soak import agents
from tests.soak.agents import Work

TENANTS = tuple(f"tenant-{n:02}" for n in range(1, 13))
AT_ONCE = 100
#: Submits at once: twelve tenants' pools of four would take half of what PostgreSQL has.
LINES = 12
#: Kind -> jobs a minute. `crowd` comes as often as it must.
A_MINUTE = {
    "stream": 60.0, "airline": 20.0, "limited": 12.0, "spread": 10.0, "listener": 6.0, "asker": 6.0, "talker": 6.0,
    "reader": 1.0, "resumer": 1.0,
}  # fmt: skip
LONG_STEPS = {"reader": 1_100, "resumer": 1_500}
#: A crowd's call and sleep take about so long.
CROWD_SECONDS = 2.8
Outside = (AetherisError, psycopg.Error, OSError, TimeoutError)


@dataclass(slots=True)
class Submitted:
    """A job as its submitter knows it; times are seconds since 1970, `job` is "" until it is made."""

    number: int
    tenant: str
    kind: str
    at: float
    tools_ms: int
    job: str = ""
    ended: float = 0.0


class Load:
    """Submits jobs and holds what was submitted. Use as an async context manager."""

    def __init__(self, dsn: str, folder: Path, lake: Path, seed: int) -> None:
        self._database, self._folder, self._lake = Database(dsn), folder, lake
        self.chance = random.Random(f"load {seed}")
        self._seed = seed
        self.systems: dict[str, ae.AsyncSystem] = {}
        self.submitted: list[Submitted] = []
        self.by_job: dict[str, Submitted] = {}
        self.open: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._stack = AsyncExitStack()
        self._lines = asyncio.Semaphore(LINES)

    async def __aenter__(self) -> Load:
        for tenant in TENANTS:
            system = ae.AsyncSystem(database=self._database, tenant=tenant, lake=self._lake)
            self.systems[tenant] = await self._stack.enter_async_context(system)
        await asyncio.to_thread(generate.write, self._folder / "airline", self._seed)
        await install(self._database)
        self._world = await load(self._database, read_world(self._folder / "airline"))
        self._runs: list[Run] = read_runs(self._folder / "airline" / "runs.jsonl.gz")
        return self

    async def __aexit__(self, *given: Any) -> None:
        await self._stack.__aexit__(*given)

    async def run(self, seconds: float) -> None:
        """Submit for so long; return when the last submit is through."""
        began = time.monotonic()
        due = {kind: self.chance.uniform(0.0, min(3.0, 60 / rate)) for kind, rate in A_MINUTE.items()}
        async with asyncio.TaskGroup() as tasks:
            while (now := time.monotonic() - began) < seconds:
                for kind, at in due.items():
                    if now >= at:
                        due[kind] = at + 60 / A_MINUTE[kind]
                        tasks.create_task(self._submit(kind, seconds - now))
                for _ in range(AT_ONCE - len(self.open)):
                    tasks.create_task(self._submit("crowd", seconds - now))
                await asyncio.sleep(0.1)

    def ended(self, job: str) -> None:
        """Note that a job is through."""
        found = self.by_job[job]
        found.ended = time.time()
        self.open.discard(f"{found.number}")

    async def _submit(self, kind: str, left: float) -> None:
        number = len(self.submitted) + 1
        agent, value, tools_ms = self._made(kind, number, left)
        made = Submitted(number, TENANTS[number % len(TENANTS)], kind, time.time(), tools_ms)
        self.submitted.append(made)
        self.open.add(f"{number}")
        async with self._lines:
            made.at = time.time()
            while not made.job:
                try:
                    made.job = await self.systems[made.tenant].submit(agent, value, key=f"soak-{number}")
                except Outside:
                    await asyncio.sleep(0.3)
        self.by_job[made.job] = made
        self.counts[kind] += 1

    def _made(self, kind: str, number: int, left: float) -> tuple[Agent, Any, int]:
        """Return agent, input, and the sum of what its tools take."""
        if kind == "airline":
            return airline, _script(self._runs[number % len(self._runs)], f"{self._world}/soak-{number}"), 0
        if kind in LONG_STEPS:
            return getattr(long_jobs, kind), LONG_STEPS[kind], 0
        if kind == "limited":
            return agents.stream, [("charge", 0)] * self.chance.randint(2, 4), 0
        calls = self.chance.randint(5, 11)
        if kind == "crowd":
            calls = max(1, min(self.chance.randint(8, 24), int(left / CROWD_SECONDS)))
        work: Work = [self._call() for _ in range(calls if kind in ("stream", "crowd") else 2)]
        agent: Agent = getattr(agents, kind)
        return agent, work, sum(ms for _, ms in work)

    def _call(self) -> tuple[str, int]:
        name = self.chance.choices(["look", "pay", "keep", "sure"], [2, 1, 1, 1])[0]
        return name, self.chance.randint(50, 500)
