"""Drive crashes: real workers in processes of their own, killed by plan, then everything counted.

    with Crash(dsn, folder) as crash:
        victim = crash.worker("tests.crash.app:spender", failpoint="effect.inside:kill:3")
        jobs = [crash.system.submit(spender, 5) for _ in range(4)]
        died_at = victim.wait_dead()
        crash.sound_worker("tests.crash.app:spender")
        verdict = crash.judge(jobs)

A worker is `aetheris worker`, nothing of ours between. What is asked of the
world (tests/crash/world.py) and of the store's own bytes by domain code: no
effect twice, no result lost, no job stuck without saying so, every chain and
ledger sound.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

import aetheris as ae
from aetheris.domain import canonical, events, ledger, merkle
from aetheris.domain.cells import commitment
from aetheris.domain.errors import AetherisError
from aetheris.domain.fold import dumps, fold
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.record import JobRecord
from tests.crash.world import World

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 1.0
#: Of a worker that nothing is done to: a busy machine may let it stand still for longer than the short one.
SOUND_LEASE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill of a plan: inside the `nth` effect of a process, or after some time when `nth` is 0."""

    nth: int
    delay_seconds: float

    @property
    def failpoint(self) -> str:
        """What AETHERIS_FAILPOINT is for it; "" when the driver kills by time."""
        return f"effect.inside:kill:{self.nth}" if self.nth else ""


def plan(seed: int, kills: int, effects: int, within_seconds: float = 0.3) -> list[Kill]:
    """Return `kills` kills, the same for the same seed.

    Every other one strikes inside one of the first `effects` effects of a
    process, the others at some time within `within_seconds`.
    """
    chance = random.Random(seed)
    return [Kill(0 if n % 2 else chance.randint(1, effects), chance.uniform(0.0, within_seconds)) for n in range(kills)]


class Process:
    """A process that is to be killed, stopped, continued. Its output lies in a file."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], output: Path) -> None:
        self.output = output
        with output.open("ab") as file:
            self._popen = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True)
        self.pid = self._popen.pid

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        return self._popen.poll() is None

    @property
    def stopped(self) -> bool:
        """True while it is stopped by a signal."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, number)

    def kill(self) -> float:
        """Kill it and return when, in seconds since 1970."""
        at = time.time()
        self.send(signal.SIGKILL)
        self._popen.wait()
        return at

    def wait_dead(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Return when it ended. Errors: AssertionError when it lives on."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._popen.args} lives on after {seconds:g} s:\n{self.tail()}") from None
        return time.time()

    @property
    def code(self) -> int | None:
        """Its exit code; minus the signal that ended it."""
        return self._popen.poll()

    def tail(self) -> str:
        """Return the last of what it said."""
        return self.output.read_text(errors="replace")[-2000:]


@dataclass(slots=True)
class Verdict:
    """What came of some jobs."""

    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    completed: int = 0
    parked: int = 0
    snapshots: int = 0
    #: seconds from a worker's death to the moment another held its job
    takeovers: list[float] = field(default_factory=list)

    def assert_clean(self) -> None:
        """Return only if nothing happened twice, nothing is lost, stuck or unsound."""
        assert not self.duplicates, f"{self.duplicates} effects happened twice"
        faults = [*self.lost, *self.stuck, *self.unsound]
        assert not faults, faults


