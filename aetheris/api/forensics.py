"""Questions to the lake: the named queries, over the caller's tenant's files alone."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from fastapi import Request
from starlette.responses import Response

from aetheris.api.access import route
from aetheris.api.answers import answer
from aetheris.api.problems import Answered
from aetheris.api.shapes import Anything, AskQuery, Callers, FindJobs, Services
from aetheris.forensics import library
from aetheris.forensics.session import Answer

ARROW = "application/vnd.apache.arrow.stream"
ROWS_LIMIT = 10_000


@route(
    "GET",
    "/api/forensics/queries",
    needs="trace:view",
    action="query_lake",
    resource="lake",
    response_model=list[Anything],
)
async def queries() -> Response:
    """List the named queries: what each answers, its parameters, and whether its rows are violations."""
    return answer(
        [
            {"name": q.name, "title": q.title, "parameters": list(q.binds), "is_check": q.is_check}
            for q in library.library().values()
        ]
    )


@route(
    "POST",
    "/api/forensics/queries/{family}/{name}",
    needs="trace:view",
    action="query_lake",
    resource="lake",
    response_model=Anything,
)
async def ask(family: str, name: str, body: AskQuery, request: Request, service: Services, caller: Callers) -> Response:
    """Run a named query over this tenant's part of the lake.

    JSON holds at most 10,000 rows; with `Accept: application/vnd.apache.arrow.stream` the whole table comes, its
    receipt in headers.
    """
    wanted = f"{family}/{name}"
    if wanted not in library.library():
        raise Answered(404, "no such query")
    request.state.resource_id = wanted
    found = await asyncio.to_thread(service.lakes.query, caller.tenant, wanted, **body.parameters)
    if ARROW in request.headers.get("accept", ""):
        return _arrow(found)
    rows = found.table.slice(0, ROWS_LIMIT).to_pylist()
    return answer(
        {
            "query": wanted,
            "rows": [{k: _plain(v) for k, v in row.items()} for row in rows],
            "row_count": found.table.num_rows,
            "receipt": dataclasses.asdict(found.receipt),
        }
    )


@route(
    "POST",
    "/api/forensics/query",
    needs="job:export",
    action="query_lake",
    resource="lake",
    response_model=Anything,
)
async def find_jobs(body: FindJobs, service: Services, caller: Callers) -> Response:
    """Find jobs in the lake by agent, status, tool, event type and time of creation."""
    rows = await asyncio.to_thread(
        lambda: (
            service.lakes.query(
                caller.tenant,
                "tenancy/find_jobs",
                agent=body.agent_filter,
                status=body.status_filter,
                tool=body.tool_filter,
                event=body.event_filter,
                since=_utc(body.since),
                until=_utc(body.until),
            ).rows
        )
    )
    page = rows[body.offset : body.offset + body.limit]
    return answer({"jobs": page, "total_count": len(rows), "page": body.offset // body.limit})


def _arrow(found: Answer) -> Response:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, found.table.schema) as writer:
        writer.write_table(found.table)
    headers = {f"X-Receipt-{k.replace('_', '-')}": str(v) for k, v in dataclasses.asdict(found.receipt).items()}
    return Response(out.getvalue(), 200, headers, ARROW)


def _utc(when: datetime | None) -> datetime | None:
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
