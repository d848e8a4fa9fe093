"""What commands expect in an API's answers, so that any other answer is one line and no bug.

Whoever is at AETHERIS_URL may be another service, which speaks JSON too. A shape
is a test of a value; the names that an object has at least, each with its shape
(a later API may tell more); or, in a list, the shape of each element.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aetheris.domain import ids

if TYPE_CHECKING:
    from aetheris.forensics.remote import Api

Shape = Any  # Callable[[Any], bool] | dict[str, Shape] | list[Shape]
_YEAR_10000_US = 253_402_300_800_000_000


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _number(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63  # as the store keeps it


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _micros(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < _YEAR_10000_US


def _time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _id(value: Any) -> bool:
    return isinstance(value, str) and len(value) == ids.LENGTH and value.isascii() and value.isalnum()


def _error(value: Any) -> bool:
    return value is None or isinstance(value, dict)


_TEXT, _TEXT_OR_NONE, _TRUTH, _OBJECT = _of(str), _of(str, type(None)), _of(bool), _of(dict)
_JOB = {
    "job_id": _id, "agent": _TEXT, "status": _TEXT, "events": _number, "created_at": _time,
    "key": _TEXT_OR_NONE, "waits_for": _TEXT,
}  # fmt: skip
JOBS = {"jobs": [_JOB], "next": _TEXT_OR_NONE}
MADE = {"job_id": _id}
SENT = {"sent": _TRUTH}
LINE = {
    "seq": _number, "step": _number, "since_start_us": _number, "what": _TEXT, "name": _TEXT, "effect": _TEXT,
    "duration_us": _number_or_none, "waited_us": _number_or_none, "states": [_TEXT], "attempt": _number,
    "epoch": _number, "note": _TEXT,
}  # fmt: skip
ENDING = {
    "text": _TEXT_OR_NONE, "characters": _number, "continued_as": _TEXT_OR_NONE, "error": _error,
    "parked": _TEXT_OR_NONE,
}  # fmt: skip
TRACE = {
    "job_id": _id, "agent": _TEXT, "agent_version": _TEXT, "status": _TEXT, "key": _TEXT_OR_NONE, "events": _number,
    "duration_us": _number, "result": _of(object), "ending": ENDING, "lines": [LINE],
}  # fmt: skip
_ENTRY = {
    "seq": _number, "at": _micros, "by": _TEXT, "action": _TEXT, "resource_type": _TEXT, "resource_id": _TEXT,
    "success": _TRUTH, "data": _OBJECT,
}  # fmt: skip
AUDIT = {"entries": [_ENTRY]}
CHECKED = {"entries": _number, "head": _TEXT}


def held(api: Api, answer: Any, shape: Shape) -> Any:
    """Return an answer that has this shape. Errors: Unusable for any other."""
    if (where := _fault(answer, shape)) is not None:
        raise api.other("JSON, but not as Aetheris does" + (f" ({where} is missing or odd)" if where else ""))
    return answer


def _fault(value: Any, shape: Shape) -> str | None:
    """Return where `value` differs first, "" for the whole of it, or None."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return ""
        parts = [
            (name, value[name], wanted) if name in value else (name, None, _never) for name, wanted in shape.items()
        ]
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return ""
        parts = [(str(number), part, shape[0]) for number, part in enumerate(value)]
    else:
        return None if shape(value) else ""
    for name, part, wanted in parts:
        if (inner := _fault(part, wanted)) is not None:
            return f"{name}.{inner}".rstrip(".")
    return None


def _never(_: Any) -> bool:
    return False