class Crash:
    """One store, one world, and the workers set on them. Nothing of it lives on when it closes."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.folder = dsn, folder
        self.world = World(folder / "world")
        self.processes: list[Process] = []
        self.deaths: dict[int, float] = {}
        self._system: ae.System | None = None

    def __enter__(self) -> Self:
        self._system = ae.open(self.dsn)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.send(signal.SIGKILL)
            process.wait_dead()
        self.system.close()

    @property
    def system(self) -> ae.System:
        """To submit and to look; it runs no worker."""
        assert self._system is not None
        return self._system

    def worker(
        self,
        *arguments: str,
        failpoint: str = "",
        lease_seconds: float = LEASE_SECONDS,
        concurrency: int = 4,
        ready: bool = True,
        snapshots: str = "{enabled: false}",
    ) -> Process:
        """Start `aetheris worker ARGUMENTS`, and return once it serves unless not `ready`.

        `snapshots` is its runtime.snapshot; none, unless they are what a test is about.
        """
        config = self.folder / f"config-{len(self.processes)}.yaml"
        # However long its own lease is, it looks as often as one with the short lease for leases that ran out.
        config.write_text(f"runtime: {{snapshot: {snapshots}}}\nworker: {{poll_interval: {LEASE_SECONDS / 2:g}}}\n")
        argv = [sys.executable, "-m", "aetheris", "worker", *arguments]
        argv += ["--lease", f"{lease_seconds:g}", "--concurrency", str(concurrency)]
        env = {"CONFIG_PATH": str(config)}
        process = self.start(argv, env | ({"AETHERIS_FAILPOINT": failpoint} if failpoint else {}))
        if ready:
            self.wait_ready(process)
        return process

    def sound_worker(self, *arguments: str, **options: Any) -> Process:
        """Start a worker that is to keep its jobs, and return once it serves: its lease is long."""
        return self.worker(*arguments, lease_seconds=SOUND_LEASE_SECONDS, **options)

    def start(self, argv: Sequence[str], env: dict[str, str]) -> Process:
        """Start any process that works on this store and this world."""
        given = {k: v for k, v in os.environ.items() if not k.startswith("AETHERIS_")}
        given |= {"AETHERIS_DSN": self.dsn, "WORLD": str(self.world.path), "PYTHONUNBUFFERED": "1", **env}
        process = Process(argv, given, self.folder / f"process-{len(self.processes)}.log")
        self.processes.append(process)
        return process

    def wait_ready(self, process: Process, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once the worker is registered. Errors: AssertionError when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not connection.execute("SELECT 1 FROM aetheris.workers WHERE pid = %s", [process.pid]).fetchone():
                assert process.alive, f"the worker ended with {process.code}:\n{process.tail()}"
                assert time.monotonic() < deadline, f"the worker isn't ready:\n{process.tail()}"
                time.sleep(0.01)

    def wait_effects(self, count: int, process: Process, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once the world has seen `count` effects, or `process` has ended."""
        deadline = time.monotonic() + seconds
        while process.alive and sum(self.world.keys().values()) < count:
            assert time.monotonic() < deadline, f"no effect comes:\n{process.tail()}"
            time.sleep(0.001)

    def dies(self, process: Process, kill: Kill) -> float:
        """Carry out one kill of a plan on a process that was armed with its failpoint; return when it died."""
        if kill.nth:
            died_at = process.wait_dead()
            assert process.code == -signal.SIGKILL, f"it ended by itself with {process.code}:\n{process.tail()}"
        else:
            time.sleep(kill.delay_seconds)
            died_at = process.kill()
        self.deaths[process.pid] = died_at
        return died_at

    def wait(self, jobs: Sequence[ae.Job], seconds: float = PATIENCE_SECONDS) -> list[ae.Job]:
        """Return once every job has ended or is parked; or, after `seconds`, those that haven't."""
        deadline = time.monotonic() + seconds
        ids = [job.id for job in jobs]
        resting = [int(s) for s in JobStatus if s.terminal or s is JobStatus.PARKED]
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while True:
                rows = connection.execute(
                    "SELECT job_id FROM aetheris.jobs WHERE job_id = ANY (%s) AND status <> ALL (%s)", [ids, resting]
                ).fetchall()
                left = {row[0] for row in rows}
                if not left or time.monotonic() > deadline:
                    return [job for job in jobs if job.id in left]
                time.sleep(0.02)

    def judge(self, jobs: Sequence[ae.Job], seconds: float = PATIENCE_SECONDS) -> Verdict:
        """Wait for rest, then hold the world against results and ledgers, and the stored bytes against their rules."""
        verdict = Verdict(stuck=[f"job {job.id[:8]} is {job.status.word}" for job in self.wait(jobs, seconds)])
        happened = self.world.keys()
        verdict.duplicates = self.world.duplicates
        known: set[str] = set()
        folds = stored_folds(self.dsn)
        for job in jobs:
            record = job.record
            verdict.unsound += unsound(record)
            for seq, body in folds.get(job.id, {}).items():
                if body != dumps(fold(record.events[:seq])):
                    verdict.unsound.append(f"job {job.id[:8]}: its snapshot at {seq} is not the fold of its events")
                verdict.snapshots += 1
            calls = ledger.collect(record.ledger).values()
            known |= {call.idempotency_key for call in calls}
            verdict.lost += _lost(record, happened)
            verdict.completed += record.row.status is JobStatus.COMPLETED
            if record.row.status is JobStatus.PARKED:
                verdict.parked += 1
                if not record.events[-1].data.get("reason"):
                    verdict.stuck.append(f"job {job.id[:8]} is parked and says no reason")
            verdict.takeovers += self._takeovers(record)
        verdict.lost += [f"effect {key[:12]} is in the world and in no ledger" for key in happened.keys() - known]
        return verdict

    def _takeovers(self, record: JobRecord) -> Iterator[float]:
        died = {f"-{pid}-": at for pid, at in self.deaths.items()}
        for event in record.events:
            lost = event.data.get("taken_from") if event.type == "job_leased" else None
            if lost is not None:
                yield from (event.at / 1e6 - at for pid, at in died.items() if pid in lost)


