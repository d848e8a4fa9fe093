"""Restarts under load: nothing is lost, nothing is done twice, and no job waits long between two calls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.store.database import Database

JOBS, WORKERS = 40, 3
#: Calls a job before the first restart, after which it goes on until the last is over.
BEFORE = 10
#: What the issue promises of a job that is between calls.
DELAY_SECONDS = 1.0

AGENTS = """
import asyncio, os, threading, time
import aetheris as ae

def note(*words):
    line = (" ".join(map(str, (time.time_ns(), *words))) + "\\n").encode()
    out = os.open(os.environ["ROLLING_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(out, line)
    os.close(out)

def beat():
    last = time.time_ns()
    while True:
        time.sleep(0.05)
        now = time.time_ns()
        if now - last > 250_000_000:
            note("still", os.getpid(), (now - last) // 1000)
        last = now

if "ROLLING_LOG" in os.environ:
    threading.Thread(target=beat, daemon=True).start()

@ae.tool
async def work(call: ae.Call, n: int) -> bool:
    note("start", call.job, n)
    await asyncio.sleep(0.02 + 0.06 * (n % 3))
    note("end", call.job, n)
    return os.path.exists(os.environ["ROLLING_LOG"] + ".enough")

@ae.tool
def hang(call: ae.Call) -> None:
    note("start", call.job, 0)
    time.sleep(60)

@ae.agent
async def steady(ctx: ae.Context) -> int:
    n = 0
    while not await ctx.call(work, n=n):
        n += 1
    return n + 1

@ae.agent
async def hangs(ctx: ae.Context) -> None:
    await ctx.call(hang)
"""


class Fleet:
    """Worker processes, and what their tools wrote down."""

    def __init__(self, database: Database, folder: Path) -> None:
        (folder / "rolling.py").write_text(AGENTS)
        self.folder, self.log = folder, folder / "log"
        self.log.touch()
        self._env = {**os.environ, "AETHERIS_DSN": database.admin_dsn, "ROLLING_LOG": str(self.log)}

    def start(self) -> subprocess.Popen[bytes]:
        """One more worker."""
        words = [sys.executable, "-m", "aetheris", "worker", "rolling:steady", "rolling:hangs", "--metrics-port", "0"]
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(words, cwd=self.folder, env=self._env, stdout=said, stderr=said)

    def notes(self) -> list[tuple[float, str, str, int]]:
        """(second, start or end, job, n) of every call."""
        return [note for note in self._notes() if note[1] != "still"]

    def stood_still(self) -> list[tuple[float, float]]:
        """From when until when a whole worker stood still: the machine's doing."""
        return [(at - n / 1e6, at) for at, what, _, n in self._notes() if what == "still"]

    def _notes(self) -> list[tuple[float, str, str, int]]:
        rows = (line.split() for line in self.log.read_text().splitlines())
        return [(int(at) / 1e9, what, job, int(n)) for at, what, job, n in rows]


def agents(folder: Path) -> Any:
    """The agents, as the submitter has them."""
    sys.path.insert(0, str(folder))
    try:
        sys.modules.pop("rolling", None)
        import rolling  # type: ignore[import-not-found]

        return rolling
    finally:
        sys.path.remove(str(folder))


async def serving(system: ae.AsyncSystem, agent: ae.Agent, count: int) -> None:
    """Return once so many workers serve."""
    while True:
        async with await system.database.connect("worker") as connection:
            found = await (await connection.execute("SELECT count(*) AS n FROM aetheris.workers")).fetchone()
        if found is not None and found["n"] >= count:
            return
        await asyncio.sleep(0.05)


def test_a_rolling_restart_under_load_loses_and_repeats_nothing_and_delays_no_job(
    database: Database, tmp_path: Path
) -> None:
    """Every worker is restarted while all jobs go from call to call: an upgrade in the middle of the day."""
    fleet = Fleet(database, tmp_path)
    steady = agents(tmp_path).steady

    async def work() -> tuple[list[JobStatus], list[tuple[float, float]], int]:
        async with ae.AsyncSystem(database=database) as system:
            workers = [fleet.start() for _ in range(WORKERS)]
            try:
                await serving(system, steady, WORKERS)
                ids = [await system.submit(steady) for _ in range(JOBS)]
                while len(fleet.notes()) < 2 * JOBS * BEFORE:
                    await asyncio.sleep(0.1)
                drains = []
                for place in range(WORKERS):
                    began = time.time()
                    workers[place].send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(workers[place].wait, 30) == 0
                    drains.append((began, time.time()))
                    workers[place] = fleet.start()
                    await serving(system, steady, WORKERS)
                Path(f"{fleet.log}.enough").touch()
                found = await system.wait(ids, seconds=90)
                records = [await system.record(job) for job in ids]
                calls = sum(record.result() for record in records)
                assert not [e for record in records for e in record.events if e.type.endswith("_unknown")]
                return list(found.values()), drains, calls
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()

    statuses, drains, calls = asyncio.run(work())
    assert statuses == [JobStatus.COMPLETED] * JOBS
    notes = fleet.notes()
    starts = [(job, n) for _, what, job, n in notes if what == "start"]
    assert len(starts) == len(set(starts)) == calls
    usual, restarting = gaps(notes, drains, fleet.stood_still())
    # What a job waits between two calls anyway, on a machine as busy as this one, is not the restart's doing.
    assert max(restarting) <= max(usual) + DELAY_SECONDS


def gaps(
    notes: list[tuple[float, str, str, int]], drains: list[tuple[float, float]], still: list[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Seconds between the end of a job's call and the start of its next: at other times, and while one drained.

    Of the latter the time is left out for which a worker, any of them, stood still.
    """
    by_job: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for at, what, job, _ in sorted(notes):
        by_job[job].append((at, what))
    usual, restarting = [], []
    for each in by_job.values():
        for (ended, what), (began, _) in pairwise(each):
            if what == "end":
                during = any(ended <= until and began >= since for since, until in drains)
                left_out = sum(max(0.0, min(began, until) - max(ended, since)) for since, until in still)
                if during:
                    restarting.append(began - ended - left_out)
                else:
                    usual.append(began - ended)
    return usual, restarting


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM twice", "SIGTERM, then Ctrl-C"])
def test_a_second_signal_leaves_at_once_and_leaves_the_doubt(
    database: Database, tmp_path: Path, second: signal.Signals
) -> None:
    """A tool that hangs in a thread can't hold the process; its call is not called done, and not made again."""
    fleet = Fleet(database, tmp_path)
    hangs = agents(tmp_path).hangs

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = fleet.start()
            try:
                job = await system.submit(hangs)
                while not fleet.notes():
                    await asyncio.sleep(0.05)
                worker.send_signal(signal.SIGTERM)
                while "draining: calls under way end first" not in (tmp_path / "said").read_text():
                    assert worker.poll() is None, "it drains: the call is under way"
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.5)
                assert worker.poll() is None, "it drains: the call is under way"
                worker.send_signal(second)
                assert await asyncio.to_thread(worker.wait, 20) == 128 + second  # of the 30 s that it drains
                last = (await system.record(job)).events[-1]
                assert last.type == "tool_invocation_started"
            finally:
                worker.kill()
                worker.wait()

    asyncio.run(work())
    assert len(fleet.notes()) == 1


def test_a_job_that_is_handed_over_can_be_claimed_at_once_whatever_the_workers_clock(database: Database) -> None:
    """A worker's idea of now may be a little ahead of the database's: others would miss the job until they poll."""

    @ae.tool(effect="none")
    async def slow() -> None:
        await asyncio.sleep(0.3)

    @ae.agent
    async def goes_on(ctx: ae.Context) -> None:
        for _ in range(100):
            await ctx.call(slow)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([goes_on])
            job = await system.submit(goes_on)
            while len((await system.record(job)).events) < 3:
                await asyncio.sleep(0.02)
            worker._clock.offset_us += 900_000
            worker.stop()
            await system._workers.pop(worker)
            async with await database.connect("worker") as connection:
                row = await (
                    await connection.execute(
                        "SELECT lease_owner, wake_at <= clock_timestamp() AS due FROM aetheris.jobs"
                    )
                ).fetchone()
            assert row == {"lease_owner": None, "due": True}

    asyncio.run(work())
