"""When a job gives its worker back: what it waits for, until when, and in what state it rests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aetheris.domain.errors import Refused
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.waits import ChildStep, WaitStep

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine

#: A job that only waits, for longer than this, gives its worker back.
RELEASE_WAIT_SECONDS = 1.0
#: A wait shorter than this leaves a job `waiting`, a longer one `parked`.
PARK_SECONDS = 60
#: How long a cancelled job may go on calling tools to clean up.
CANCEL_GRACE_SECONDS = 30.0
#: A parent asks so often for its child's end, should the message of it be lost.
CHILD_POLL_SECONDS = 30.0
#: More than a worker's clock may be ahead of the database's: an append from further ahead is refused.
HANDED_OVER_SINCE_US = 1_000_000
#: A call in doubt whose tool has a `confirm` is asked about again after this, then after ever longer.
CONFIRM_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that started and whose end nobody recorded."""

    step: int
    tool: str
    reason: str  # stands in the open line
    detail: str = ""  # what the tool's confirm said: a cell
    #: When its tool may be asked again, microseconds UTC; 0 when only a person can tell.
    ask_again_us: int = 0


class Suspended(Exception):
    """The job gives its worker back until `wake_at_us` (0: until someone tells it)."""

    def __init__(
        self,
        wake_at_us: int,
        reason: str = "",
        detail: str = "",
        *,
        waits_for: str = "",
        status: JobStatus = JobStatus.PARKED,
        handing_over: bool = False,
    ) -> None:
        self.wake_at_us, self.reason, self.detail, self.waits_for = wake_at_us, reason, detail, waits_for
        self.status, self.handing_over = status, handing_over

    @classmethod
    def in_doubt(cls, doubts: Mapping[int, Doubt]) -> Suspended:
        """Park for a person, or until `confirm` may know more."""
        first = doubts[min(doubts)]
        again = [d.ask_again_us for d in doubts.values() if d.ask_again_us]
        return cls(
            min(again, default=0),
            f"step {first.step} {first.tool}: {first.reason}",
            first.detail,
            waits_for=f"doubt {first.step} {first.tool}",
        )


def rest_of(engine: Engine, *, draining: bool) -> BaseException | None:
    """Return what to raise when the live job has nothing to do here any more, else None.

    Suspended; Refused when nothing can ever wake it; Cancelled when its grace is over.
    """
    paused = engine.history.paused_by
    if draining and engine.underway.resting:
        # What is under way has ended and is recorded; nothing new begins. The next holder delivers it.
        # Due a while ago: by a clock that is ahead it would be due later, and the others, told now, would pass it by.
        due = engine.now_of_log() - HANDED_OVER_SINCE_US
        return Suspended(due, status=JobStatus.RETRYING, handing_over=True)
    if engine.underway.calling or (engine.history.resolutions and not paused):
        return None
    if paused:
        return Suspended(0, f"paused by {paused}", waits_for="paused")
    if engine.doubts:
        return Suspended.in_doubt(engine.doubts)
    if engine.cancelled is not None and engine.underway.grace_over:
        return engine.cancelled
    waits = [s for s in engine.underway.tasks.values() if isinstance(s, WaitStep) and s.step in engine.history.waits]
    if not waits:
        return None if engine.underway.tasks else Refused("the job waits for something that nothing will bring")
    return _wait(engine, waits)


def _wait(engine: Engine, waits: list[WaitStep]) -> Suspended | None:
    now = engine.now_of_log()
    ends = [w.until_us for w in waits if w.until_us is not None]
    deadline = engine.history.genesis.data.get("expires_at")
    if deadline is not None and engine.history.cancel is None:
        ends.append(deadline)
    children = any(isinstance(w, ChildStep) for w in waits)
    if children:
        if not all(w.child_left for w in waits if isinstance(w, ChildStep)):
            return None
        ends.append(now + int(CHILD_POLL_SECONDS * 1e6))
    first = min(ends, default=0)
    if first and first - now <= RELEASE_WAIT_SECONDS * 1e6:
        return None
    short = children or (first and first - now <= PARK_SECONDS * 1e6)
    others = sorted({w.waits_for for w in waits} - {"time"}) or ["time"]
    return Suspended(first, waits_for=", ".join(others), status=JobStatus.WAITING if short else JobStatus.PARKED)
