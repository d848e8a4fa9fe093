"""A job's record: its events, its trace, its code run against it, its verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from typing import Annotated

import orjson
from fastapi import Query
from starlette.responses import Response

from aetheris.api.access import Caller, route
from aetheris.api.answers import answer, event_view
from aetheris.api.audit import page
from aetheris.api.problems import Answered
from aetheris.api.service import Absent, Service
from aetheris.api.shapes import Anything, AuditPage, Callers, EventPage, JobId, Services
from aetheris.domain.trace import trace as traced
from aetheris.evidence import Summary, write
from aetheris.runtime.ending import ending_of
from aetheris.runtime.export import evidence_source
from aetheris.runtime.replay import Replayed, replay
from aetheris.store import history

After = Annotated[int, Query(ge=0, le=2**53, description="Events after this number.")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@route("GET", "/api/jobs/{job_id}/events", needs="job:view", action="view_job", response_model=EventPage)
async def events(job_id: JobId, service: Services, caller: Callers, after: After = 0, limit: Limit = 500) -> Response:
    """Read a job's events in order. `line` is canonical; its leaf is SHA-256(0x00 || line)."""
    try:
        row = await service.row(caller, job_id)
    except Absent:
        return await _archived_events(service, caller, job_id, after, limit)
    async with service.bound(caller) as connection:
        found = await history.lines(connection, caller.tenant, row.job, after=after, limit=limit)
    last = found[-1][0] if found else after
    shown = [event_view(line, leaf) for _, line, leaf in found]
    return answer({"job_id": row.job, "events": shown, "next": last if last < row.head_seq and found else None})


async def _archived_events(service: Service, caller: Caller, job: str, after: int, limit: int) -> Response:
    stored = (await service.record(caller, job)).stored
    part = slice(after, after + limit)
    shown = [event_view(line, leaf) for line, leaf in zip(stored.lines[part], stored.leaves[part], strict=True)]
    last = after + len(shown)
    return answer({"job_id": job, "events": shown, "next": last if last < len(stored.lines) else None})


@route("GET", "/api/jobs/{job_id}/trace", needs="trace:view", action="view_trace", response_model=Anything)
async def trace(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Read what a job did, in order, with its times, and its `result` (null where it was erased) or why it has none."""
    record = await service.record(caller, job_id)
    ending = ending_of(record)
    return answer(
        {
            "job_id": record.row.job,
            **record.head(),
            # A result may hold integers beyond 64 bits, which orjson does not write.
            "result": orjson.Fragment(json.dumps(ending.result)),
            "ending": {k: v for k, v in dataclasses.asdict(ending).items() if k != "result"},
            "lines": [dataclasses.asdict(line) for line in traced(record.events)],
        }
    )


@route("GET", "/api/jobs/{job_id}/replay", needs="trace:view", action="view_trace", response_model=Anything)
async def replayed(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Run the job's code against its record: no tool is called, nothing is written. `same` is false at a difference."""
    record = await service.record(caller, job_id)
    agent = service.agents.get(record.row.agent)
    if agent is None:
        raise Answered(409, f"this API was not started with the agent {record.row.agent}, so its code can't be run")
    # In a thread with a loop of its own: the job's code may take long, and others are waiting here.
    done: Replayed = await asyncio.to_thread(lambda: asyncio.run(replay(agent, record)))
    return answer({"job_id": record.row.job, **dataclasses.asdict(done)})


@route("GET", "/api/jobs/{job_id}/verify", needs="trace:view", action="view_trace", response_model=Anything)
async def verified(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Verify a job's record as its evidence would be: the eight layers, each passed, failed or not shown."""
    made, _ = await evidence(service, caller, job_id, damaged=True)
    return answer({"job_id": job_id, **made.verdict.to_dict()})


async def evidence(service: Service, caller: Caller, job: str, *, damaged: bool) -> tuple[Summary, bytes]:
    """Return a job's evidence package, and what was written. Errors: Corrupt unless `damaged`."""
    record = await service.record(caller, job)
    out = io.BytesIO()
    made = await asyncio.to_thread(write, evidence_source(record), out, damaged=damaged)
    return made, out.getvalue()


@route("GET", "/api/jobs/{job_id}/audit-log", needs="audit:view", action="view_audit", response_model=AuditPage)
async def audit_log(job_id: JobId, service: Services, caller: Callers, limit: Limit = 100) -> Response:
    """Read who looked at a job or acted on it, newest first."""
    try:
        await service.row(caller, job_id)
    except Absent as absent:
        if absent.tombstone is None:
            raise
    return answer(await page(service, caller, before=None, limit=limit, resource=job_id))
