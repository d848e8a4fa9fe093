"""Why a tool's result is not the recorded one, in a few words that are the same for the same cause."""

from __future__ import annotations

import json
from typing import Any


def cause(recorded: str, returned: str | None, job_status: str) -> str:
    """Return the first difference, by its place in the document (list positions left out, so that causes group)."""
    if returned is None:
        return f"the call has no result (its job is {job_status})"
    try:
        wanted, got = json.loads(recorded), json.loads(returned)
    except ValueError:
        return f"answered {_short(returned)} where {_short(recorded)} is recorded"
    return _difference(wanted, got, "") or "the same value in another spelling"


def _difference(wanted: Any, got: Any, place: str) -> str:
    if isinstance(wanted, dict) and isinstance(got, dict):
        return _object_difference(wanted, got, place)
    if isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            return f"{_at(place)}{len(got)} entries where {len(wanted)} are recorded"
        found = (_difference(w, g, f"{place}[]") for w, g in zip(wanted, got, strict=True))
        return next(filter(None, found), "")
    if type(wanted) is type(got) and wanted == got:
        return ""
    return f"{_at(place)}{_short(json.dumps(got))} where {_short(json.dumps(wanted))} is recorded"


def _object_difference(wanted: dict[str, Any], got: dict[str, Any], place: str) -> str:
    missing, extra = [k for k in wanted if k not in got], [k for k in got if k not in wanted]
    if missing and extra and len(wanted) == len(got):
        return f"{_at(place)}field {extra[0]!r} where {missing[0]!r} is recorded"
    if missing or extra:
        return f"{_at(place)}" + (f"no field {missing[0]!r}" if missing else f"field {extra[0]!r} is not recorded")
    for key, value in wanted.items():
        if found := _difference(value, got[key], f"{place}.{key}" if place else key):
            return found
    return f"{_at(place)}the same fields in another order" if list(wanted) != list(got) else ""


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