def stored_folds(dsn: str) -> dict[str, dict[int, bytes]]:
    """Return the folds that stand in the store's snapshots: job -> seq -> body."""
    found: dict[str, dict[int, bytes]] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for job, seq, body in connection.execute("SELECT job_id, seq, body FROM aetheris.job_snapshots"):
            found.setdefault(job, {})[seq] = bytes(body)
    return found


def unsound(record: JobRecord) -> list[str]:
    """Return what is wrong with a job's stored bytes by the rules of the domain: chain, cells, ledger, head."""
    name, found = f"job {record.row.job[:8]}", []
    chain = events.Chain()
    told = []
    try:
        for line, leaf in zip(record.stored.lines, record.stored.leaves, strict=True):
            if merkle.leaf_hash(line) != leaf:
                found.append(f"{name}: a line does not match its leaf")
            event = events.from_value(canonical.loads(line))
            chain.add(event, leaf)
            if (transition := ledger.transition_of(event)) is not None:
                told.append(transition)
            found += [f"{name}: {fault}" for fault in _cells(record, event)]
        ledger.fold(record.ledger)
    except (AetherisError, ValueError) as error:
        found.append(f"{name}: {error}")
    if (chain.count, chain.head) != (record.row.head_seq, record.row.head_leaf.hex()):
        found.append(f"{name}: its row says another head")
    if told != sorted(record.ledger, key=lambda t: t.seq):
        found.append(f"{name}: events and ledger tell two stories")
    return found


def _cells(record: JobRecord, event: events.Event) -> Iterator[str]:
    for name, commit in event.cells.items():
        cell = record.stored.cells.get((event.seq, name))
        if cell is None or cell.salt is None or cell.body is None:
            yield f"cell {name} of event {event.seq} is missing"
        elif commitment(record.row.job, event.seq, name, cell.salt, cell.body).hex() != commit:
            yield f"cell {name} of event {event.seq} is not what was committed to"


def _lost(record: JobRecord, happened: Any) -> Iterator[str]:
    """Yield each result that the record misses or makes up, as far as the world can tell."""
    name = f"job {record.row.job[:8]}"
    done = {}
    for call in ledger.collect(record.ledger).values():
        if call.effect == "none" or call.status not in ("committed", "confirmed", "resolved"):
            continue
        if call.status == "committed" and not happened[call.idempotency_key]:
            yield f"{name}: step {call.step} is committed, and its effect is not in the world"
        if call.outcome in ("", "done"):
            done[call.step] = f"receipt-{call.idempotency_key[:24]}"
    if record.row.status is JobStatus.COMPLETED:
        result = record.result()
        if not isinstance(result, list) or sorted(result) != sorted(done.values()):
            yield f"{name}: its result is not what its calls returned"
