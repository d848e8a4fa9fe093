"""What must hold, looked at from outside all along.

    progress    every second: each open job moves, sleeps, or is waited for; none is gone
    world       every few seconds: no effect twice
    lake        again and again: every check of `aetheris check`, each file's SHA-256 first
    records     some of the jobs that just ended: chain, cells, ledger and head as they stand in the store
    processes   every second: who ended by itself, who printed a traceback; memory and connections

A job's standing still is counted while the database is there; a sleep that is
due in the future is a reason, and everything else that a job can wait for here
is answered within seconds, so it is none.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from aetheris.domain.errors import AetherisError, Refused, Unusable
from aetheris.domain.jobs import JobStatus
from aetheris.forensics.checks import run_checks
from aetheris.forensics.source import open_source
from aetheris.lake import open_lake
from tests.crash.driver import unsound
from tests.soak.faults import Faults
from tests.soak.load import Load, Outside, Submitted
from tests.soak.processes import LEASE_SECONDS, Fleet

LOOK_SECONDS = 1.0
WORLD_SECONDS = 5.0
CHECK_SECONDS = 10.0
#: A check pass may take one part in so many of the time.
CHECK_SHARE = 6
SAMPLE_SECONDS = 5.0
RECORDS = 6
#: What a takeover, a person's answer and a busy machine may take beyond a lease.
SLACK_SECONDS = 26.0
STUCK_SECONDS = LEASE_SECONDS + SLACK_SECONDS
OPEN = (
    "SELECT job_id, status, head_seq, lease_epoch, wake_at > now() AND wake_at < 'infinity' FROM aetheris.jobs"
    " WHERE status NOT IN (2, 3, 4)"
)
KNOWN = "SELECT job_id FROM aetheris.jobs UNION SELECT job_id FROM aetheris.job_tombstones"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
SIZE = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'aetheris' AND c.relkind = 'r'"
)


@dataclass(slots=True)
class Stand:
    """Where an open job was seen last, and for how long it has stood there."""

    place: tuple[int, int, int]  # status, head, epoch
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured at one time."""

    at: float
    connections: int
    store_bytes: int
    lake_bytes: int
    lake_events: int
    jobs_ended: int


@dataclass(slots=True)
class Found:
    """What was found wrong; nothing, in a good run."""

    duplicates: int = 0
    lost: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    violations: Counter[str] = field(default_factory=Counter)
    unsound: list[str] = field(default_factory=list)
    unfinished: Counter[str] = field(default_factory=Counter)


