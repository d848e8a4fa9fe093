"""Job states and the moves between them, as a table anyone can read.

The numbers are what SQL stores (`jobs.status`).
"""

from __future__ import annotations

from enum import IntEnum


class JobStatus(IntEnum):
    """Where a job stands."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    WAITING = 5  # a timer, signal or approval, expected within a minute; no worker holds it
    PARKED = 6  # a long wait, or a doubt that a person resolves
    RETRYING = 7

    @property
    def terminal(self) -> bool:
        """True when nothing may be appended any more."""
        return self in TERMINAL

    @property
    def word(self) -> str:
        """The name as people and the lake see it."""
        return self.name.lower()


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

_S = JobStatus
MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED, _S.WAITING, _S.PARKED}),
    _S.RUNNING: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.WAITING, _S.PARKED, _S.RETRYING}),
    _S.WAITING: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED, _S.PARKED}),
    _S.PARKED: frozenset({_S.RUNNING, _S.CANCELLED, _S.WAITING}),
    _S.RETRYING: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}

#: The event types that move a job, and where to. Every other type leaves it running.
#: (running -> running is a lease taken over: epoch + 1.)
STATUS_AFTER: dict[str, JobStatus] = {
    "job_created": _S.PENDING,
    "job_leased": _S.RUNNING,
    "job_waiting": _S.WAITING,
    "job_parked": _S.PARKED,
    "job_retrying": _S.RETRYING,
    "job_completed": _S.COMPLETED,
    "job_failed": _S.FAILED,
    "job_cancelled": _S.CANCELLED,
}
