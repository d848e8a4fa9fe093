"""Evidence through the API: the same bytes as `aetheris export` writes."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response as Plain
from starlette.responses import Response

from aetheris.api.access import route
from aetheris.api.records import evidence
from aetheris.api.shapes import Callers, JobId, Services

_ZIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The evidence package.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@route(
    "POST",
    "/api/jobs/{job_id}/export",
    needs="job:export",
    action="export_evidence",
    response_class=Plain,
    responses=_ZIP,
)
async def export(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Export a job as a zip that anyone verifies offline. A broken record is not exported as sound: 500, with where."""
    made, data = await evidence(service, caller, job_id, damaged=False)
    headers = {
        "Content-Disposition": f'attachment; filename="evidence-{job_id[:8]}.zip"',
        "X-Content-SHA256": made.sha256,
        "X-Verdict": made.verdict.word.replace("\n", " "),
    }
    return Response(data, 200, headers, "application/zip")
