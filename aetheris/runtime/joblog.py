"""One job's log in the making: events built on the head that the holder believes.

Lines, leaves, cells and ledger rows are made here, in memory, at the moment
something happens; the journal makes them durable. `durable()` is the only
promise that they are: nothing with an effect may begin before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aetheris.domain import cells, events, ledger, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.decisions import Decisions
from aetheris.domain.encode import line_bytes
from aetheris.domain.errors import Lost
from aetheris.domain.events import Event
from aetheris.domain.jobs import STATUS_AFTER, JobStatus
from aetheris.runtime.clock import Clock
from aetheris.runtime.tracing import Traced
from aetheris.store.append import Batch

if TYPE_CHECKING:
    from aetheris.runtime.journal import Journal

Bodies = Sequence[tuple[str, bytes]]


def make_event(
    *,
    job: str,
    seq: int,
    prev: bytes | None,
    at: int,
    by: str,
    epoch: int,
    type: str,
    step: int,
    data: dict[str, Any],
    bodies: Bodies,
) -> tuple[Event, bytes, bytes, list[Cell]]:
    """Return the event, its line, its leaf, and its cells under fresh salts."""
    made: list[Cell] = []
    commits: dict[str, str] = {}
    for name, body in bodies:
        salt = cells.new_salt()
        made.append(Cell(seq, name, salt, body))
        commits[name] = cells.commitment(job, seq, name, salt, body).hex()
    before = events.GENESIS_PREV if prev is None else prev.hex()
    line = line_bytes(
        events.build(at=at, by=by, cells=commits, data=data, epoch=epoch, prev=before, seq=seq, step=step, type=type)
    )
    return Event(at, by, commits, data, epoch, before, seq, step, type), line, merkle.leaf_hash(line), made


class Saved:
    """The end of one batch: whoever waits for it, and how it fared. Each waiter has a future of its own,
    so that one who is cancelled takes nothing from the others."""

    __slots__ = ("done", "failure", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.failure: Exception | None = None
        self.waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return once the batch is committed. Errors: why it is not."""
        if not self.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter
        elif self.failure is not None:
            raise self.failure

    def settle(self, failure: Exception | None) -> None:
        """Wake the waiters."""
        self.done, self.failure = True, failure
        for waiter in self.waiters:
            if waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)
        self.waiters = []


class JobLog:
    """The appending end of one job's log, under one lease."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        tenant: str,
        job: str,
        epoch: int,
        head_seq: int,
        head_leaf: bytes,
        last_at: int,
        by: str,
        trace: Traced,
        decisions: Decisions | None = None,
    ) -> None:
        self.tenant, self.job, self.epoch, self.by = tenant, job, epoch, by
        self._journal, self.clock = journal, clock
        self._head_seq, self._head_leaf, self._last_at = head_seq, head_leaf, last_at
        #: This process's monotonic clock up to which the lease was granted when last heard of.
        self.alive_until = float("inf")
        #: The spans of this hold, which its events name.
        self.trace = trace
        self._decisions = decisions if decisions is not None else Decisions()
        #: How well the decisions that were ended under this hold are borne out; not durable before `durable()`.
        self.scores: list[float] = []
        self._batch: Batch | None = None
        self._saved: Saved | None = None
        self._in_flight: Saved | None = None
        self._failure: Exception | None = None

    def emit(
        self,
        type: str,
        *,
        step: int = 0,
        data: dict[str, Any] | None = None,
        bodies: Bodies = (),
        by: str = "",
        taken: str = "",
    ) -> Event:
        """Add an event to the log; it is durable once `durable()` returns.

        `by` is whose doing it is, where it is not this worker's; `taken` the
        message of the inbox that it makes of record, in the same commit.

        Errors: whatever ended this log before (Lost, Conflict).
        """
        if self._failure is not None:
            raise self._failure
        self._last_at = max(self.clock.now_us(), self._last_at)
        event, line, leaf, made = make_event(
            job=self.job,
            seq=self._head_seq + 1,
            prev=self._head_leaf,
            at=self._last_at,
            by=by or self.by,
            epoch=self.epoch,
            type=type,
            step=step,
            data=data or {},
            bodies=bodies,
        )
        batch = self._pending()
        batch.lines.append(line)
        batch.leaves.append(leaf)
        batch.cells.extend(made)
        batch.last_at = self._last_at
        if taken:
            batch.taken.append((event.seq, taken))
        transition = ledger.transition_of(event)
        if transition is not None:
            batch.ledger.append(transition)
            batch.open_delta += _open_delta(transition)
        if type == "state_checkpointed":
            batch.checkpoint_seq = event.seq
        if (status := STATUS_AFTER.get(type)) is not None and status.terminal:
            batch.status, batch.release = status, True
        if (ended := self._decisions.note(event)) is not None:
            self.scores.append(ended.score)
        self._head_seq, self._head_leaf = event.seq, leaf
        return event

    def take_silently(self, message: str) -> None:
        """Take a message of the inbox that needs no event of its own."""
        self._pending().taken.append((self._head_seq, message))

    def release(self, status: JobStatus, wake_at_us: int, waits_for: str = "") -> None:
        """Let the lease go with what is pending; the job wakes at `wake_at_us` (0: when told)."""
        batch = self._pending()
        batch.waits_for = waits_for
        batch.status, batch.release, batch.wake_at = status, True, wake_at_us

    def goes_on(self, since_seq: int) -> None:
        """With what is pending this run ends, and what it left unheard goes to the next: named by event `since_seq`."""
        self._pending().continued_seq = since_seq

    def still_held(self) -> None:
        """Return only if the lease may still be ours, for an effect that is about to begin.

        The database's word decides; this only keeps a process that slept past
        its lease from beginning an effect before it has asked. Errors: Lost.
        """
        if time.monotonic() > self.alive_until:
            raise Lost(f"job {self.job[:8]}: nothing was heard of the lease for too long; the effect was not begun")

    async def durable(self) -> None:
        """Return once everything emitted so far is committed.

        Errors: Lost, Conflict, Refused, as the append says; then the log is over.
        """
        if self._failure is not None:
            raise self._failure
        saved = self._saved if self._batch is not None else self._in_flight
        if saved is not None:
            await saved.wait()

    def take(self) -> tuple[Batch, Saved] | None:
        """Hand what is pending to the journal, which alone calls this."""
        if self._batch is None or self._saved is None:
            return None
        taken = self._batch, self._saved
        self._batch, self._in_flight, self._saved = None, self._saved, None
        return taken

    def settle(self, saved: Saved, failure: Exception | None) -> None:
        """Tell the waiters how the journal fared; the journal alone calls this."""
        if self._in_flight is saved:
            self._in_flight = None
        if failure is not None:
            self._failure = failure
            if self._saved is not None:
                self._saved.settle(failure)
            self._batch = self._saved = None
        saved.settle(failure)

    def _pending(self) -> Batch:
        if self._batch is None:
            self._batch = Batch(self.tenant, self.job, self.epoch, self._head_seq, self._head_leaf)
            self._saved = Saved()
            self._journal.wanted(self)
        return self._batch


def _open_delta(t: ledger.Transition) -> int:
    # A `once` call is open from its start until someone knows its outcome.
    if t.effect != "once":
        return 0
    return {"started": 1, "unknown": 0}.get(t.status, -1)
