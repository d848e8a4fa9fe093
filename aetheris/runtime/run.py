"""One job in a worker's hands, from claim to the moment it lets go."""

from __future__ import annotations

import asyncio
import logging
import traceback
from dataclasses import dataclass
from typing import Any

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Diverged, Lost
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import metrics
from aetheris.runtime.agents import Agent
from aetheris.runtime.clock import Clock
from aetheris.runtime.engine import Engine, Suspended
from aetheris.runtime.history import History
from aetheris.runtime.joblog import JobLog
from aetheris.runtime.journal import Journal
from aetheris.runtime.limiter import Limiter
from aetheris.store.history import Record
from aetheris.store.leases import Lease

_log = logging.getLogger(__name__)

#: A wait shorter than this leaves a job `waiting`, a longer one `parked`.
PARK_SECONDS = 60
#: A job that couldn't even be begun is tried again after this long.
GIVE_BACK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class End:
    """How a worker's hold of a job ended."""

    word: str
    #: Set when the lease must be given back without an event, to be claimed again after so long.
    give_back_seconds: float | None = None
    error: str = ""


class Run:
    """Drives one leased job and writes how it ends."""

    def __init__(
        self,
        agent: Agent,
        lease: Lease,
        record: Record,
        journal: Journal,
        clock: Clock,
        worker: str,
        limiter: Limiter,
    ) -> None:
        self._limiter = limiter
        self._agent, self._lease, self._record = agent, lease, record
        self._journal, self._clock, self._worker = journal, clock, worker
        self._engine: Engine | None = None
        self._created_at = 0
        self.letting_go = False

    async def run(self) -> End:
        """Take the job as far as it goes; never raises but CancelledError."""
        try:
            history = History(self._lease.job, self._record, self._lease.head_leaf, self._lease.checkpoint_seq)
        except Corrupt as error:
            # A broken record is reported and left as it is: nothing is appended to it.
            _log.error("%s", error)
            return End("corrupt", GIVE_BACK_SECONDS * 10, str(error))
        self._record = Record()
        log = JobLog(
            self._journal,
            self._clock,
            tenant=self._lease.tenant,
            job=self._lease.job,
            epoch=self._lease.epoch,
            head_seq=self._lease.head_seq,
            head_leaf=self._lease.head_leaf,
            last_at=history.last_at,
            by=f"worker/{self._worker}",
        )
        try:
            data = {"worker_id": self._worker}
            if self._lease.taken_from is not None:
                data["taken_from"] = self._lease.taken_from
            leased = log.emit("job_leased", data=data)
            if history.last_type == "job_parked":
                metrics.job_unparked(self._agent.name, (leased.at - history.last_at) / 1e6)
            self._created_at = history.genesis.at
            return await self._drive(Engine(self._agent, history, log, leased_at=leased.at, limiter=self._limiter), log)
        except (Lost, Conflict) as error:
            metrics.lease_conflict(self._lease.tenant)
            _log.warning("%s", error)
            return End("lost", None if isinstance(error, Lost) else GIVE_BACK_SECONDS, str(error))
        except AetherisError as error:
            _log.error("job %s: %s", self._lease.job[:8], error)
            return End("given back", GIVE_BACK_SECONDS, str(error))

    def drain(self) -> None:
        """Let the job go at its next resting point."""
        if self._engine is not None:
            self._engine.drain()

    async def _drive(self, engine: Engine, log: JobLog) -> End:
        self._engine = engine
        try:
            result = await engine.drive()
            bodies = self._agent.result_cells(result)
        except Suspended as rest:
            return await self._rest(log, rest)
        except Diverged as error:
            metrics.replay_differed(self._lease.tenant)
            return await self._park(log, f"diverged: {error}")
        except (Lost, Conflict, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  whatever the job's code raises is how it ends
            log.emit("job_failed", data={"reason": type(error).__name__}, bodies=[("error", _told(error))])
            return await self._end(log, "failed")
        log.emit("job_completed", bodies=bodies)
        return await self._end(log, "completed")

    async def _end(self, log: JobLog, word: str) -> End:
        self.letting_go = True
        await log.durable()
        if word in ("completed", "failed", "cancelled"):
            seconds = (self._clock.now_us() - self._created_at) / 1e6
            metrics.job_ended(self._lease.tenant, self._agent.name, word, seconds)
        return End(word)

    async def _rest(self, log: JobLog, rest: Suspended) -> End:
        if rest.handing_over:
            log.release(JobStatus.RETRYING, rest.wake_at_us)
            return await self._end(log, "handed over")
        if rest.reason:
            return await self._park(log, rest.reason)
        long = rest.wake_at_us - self._clock.now_us() > PARK_SECONDS * 1e6
        log.release(JobStatus.PARKED if long else JobStatus.WAITING, rest.wake_at_us)
        return await self._end(log, "waiting")

    async def _park(self, log: JobLog, reason: str) -> End:
        log.emit("job_parked", data={"reason": reason})
        log.release(JobStatus.PARKED, 0)
        return await self._end(log, "parked")


def _told(error: BaseException) -> bytes:
    """Return an error as a cell's body: kind, message, and where in the job's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/aetheris/runtime/" not in f.filename] or frames
    told: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": str(error).encode("utf-8", "backslashreplace").decode(),
        "where": f"{own[-1].filename}:{own[-1].lineno}" if own else "",
    }
    return body_bytes(told)
