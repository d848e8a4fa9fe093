"""A campaign of crashes: victims die at every boundary while jobs come in; then a person cleans up, and all is counted.

    python -m tests.crash.campaign --kills 100 --seeds 10

Two victims at a time serve the same jobs, each armed with a failpoint (or to be
killed by time, stopped past its lease and woken, or cut off from PostgreSQL).
When one has died another takes its place. In the end a sound worker brings
everything to rest, and a person who looks at the world resolves what is in
doubt. Then every job must have completed, every effect have happened once.
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.store.embedded import ADMIN, Embedded
from tests.crash.app import keeper, spender, splitter
from tests.crash.driver import LEASE_SECONDS, Crash, Process, Verdict

APP = ("tests.crash.app:spender", "tests.crash.app:splitter", "tests.crash.app:keeper")
AGENTS = (spender, splitter, keeper)
POINTS = (
    "claim.before", "claim.after", "start.before", "start.after", "effect.before", "effect.inside", "effect.after",
    "end.before", "end.after", "commit.before", "commit.after", "release.before", "release.after", "snapshot.before",
    "snapshot.after",
)  # fmt: skip
#: Every agent calls tools; claims and releases are fewer, so their points are armed for an early pass.
LATEST_PASS = 4
VICTIMS = 2
#: Victims take snapshots of whatever they see, so that most takeovers begin with one.
SNAPSHOTS = "{interval: 100ms, event_threshold: 1, keep_latest: 3}"
PATIENCE_SECONDS = 8.0
CUT = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'aetheris-worker'"
)


@dataclass(slots=True)
class Victim:
    """A worker that will not live long."""

    process: Process
    fault: str  # point:kill, point:stop, time, cut
    due: float  # by the monotonic clock: when it is killed whatever it is at
    woken: bool = False


@dataclass(slots=True)
class Campaign:
    """What was done to whom."""

    crash: Crash
    chance: random.Random
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    jobs: list[ae.Job] = field(default_factory=list)
    last_cut: float = float("-inf")

    def run(self, kills: int) -> Verdict:
        """Kill `kills` workers, clean up as a person would, and return the verdict."""
        victims: list[Victim] = []
        with psycopg.connect(self.crash.dsn, autocommit=True) as admin:
            while sum(self.kills.values()) < kills:
                while len(victims) < VICTIMS:
                    victims.append(self._victim())
                if len([j for j in self.jobs[-40:] if j.status is JobStatus.PENDING]) < 6:
                    self._submit()
                victims = [v for v in victims if self._lives(v, admin)]
                time.sleep(0.02)
            for victim in victims:
                victim.process.kill()
        self.crash.sound_worker(*APP, concurrency=20, snapshots=SNAPSHOTS)
        self._clean_up()
        return self.crash.judge(self.jobs)

    def _submit(self) -> None:
        for _ in range(4):
            agent = self.chance.choice(AGENTS)
            self.jobs.append(self.crash.system.submit(agent, self.chance.randint(1, 4)))

    def _victim(self) -> Victim:
        roll = self.chance.random()
        if roll < 0.75:
            fault = f"{self.chance.choice(POINTS)}:kill:{self.chance.randint(1, LATEST_PASS)}"
        elif roll < 0.87:
            fault = f"{self.chance.choice(POINTS)}:stop:{self.chance.randint(1, LATEST_PASS)}"
        else:
            fault = "time" if roll < 0.95 else "cut"
        process = self.crash.worker(*APP, failpoint=fault if ":" in fault else "", ready=False, snapshots=SNAPSHOTS)
        left = self.chance.uniform(0.6, 1.5) if ":" not in fault else PATIENCE_SECONDS
        return Victim(process, fault, time.monotonic() + left)

    def _lives(self, victim: Victim, admin: psycopg.Connection) -> bool:
        process, name = victim.process, victim.fault.rpartition(":")[0] or victim.fault
        if not process.alive:
            # Cut off while it registers, a worker says so and leaves; else nothing ends one but a kill.
            cut = time.monotonic() - self.last_cut < PATIENCE_SECONDS and "can't reach PostgreSQL" in process.tail()
            assert cut or process.code == -signal.SIGKILL, f"it ended with {process.code}:\n{process.tail()}"
            self.kills[name] += 1
            self.crash.deaths[process.pid] = time.time()
            return False
        if not victim.woken and process.stopped:
            # Long enough that another has taken over; then it wakes, and may write nothing.
            victim.woken, victim.due = True, time.monotonic() + 2.0
            time.sleep(LEASE_SECONDS + 0.3)
            process.send(signal.SIGCONT)
            return True
        if time.monotonic() < victim.due:
            return True
        if victim.fault == "cut" and not victim.woken:
            admin.execute(CUT)
            self.last_cut = time.monotonic()
            victim.woken, victim.due = True, time.monotonic() + 1.0
            return True
        self.crash.deaths[process.pid] = process.kill()
        self.kills[name if victim.woken or ":" not in name else "time"] += 1
        return False

    def _clean_up(self) -> None:
        """Resolve what is in doubt by looking at the world, until every job has completed."""
        deadline = time.monotonic() + 300
        while left := [job for job in self.jobs if not job.status.terminal]:
            assert time.monotonic() < deadline, f"{len(left)} jobs never end: {left[0]} {left[0].record.events[-1]}"
            happened = self.crash.world.keys()
            for job in left:
                record = job.record
                latest = {t.step: t for t in record.ledger}
                for step, last in latest.items():
                    if record.row.status is JobStatus.PARKED and last.status == "unknown":
                        began = next(t for t in record.ledger if t.step == step)
                        done = happened[began.idempotency_key] > 0
                        receipt = f"receipt-{began.idempotency_key[:24]}" if done else None
                        outcome = "done" if done else "not_done"
                        job.resolve(step, outcome, why="looked at the world", result=receipt, worker_gone=True)  # type: ignore[arg-type]
            time.sleep(0.2)


def campaign(dsn: str, folder: Path, seed: int, kills: int) -> tuple[Verdict, Campaign]:
    """Run one campaign and return its verdict. Errors: AssertionError when a job never ends."""
    with Crash(dsn, folder) as crash:
        made = Campaign(crash, random.Random(seed))
        verdict = made.run(kills)
        verdict.lost += [f"job {j.id[:8]} {j.status.word}" for j in made.jobs if j.status is not JobStatus.COMPLETED]
        return verdict, made


def main() -> int:
    """Run campaigns until so many kills are done; print each verdict. Exit 1 at the first fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign")
    options = parser.parse_args()
    left, seed, total = options.kills, options.seed, collections.Counter[str]()
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="aetheris-crash-", dir="/tmp") as name:
            folder = Path(name)
            folder.chmod(0o755)
            server = Embedded(folder / "home").start()
            try:
                verdict, made = campaign(server.dsn(ADMIN), folder, seed, min(100, left))
            finally:
                server.release()
        total += made.kills
        faults = [*verdict.lost, *verdict.stuck, *verdict.unsound]
        print(
            f"seed {seed}: {sum(made.kills.values())} kills, {len(made.jobs)} jobs, {verdict.completed} completed,"
            f" {verdict.snapshots} snapshots, {verdict.duplicates} duplicates, {len(faults)} faults {faults[:3]}",
            flush=True,
        )
        if verdict.duplicates or faults:
            return 1
        left, seed = left - 100, seed + 1
    print(f"{sum(total.values())} kills: {dict(sorted(total.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
