"""How a job ended, as far as its record tells: the one account that the terminal and the API give of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aetheris.domain.jobs import JobStatus
from aetheris.runtime.record import JobRecord

#: Characters of a result that are shown in a line; `result` has all of it.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """What a job returned, or why it did not; nothing of one that goes on or was cancelled.

    `result` is None also where it was erased, whole or in part; `text` then
    says so: the first SHOWN of the `characters` of the result as JSON, or
    None when the job returned nothing in its own right.
    """

    result: Any = None
    text: str | None = None
    characters: int = 0
    continued_as: str | None = None
    error: dict[str, Any] | None = None
    parked: str | None = None


def ending_of(record: JobRecord) -> Ending:
    """Return how the job ended. Errors: Corrupt when its result was damaged."""
    last = record.events[-1]
    if (successor := last.data.get("continued_as")) is not None:
        return Ending(continued_as=successor)
    if record.row.status is JobStatus.COMPLETED:
        text = _text(record)
        return Ending(record.value(last, "result"), text[:SHOWN], len(text))
    if last.type == "job_failed":
        error: dict[str, Any] | None = record.value(last, "error")
        return Ending(error=error or {"kind": last.data["reason"], "message": "(erased)", "where": ""})
    return Ending(parked=last.data["reason"] if last.type == "job_parked" else None)


def _text(record: JobRecord) -> str:
    last = record.events[-1]
    cell = record.stored.cells.get((last.seq, "result"))
    if cell is None or cell.body is None:
        on_record = any((e.seq, e.name) == (last.seq, "result") for e in record.erased)
        return "(erased)" if on_record else "(missing: not here, and no erasure is on record)"
    return json.dumps(record.value(last, "result", missing="(erased)"), ensure_ascii=False)
