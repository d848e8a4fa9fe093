"""The tree of errors: each name says what happened to the caller's data and what to do next.

    AetherisError
     +-- Refused    the request breaks a rule; nothing was written; change it
     |    +-- Diverged   the code no longer does what its record says
     |    +-- Erased     a value that this needs was erased on request
     +-- Denied     you may not; nothing was written; ask for the right
     +-- Conflict   another write came first; read again, then decide again
     +-- Lost       the lease is gone; stop, retry nothing under it
     +-- Unknown    the effect may have happened; ask the ledger or a person
     +-- Corrupt    stored bytes contradict each other; nothing was repaired
     +-- Unusable   it can't be read at all: not a package, a newer version

A message is one line: what, where, what to do.
"""

from __future__ import annotations


class AetherisError(Exception):
    """Root of every error that Aetheris raises on purpose."""

    #: Exit code of the command line for this error: 1 failed, 2 unusable input.
    exit_code = 1


class Refused(AetherisError):
    """The request breaks a rule. Nothing was written."""

    exit_code = 2

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Diverged(Refused):
    """The job's code made another call than its record holds at this place."""

    exit_code = 1

    def __init__(self, message: str, *, step: int, recorded: str, actual: str) -> None:
        super().__init__(message)
        self.step = step
        self.recorded = recorded
        self.actual = actual


class Erased(Refused):
    """What was asked for needs a value that was erased on a person's request."""


class Denied(AetherisError):
    """You may not. Nothing was written, and nothing is revealed about what exists."""


class Conflict(AetherisError):
    """Another write came first. Nothing of yours was written: read again, decide again."""


class Lost(AetherisError):
    """The lease is gone. Nothing was written under it, and another holder may be at work."""


class Unknown(AetherisError):
    """Nobody can know the outcome from here. The effect may have happened."""


class Corrupt(AetherisError):
    """Stored bytes contradict each other. Nothing was repaired.

    `where` names the place, `expected` and `found` the two sides, each short
    enough for one line.
    """

    def __init__(self, message: str, *, where: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.where = where
        self.expected = expected
        self.found = found


class Unusable(AetherisError):
    """It can't be read at all: not what it should be, beyond a limit, or a newer version."""

    exit_code = 2
