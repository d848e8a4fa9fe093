"""Values as answers: rows and events in the shapes that the document promises, encoded once."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.responses import Response

from aetheris.domain import events
from aetheris.domain.errors import Refused
from aetheris.store.jobs import JobRow
from aetheris.store.tombstones import Tombstone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def answer(value: Any, status: int = 200) -> Response:
    """Return `value` as a JSON response."""
    return Response(orjson.dumps(value, default=str), status, media_type="application/json")


def job_view(r: JobRow) -> dict[str, Any]:
    """Return a job's row as the API shows it."""
    return {"job_id": r.job, **r.told()}


def collected_view(t: Tombstone) -> dict[str, Any]:
    """Return what is left of a collected job, in the shape of a job."""
    return {
        "job_id": t.job,
        "agent": t.agent,
        "agent_version": "",
        "status": "collected",
        "events": t.event_count,
        "epoch": 0,
        "key": t.key,
        "waits_for": "",
        "created_at": t.created_at,
        "updated_at": t.ended_at,
    }


def event_view(line: bytes, leaf: bytes) -> dict[str, Any]:
    """Return an event as the API shows it. Errors: Corrupt."""
    e = events.read(line)
    return {
        "seq": e.seq,
        "type": e.type,
        "at": e.at,
        "by": e.by,
        "step": e.step,
        "epoch": e.epoch,
        "data": e.data,
        "leaf": leaf.hex(),
        "line": line.decode(),
    }


def cursor_of(row: JobRow) -> str:
    """Return the cursor of what follows this row in a listing."""
    micros = (row.created_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}.{row.job}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> tuple[datetime, str]:
    """Return where a listing goes on. Errors: Refused for what is no cursor of ours."""
    try:
        micros, _, job = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(".")
        if not (job.isascii() and job.isalnum() and len(job) <= 64 and micros.isdecimal() and len(micros) <= 17):
            raise ValueError
        return _EPOCH + timedelta(microseconds=int(micros)), job
    except (ValueError, OverflowError, binascii.Error):
        raise Refused("cursor: give `next` of the page before, as it was") from None
