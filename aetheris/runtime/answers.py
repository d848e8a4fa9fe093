"""What a job, a tool's `confirm` and a person may answer: small values, and the errors that waiting raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """`confirm` says: the call took effect, and this is its result."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """`confirm` promises: this attempt took no effect, and can take none any more (its key is fenced)."""


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """`confirm` can't tell yet: the call stays in doubt, and is asked about again later."""

    reason: str = ""


Answer = Done | NotDone | StillUnknown


@dataclass(frozen=True, slots=True)
class Approval:
    """What became of a request for approval. It is true only when a person approved."""

    approved: bool
    by: str = ""
    why: str = ""
    expired: bool = False

    def __bool__(self) -> bool:
        return self.approved


class Expired(Exception):
    """A wait for a signal came to its end without one. Raised in the job where it awaits."""


class ChildFailed(Exception):
    """A child job ended without a result. Raised in the parent where it awaits the child."""

    def __init__(self, job: str, status: str, message: str) -> None:
        super().__init__(f"child job {job[:8]} {status}{': ' + message if message else ''}")
        self.job, self.status, self.message = job, status, message


class Cancelled(BaseException):
    """The job was cancelled, or its time is over. Raised where its code waits.

    Like asyncio.CancelledError it is no Exception: `except Exception` does not
    hold it, `finally` runs. The code may still call tools to clean up, for
    CANCEL_GRACE_SECONDS; what it returns then counts as its result.
    """

    def __init__(self, reason: str, by: str) -> None:
        super().__init__(f"{reason} by {by}")
        self.reason, self.by = reason, by


class Continued(BaseException):
    """The job goes on as a new run. Raised where its code waits, and by everything it asks of ctx after that."""

    def __init__(self, job: str) -> None:
        super().__init__(f"goes on as job {job[:8]}")
        self.job = job


class Abandoned(BaseException):
    """The runtime gave this job up; nothing of what its code still does counts any more."""


class Uncertain(Exception):
    """A tool raises this when it can't know whether its effect happened: the call is in doubt."""


def said(error: BaseException) -> str:
    """Return an error's text; a foreign __str__ that raises must not undo the record of what happened."""
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  see above
        return f"its text can't be had: __str__ raised {type(second).__name__}"