class Watch:
    """Looks, and notes what it finds."""

    def __init__(self, load: Load, fleet: Fleet, faults: Faults) -> None:
        self._load, self._fleet, self._faults = load, fleet, faults
        self.found = Found()
        self.stands: dict[str, Stand] = {}
        self.samples: list[Sample] = []
        self.checks = self.records = self.looks = 0
        self._looked = time.time()
        self._sound: set[str] = set()

    def parked(self) -> list[Submitted]:
        """Return the jobs that wait for a person."""
        here = [job for job, stand in self.stands.items() if stand.place[0] == JobStatus.PARKED]
        return [self._load.by_job[job] for job in here if job in self._load.by_job]

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.gather(
            self._again(LOOK_SECONDS, self._look),
            self._again(WORLD_SECONDS, self._count),
            self._again(SAMPLE_SECONDS, self._sample),
            self._again(SAMPLE_SECONDS, self._look_at_records),
            self._check_again(),
        )

    async def _again(self, seconds: float, work: object) -> None:
        while True:
            try:
                await work()  # type: ignore[operator]
            except Outside:
                if not self._faults.away:
                    raise
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        self._fleet.look(away=self._faults.away)
        for member in [*self._fleet.workers, self._fleet.mirror]:
            member.sample()
        before = set(self._load.by_job)
        rows = await asyncio.to_thread(self._ask, OPEN)
        now, self.looks = time.time(), self.looks + 1
        passed, self._looked = now - self._looked, now
        seen: dict[str, Stand] = {}
        for job, status, head, epoch, sleeps in rows:
            stand = self.stands.get(job)
            if stand is None or stand.place != (status, head, epoch) or sleeps or self._faults.away:
                stand = Stand((status, head, epoch))
            else:
                stand.seconds += passed
            if stand.seconds > STUCK_SECONDS:
                kind = self._load.by_job[job].kind if job in self._load.by_job else "?"
                self.found.stuck.add(f"{job[:8]} ({kind}, {JobStatus(status).word}, event {head}, epoch {epoch})")
            seen[job] = stand
        self.stands = seen
        for job in before - seen.keys():
            if not self._load.by_job[job].ended:
                self._load.ended(job)

    async def _count(self) -> None:
        def twice() -> int:
            files = [p for p in self._fleet.place.world.iterdir() if "." not in p.name]
            counts: Counter[str] = Counter()
            for path in files:
                counts.update(line.split(" ", 1)[0] for line in path.read_text().splitlines())
            return sum(n - 1 for n in counts.values())

        self.found.duplicates = await asyncio.to_thread(twice)

    async def _sample(self) -> None:
        before = set(self._load.by_job)
        known = {row[0] for row in await asyncio.to_thread(self._ask, KNOWN)}
        self.found.lost |= {f"{job[:8]} is known to nobody" for job in before - known}
        connections = (await asyncio.to_thread(self._ask, CONNECTIONS))[0][0]
        size = (await asyncio.to_thread(self._ask, SIZE))[0][0]
        lake, events = await asyncio.to_thread(self._lake_size)
        ended = sum(1 for j in self._load.submitted if j.ended)
        self.samples.append(Sample(time.time(), connections, size, lake, events, ended))

    def _lake_size(self) -> tuple[int, int]:
        try:
            lake = open_lake(self._fleet.place.lake)
        except Unusable:  # its first round is still to come
            return 0, 0
        return sum(file.bytes for file in lake.files), lake.tables["events"].rows

    async def _look_at_records(self) -> None:
        ended = [j for j in self._load.submitted if j.ended and time.time() - j.ended < 2 * SAMPLE_SECONDS]
        for job in [j for j in ended if j.job not in self._sound][-RECORDS:]:
            try:
                record = await self._load.systems[job.tenant].record(job.job)
            except Refused:  # it left for the lake between two looks
                continue
            self._sound.add(job.job)
            self.records += 1
            self.found.unsound += await asyncio.to_thread(unsound, record)
            if record.row.status is not JobStatus.COMPLETED:
                self.found.unfinished[f"{job.kind} {record.row.status.word}"] += 1

    async def _check_again(self) -> None:
        while True:
            began = time.monotonic()
            await self.check()
            took = time.monotonic() - began
            await asyncio.sleep(max(CHECK_SECONDS, CHECK_SHARE * took))

    async def check(self) -> None:
        """Run every check over the lake as it stands."""
        await asyncio.to_thread(self._check)

    def _check(self) -> None:
        try:
            with open_source(self._fleet.place.lake) as session:
                for result in run_checks(session):
                    if not result.passed:
                        row = result.answer.rows[0]
                        words = f"{result.name}: job {row['job_id'][:8]} event {row['seq']}: {row['rule']}"
                        self.found.violations[words] = max(self.found.violations[words], result.violations)
        except Unusable as error:
            if (self._fleet.place.lake / "lake.json").exists():
                self.found.violations[f"the lake can't be opened: {error}"] += 1
            return
        except (AetherisError, OSError) as error:
            self.found.violations[f"the lake can't be checked: {type(error).__name__}: {error}"] += 1
            return
        self.checks += 1

    def _ask(self, text: str) -> list[tuple]:  # type: ignore[type-arg]
        with psycopg.connect(self._fleet.place.dsn, autocommit=True) as admin:
            return admin.execute(text.encode()).fetchall()
