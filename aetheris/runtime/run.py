"""One job in a worker's hands, from claim to the moment it lets go."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Diverged, Lost
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import logs, metrics
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Cancelled, Continued, said
from aetheris.runtime.children import Children
from aetheris.runtime.clock import Clock
from aetheris.runtime.engine import Engine
from aetheris.runtime.failpoints import reach
from aetheris.runtime.foreign import CodeRaised
from aetheris.runtime.joblog import JobLog
from aetheris.runtime.journal import Journal
from aetheris.runtime.limiter import Limiter
from aetheris.runtime.llm.model import Models
from aetheris.runtime.replay_context import ReplayContext
from aetheris.runtime.rest import Suspended
from aetheris.runtime.taking import take
from aetheris.runtime.tracing import Traced
from aetheris.store.append import JobKey
from aetheris.store.inbox import Message
from aetheris.store.leases import Lease

_log = logging.getLogger(__name__)

#: A reason stands in the open line; it stays short.
REASON_LIMIT = 1000
TERMINAL_WORDS = frozenset({"completed", "failed", "cancelled"})
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
        context: ReplayContext,
        journal: Journal,
        clock: Clock,
        worker: str,
        limiter: Limiter,
        *,
        children: Children,
        models: Models | None = None,
        inbox: Sequence[Message] = (),
        checkpointed: Callable[[JobKey], None] = lambda key: None,
    ) -> None:
        self._limiter = limiter
        self._agent, self._lease, self._context = agent, lease, context
        self._checkpointed = checkpointed
        self._journal, self._clock, self._worker = journal, clock, worker
        self._children, self._models, self._inbox = children, models, inbox
        self._taken: set[str] = set()
        self._log: JobLog | None = None
        self._engine: Engine | None = None
        self._trace: Traced | None = None
        self._created_at = 0
        self.letting_go = self._draining = False
        self.alive_until = float("inf")

    async def run(self) -> End:
        """Take the job as far as it goes; never raises but CancelledError."""
        lease, word = self._lease, "lost"
        logs.bound(tenant=lease.tenant, job=lease.job, epoch=lease.epoch, agent=self._agent.name)
        try:
            end = await self._run()
            word = end.word
            return end
        finally:
            if self._trace is not None:
                self._trace.end(word)

    async def _run(self) -> End:
        try:
            history = self._context.history(self._lease.head_leaf)
        except Corrupt as error:
            # A broken record is reported and left as it is: nothing is appended to it.
            metrics.anomaly_found("inconsistent", "critical")
            _log.error("%s", error)
            return End("corrupt", GIVE_BACK_SECONDS * 10, str(error))
        trace = self._trace = Traced(
            history.traceparent,
            self._lease.tenant,
            self._lease.job,
            self._lease.epoch,
            self._agent.name,
            self._agent.version,
        )
        log = self._log = JobLog(
            self._journal,
            self._clock,
            tenant=self._lease.tenant,
            job=self._lease.job,
            epoch=self._lease.epoch,
            head_seq=self._lease.head_seq,
            head_leaf=self._lease.head_leaf,
            last_at=history.last_at,
            by=f"worker/{self._worker}",
            trace=trace,
            decisions=history.decisions,
        )
        log.alive_until = self.alive_until
        try:
            leased = log.emit("job_leased", data=self._leased() | trace.line())
            if history.last_type == "job_parked":
                metrics.job_unparked(self._agent.name, (leased.at - history.last_at) / 1e6)
            self._created_at = history.genesis.at
            self._engine = engine = Engine(
                self._agent,
                history,
                log,
                leased_at=leased.at,
                limiter=self._limiter,
                children=self._children,
                checkpointed=lambda: self._checkpointed(self._lease.key),
                models=self._models,
            )
            if self._draining:
                engine.drain()
            self.take(self._inbox)
            return await self._drive(engine, log)
        except (Lost, Conflict) as error:
            metrics.lease_conflict(self._lease.tenant)
            _log.warning("%s", error)
            return End("lost", None if isinstance(error, Lost) else GIVE_BACK_SECONDS, str(error))
        except AetherisError as error:
            _log.error("job %s: %s", self._lease.job[:8], error)
            return End("given back", GIVE_BACK_SECONDS, str(error))

    def take(self, messages: Sequence[Message]) -> None:
        """Make events of what came into the job's inbox; each is taken once, however often it is shown."""
        # Once the job is to rest, what comes stays in the inbox, and so the append that lets it go wakes it again:
        # taken, it would be on record with nobody to act on it, and nothing left to wake the job for.
        if self._engine is None or self._engine.resting or self.letting_go:
            return
        new = [m for m in messages if m.id not in self._taken]
        self._taken.update(m.id for m in new)
        take(self._engine, new)

    def heard(self, alive_until: float) -> None:
        """Note until when the lease was granted, by this process's monotonic clock."""
        self.alive_until = alive_until
        if self._log is not None:
            self._log.alive_until = alive_until

    def drain(self) -> None:
        """Let the job go at its next resting point."""
        self._draining = True
        if self._engine is not None:
            self._engine.drain()

    def _leased(self) -> dict[str, Any]:
        lease = self._lease
        data = {"agent_version": lease.agent_version, "worker_id": self._worker}
        if lease.taken_from is not None:
            data["taken_from"] = lease.taken_from
        if lease.version_before != lease.agent_version:
            data["accepted_version"] = lease.version_before
        return data

    async def _drive(self, engine: Engine, log: JobLog) -> End:
        try:
            result = await engine.drive()
            bodies = self._agent.result_cells(result)
        except Suspended as rest:
            return await self._rest(log, rest)
        except Diverged as error:
            metrics.replay_differed(self._lease.tenant)
            return await self._park(log, Suspended(0, f"diverged: {error}", waits_for="other code"))
        except (Lost, Conflict, asyncio.CancelledError):
            raise
        except Continued as continued:
            return await self._continued(engine, log, continued)
        except Cancelled as cancelled:
            return await self._cancelled(log, cancelled)
        except CodeRaised as raised:
            return await self._failed(log, raised.error)
        # A SystemExit is the job's end, not the worker's: it would go round, and end each that took the job over.
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the job's code raises is how it ends
            return await self._failed(log, error)
        log.emit("job_completed", bodies=bodies)
        return await self._end(log, "completed")

    async def _end(self, log: JobLog, word: str) -> End:
        self.letting_go = True
        reach("release.before")
        await log.durable()
        reach("release.after")
        for score in log.scores:
            metrics.decision_made(self._lease.tenant, score)
        if word in TERMINAL_WORDS:
            seconds = (self._clock.now_us() - self._created_at) / 1e6
            metrics.job_ended(self._lease.tenant, self._agent.name, word, seconds)
        if word in TERMINAL_WORDS and self._lease.parent is not None:
            await self._tell_parent(self._lease.parent, JobStatus[word.upper()])
        return End(word)

    async def _failed(self, log: JobLog, error: BaseException) -> End:
        log.emit("job_failed", data={"reason": type(error).__name__}, bodies=[("error", _told(error))])
        return await self._end(log, "failed")

    async def _cancelled(self, log: JobLog, cancelled: Cancelled) -> End:
        if cancelled.reason == "timeout":
            told = body_bytes({"kind": "JobTimeout", "message": "the job's time is over", "where": ""})
            log.emit("job_failed", data={"reason": "timeout"}, bodies=[("error", told)])
            return await self._end(log, "failed")
        log.emit("job_cancelled", data={"reason": f"cancelled by {cancelled.by}"})
        return await self._end(log, "cancelled")

    async def _continued(self, engine: Engine, log: JobLog, continued: Continued) -> End:
        # In this order: the successor is on record here before it exists, and exists before this run has ended.
        # Whoever takes over in between finds the record and submits the same successor.
        assert engine.continued is not None
        told = engine.continued.told
        assert told is not None
        await log.durable()
        await self._children.continue_as(engine, engine.continued)
        log.emit("job_completed", data={"continued_as": continued.job})
        log.goes_on(told.seq)
        return await self._end(log, "completed")

    async def _tell_parent(self, parent: str, status: JobStatus) -> None:
        try:
            await self._children.tell_parent(parent, status)
        except AetherisError as error:
            # The parent asks by itself before long.
            _log.info("job %s could not tell its parent: %s", self._lease.job[:8], error)

    async def _rest(self, log: JobLog, rest: Suspended) -> End:
        if rest.reason:
            return await self._park(log, rest)
        log.release(rest.status, rest.wake_at_us, rest.waits_for)
        return await self._end(log, "handed over" if rest.handing_over else "waiting")

    async def _park(self, log: JobLog, rest: Suspended) -> End:
        # What a tool said may be sensitive: it is a cell, never part of the line.
        why = [("why", body_bytes(_clean(rest.detail)))] if rest.detail else []
        log.emit("job_parked", data={"reason": _clean(rest.reason)[:REASON_LIMIT]}, bodies=why)
        log.release(JobStatus.PARKED, rest.wake_at_us, _clean(rest.waits_for))
        return await self._end(log, "parked")


def _clean(text: str) -> str:
    # A file name may hold half a surrogate pair, which UTF-8 can't carry; NUL no PostgreSQL text.
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _told(error: BaseException) -> bytes:
    """Return an error as a cell's body: kind, message, and where in the job's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/aetheris/runtime/" not in f.filename] or frames
    told: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": _clean(said(error)),
        "where": f"{own[-1].filename}:{own[-1].lineno}" if own else "",
    }
    return body_bytes(told)
