"""How a job ended, in one line: its result, or why it failed."""

from __future__ import annotations

import json
from typing import Any

from aetheris.cli.screen import Screen
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.record import JobRecord

#: Characters of a result that are shown; --json gives all of it.
SHOWN = 200


def result_of(record: JobRecord) -> Any:
    """Return what the job returned; None when there is nothing (yet, or in its own right), or it was erased."""
    return record.value(record.events[-1], "result") if _returned(record) else None


def error_of(record: JobRecord) -> dict[str, Any] | None:
    """Return what a failed job failed of; an erased message says so."""
    last = record.events[-1]
    if last.type != "job_failed":
        return None
    error: dict[str, Any] | None = record.value(last, "error")
    return error or {"kind": last.data["reason"], "message": "(erased)", "where": ""}


def show_ending(record: JobRecord, screen: Screen) -> None:
    """Print a finished job's result or error; nothing of one that goes on or was cancelled."""
    if _returned(record):
        screen.fact("result", _shown(record))
    elif (successor := record.events[-1].data.get("continued_as")) is not None:
        screen.fact("result", f"none of its own: it goes on as job {successor[:8]}")
    elif (error := error_of(record)) is not None:
        where = f"  ({error['where']})" if error.get("where") else ""
        screen.line(f"failed because {error.get('kind')}: {error.get('message')}{where}", style="red")


def _returned(record: JobRecord) -> bool:
    return record.row.status is JobStatus.COMPLETED and "continued_as" not in record.events[-1].data


def _shown(record: JobRecord) -> str:
    last = record.events[-1]
    cell = record.stored.cells.get((last.seq, "result"))
    if cell is None or cell.body is None:
        on_record = any((e.seq, e.name) == (last.seq, "result") for e in record.erased)
        return "(erased)" if on_record else "(missing: not here, and no erasure is on record)"
    text = json.dumps(record.value(last, "result", missing="(erased)"), ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…  ({len(text):,} characters; --json gives all)"
