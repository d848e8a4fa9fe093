"""Long jobs, really run: how long a worker needs to go on with one, by its length and by what it goes on from.

Each job makes its steps and then waits to be told to go on, so that nothing
has ended and everything has to be replayed. What is timed is what a worker
does between a claim and the first new step: one statement, the history, and
the agent's own code from the top against it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import aetheris as ae
from aetheris.domain.errors import Corrupt
from aetheris.domain.rows import Rows
from aetheris.runtime import keeping
from aetheris.runtime.agents import Agent
from aetheris.runtime.config import Snapshots
from aetheris.runtime.replay import to_next_step
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.runtime.snapshots import take_asked
from aetheris.store import history
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.snapshots import due, snapshot_keys

LENGTHS = (500, 1_000, 5_000, 10_000, 20_000)
#: Of jobs that checkpoint.
RESUMED_LENGTHS = (500, 50_000)
CHECKPOINT_STEPS = 500
REPEATS = 3
#: What a worker goes on from.
EVENTS, SNAPSHOT, CHECKPOINT = "all events", "a snapshot", "a checkpoint"
WITHIN_SECONDS = 30.0
#: One job below the threshold of 1,000 events and one above it, and how often the timer comes by.
AROUND_THE_THRESHOLD = (900, 1_100)
TIMER_SECONDS = 0.5
TIMER_SECONDS_MOST = 20.0


@ae.tool(effect="none")
async def look(n: int) -> dict[str, int]:
    """A reading with a result of the usual form."""
    return {"next": n + 1, "seen": n}


@ae.agent
async def reader(ctx: ae.Context, steps: int) -> int:
    """Make `steps` readings, each with what the last one said; then wait to be told."""
    n = 0
    for _ in range(steps):
        n = (await ctx.call(look, n=n))["next"]
    await ctx.wait_signal("go on")
    return n


@ae.agent
async def resumer(ctx: ae.Context, left: int) -> int:
    """The same with a resume point every CHECKPOINT_STEPS readings."""
    while left:
        for n in range(CHECKPOINT_STEPS):
            await ctx.call(look, n=n)
        left -= CHECKPOINT_STEPS
        await ctx.checkpoint(left)
    await ctx.wait_signal("go on")
    return left


@dataclass(frozen=True, slots=True)
class Replay:
    """One job gone on with: its length, from what, and how long until its next step."""

    events: int
    begins_with: str
    seconds: float
    #: Of this process's processor: what others do meanwhile is not in it.
    cpu_seconds: float
    statements: int
    #: Events that were read: all, or those after the snapshot or checkpoint, and the first.
    read: int


@dataclass(frozen=True, slots=True)
class Timed:
    """One way to go on, timed; `reached` is the number of the next step, `read` how many events were read."""

    seconds: float
    cpu_seconds: float
    statements: int
    read: int
    reached: int


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot: what it cost."""

    events: int
    seconds: float
    fold_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, and the lake that tells of it."""

    replays: list[Replay]
    snapshots: list[Taken]
    lake: Path

    def seconds(self, events: int, begins_with: str) -> float:
        """Return how long the job of at least so many events took."""
        return next(r.seconds for r in self.replays if r.events >= events and r.begins_with == begins_with)

    def read(self, events: int, begins_with: str) -> int:
        """Return how many events were read of the job of at least so many."""
        return next(r.read for r in self.replays if r.events >= events and r.begins_with == begins_with)

    def saved(self, events: int) -> float:
        """Return which share of the processor's time from all events a snapshot saves."""
        return 1 - self._cpu_seconds(events, SNAPSHOT) / self._cpu_seconds(events, EVENTS)

    def growth(self) -> float:
        """Return the processor's time per event from a snapshot at the longest job, over that at 5,000 events."""
        longest = max(r.events for r in self.replays if r.begins_with == SNAPSHOT)
        return self._cpu_seconds(longest, SNAPSHOT) / longest / (self._cpu_seconds(5_000, SNAPSHOT) / 5_000)

    def checkpoint_growth(self) -> float:
        """Return the processor's time after a checkpoint in the longest job, over that in the shortest."""
        times = [r.cpu_seconds for r in self.replays if r.begins_with == CHECKPOINT]
        return times[-1] / times[0]

    def _cpu_seconds(self, events: int, begins_with: str) -> float:
        return next(r.cpu_seconds for r in self.replays if r.events >= events and r.begins_with == begins_with)

    @property
    def bytes_per_event(self) -> float:
        """Bytes of the longest job's snapshot per event."""
        longest = max(self.snapshots, key=lambda t: t.events)
        return (longest.fold_bytes + longest.packed_bytes) / longest.events

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """(events, seconds) by what the worker goes on from."""
        kinds = dict.fromkeys(r.begins_with for r in self.replays)
        return {kind: [(r.events, r.seconds) for r in self.replays if r.begins_with == kind] for kind in kinds}

    @property
    def table(self) -> Rows:
        """Milliseconds to the next step, by length and by what the worker goes on from."""
        rows = [[f"{r.events:,}", r.begins_with, f"{r.seconds * 1e3:,.1f}", r.statements] for r in self.replays]
        return Rows(["events", "goes on from", "ms to the next step", "statements"], rows)

    @property
    def costs(self) -> Rows:
        """What each snapshot cost."""
        rows = [
            [f"{t.events:,}", f"{t.seconds * 1e3:,.0f}", f"{t.fold_bytes:,}", f"{t.packed_bytes:,}",
             f"{(t.fold_bytes + t.packed_bytes) / t.events:.0f}"]
            for t in self.snapshots
        ]  # fmt: skip
        return Rows(["events", "ms to take", "bytes of the fold", "bytes to replay from", "bytes per event"], rows)


@dataclass(frozen=True, slots=True)
class Waited:
    """Jobs that a worker's timer came by, each by its steps, and the lake that tells of their snapshots."""

    jobs: dict[int, str]
    lake: Path


def run(folder: Path, lengths: Sequence[int] = LENGTHS, resumed_lengths: Sequence[int] = RESUMED_LENGTHS) -> Outcome:
    """Run the jobs, take their snapshots, time every way to go on with them, and mirror the record.

    Uses an embedded PostgreSQL in `folder`. Works inside a running event loop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_run(folder, lengths, resumed_lengths))).result()


def wait_for_timer(folder: Path, lengths: Sequence[int] = AROUND_THE_THRESHOLD) -> Waited:
    """Run the jobs, let the timer come by until nothing is due, and once more; mirror the record.

    The threshold is the usual one, 1,000 events; only the hour is shortened.
    Uses an embedded PostgreSQL in `folder`. Works inside a running event loop.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_wait_for_timer(folder, lengths))).result()


async def replay_seconds(
    connection: Connection, key: JobKey, agent: Agent, *, use_snapshots: bool, repeats: int = REPEATS
) -> Timed:
    """Return what going on with a job took, the best of `repeats`."""
    head_leaf, checkpoint = await history.stands(connection, key)
    best = Timed(float("inf"), float("inf"), 0, 0, 0)
    for _ in range(repeats):
        builder = ReplayContextBuilder(await snapshot_keys(connection), use_snapshots)
        gc.collect()
        began, used = time.perf_counter(), time.process_time()
        context = (await builder.build(connection, [key], [checkpoint]))[key]
        read = len(context.record.lines)
        reached = await to_next_step(agent, key, context.history(head_leaf))
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
        times = min(best.seconds, seconds), min(best.cpu_seconds, cpu_seconds)
        best = Timed(*times, builder.statements, read, reached)
    return best


async def _run(folder: Path, lengths: Sequence[int], resumed_lengths: Sequence[int]) -> Outcome:
    async with ae.AsyncSystem(home=folder / "home", lake=folder / "lake") as system:
        settings = ae.Settings(snapshot=Snapshots(enabled=False))
        worker = await system.start_worker([reader, resumer], settings)
        plain = [(system.tenant, await system.submit(reader, steps)) for steps in lengths]
        resumed = [(system.tenant, await system.submit(resumer, steps)) for steps in resumed_lengths]
        await system.wait([job for _, job in (*plain, *resumed)])
        worker.stop()
        async with await system.database.connect("worker") as connection:
            replays, snapshots = [], []
            for key, steps in zip(plain, lengths, strict=True):
                replays.append(await _timed(system, connection, key, reader, EVENTS, steps + 1))
                snapshots.append(await _snapshot(connection, key))
                replays.append(await _timed(system, connection, key, reader, SNAPSHOT, steps + 1))
            for key, steps in zip(resumed, resumed_lengths, strict=True):
                last = steps + steps // CHECKPOINT_STEPS + 1
                replays.append(await _timed(system, connection, key, resumer, CHECKPOINT, last))
        await keeping.mirror(system)
    return Outcome(replays, snapshots, system.lake)


async def _wait_for_timer(folder: Path, lengths: Sequence[int]) -> Waited:
    folder.mkdir(parents=True, exist_ok=True)
    async with ae.AsyncSystem(home=folder / "home", lake=folder / "lake") as system:
        settings = Snapshots(interval=TIMER_SECONDS)
        await system.start_worker([reader], ae.Settings(snapshot=settings))
        jobs = {steps: await system.submit(reader, steps) for steps in lengths}
        await system.wait(list(jobs.values()))
        deadline = time.monotonic() + TIMER_SECONDS_MOST
        async with await system.database.connect("worker") as connection:
            while await due(connection, settings.event_threshold, len(jobs)) and time.monotonic() < deadline:
                await asyncio.sleep(TIMER_SECONDS / 5)
        await asyncio.sleep(2 * TIMER_SECONDS)  # it comes by the short one once more
        await keeping.mirror(system)
    return Waited(jobs, system.lake)


async def _timed(
    system: ae.AsyncSystem, connection: Connection, key: JobKey, agent: Agent, begins_with: str, last: int
) -> Replay:
    timed = await replay_seconds(connection, key, agent, use_snapshots=begins_with == SNAPSHOT)
    if timed.reached != last:
        raise Corrupt(f"job {key[1][:8]}: its replay came to step {timed.reached}, not to its wait, step {last}")
    events = (await system.find(key[1])).head_seq
    return Replay(events, begins_with, timed.seconds, timed.cpu_seconds, timed.statements, timed.read)


async def _snapshot(connection: Connection, key: JobKey) -> Taken:
    began = time.perf_counter()
    taken = await take_asked(connection, key, Snapshots(), WITHIN_SECONDS)
    if taken is None:
        raise Corrupt(f"job {key[1][:8]}: no snapshot was taken")
    return Taken(taken.events, time.perf_counter() - began, taken.body_bytes, taken.packed_bytes)
