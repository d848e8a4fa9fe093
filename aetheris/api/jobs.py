"""Jobs: submitted, listed, looked at."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query
from starlette.responses import Response

from aetheris.api.access import Caller, route
from aetheris.api.answers import answer, collected_view, cursor_of, job_view, read_cursor
from aetheris.api.problems import Answered
from aetheris.api.service import Absent, Service
from aetheris.api.shapes import Callers, JobId, JobPage, JobView, Message, Services, StatusWord, Submit, Submitted
from aetheris.domain.cells import commitment
from aetheris.domain.events import read
from aetheris.domain.jobs import JobStatus
from aetheris.store import history, jobs
from aetheris.store.history import Record
from aetheris.store.jobs import Submission
from aetheris.store.signals import announce

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        min_length=1,
        pattern=r"^[!-~]+$",
        description="The same key twice is the same job.",
        examples=["ticket-881"],
    ),
]
Agent = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only this agent's jobs.")]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Prefix = Annotated[str, Query(max_length=40, pattern=r"^[0-9a-z]*$", description="Only jobs whose id starts so.")]
Statuses = Annotated[list[StatusWord], Query(description="Only jobs in these; may be given often.")]
MADE: dict[str, Any] = {"response_model": Submitted, "status_code": 202}
REPEATED = {200: {"description": "This key named a job before; it is this one.", "model": Submitted}}


@route("POST", "/api/jobs", needs="job:create", action="create_job", **MADE, responses=REPEATED)
async def submit(body: Submit, service: Services, caller: Callers, idempotency_key: Key = None) -> Response:
    """Make a job durable. The agent must be one that this API was started with."""
    return await _submit(service, caller, body, idempotency_key)


@route("POST", "/api/agents/{agent}/message", needs="job:create", action="create_job", **MADE, responses=REPEATED)
async def message(
    agent: str, body: Message, service: Services, caller: Callers, idempotency_key: Key = None
) -> Response:
    """Make a job of this agent durable; `message` is its input."""
    if agent not in service.agents:
        raise Answered(404, "no such agent")
    made = Submit(agent=agent, input=body.message, goal="", timeout_seconds=None)
    return await _submit(service, caller, made, idempotency_key)


@route("GET", "/api/jobs", needs="job:view", action="list_jobs", response_model=JobPage)
async def listing(
    service: Services,
    caller: Callers,
    agent: Agent = None,
    status: Statuses = [],  # noqa: B006  FastAPI copies it
    limit: Limit = 50,
    cursor: Cursor = None,
    prefix: Prefix = "",
) -> Response:
    """List the tenant's jobs, newest first, a page at a time."""
    return await _list(service, caller, agent, status, limit, cursor, prefix)


@route("GET", "/api/agents/{agent}/jobs", needs="job:view", action="list_jobs", response_model=JobPage)
async def of_agent(
    agent: str,
    service: Services,
    caller: Callers,
    status: Statuses = [],  # noqa: B006  FastAPI copies it
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List one agent's jobs, newest first, a page at a time."""
    return await _list(service, caller, agent, status, limit, cursor)


@route("GET", "/api/jobs/{job_id}", needs="job:view", action="view_job", response_model=JobView)
async def one(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Look at one job. One that was collected is still one's own: its status is `collected`."""
    try:
        return answer(job_view(await service.row(caller, job_id)))
    except Absent as absent:
        if absent.tombstone is None:
            raise
        return answer(collected_view(absent.tombstone))


async def _list(
    service: Service,
    caller: Caller,
    agent: str | None,
    words: list[StatusWord],
    limit: int,
    cursor: str | None,
    prefix: str = "",
) -> Response:
    after = None if cursor is None else read_cursor(cursor)
    statuses = [JobStatus[word.upper()] for word in words]
    async with service.bound(caller) as connection:
        rows = await jobs.listing(
            connection, caller.tenant, agent=agent, statuses=statuses, limit=limit + 1, after=after, prefix=prefix
        )
    more = cursor_of(rows[limit - 1]) if len(rows) > limit else None
    return answer({"jobs": [job_view(r) for r in rows[:limit]], "next": more})


async def _submit(service: Service, caller: Caller, body: Submit, key: str | None) -> Response:
    agent = service.agents.get(body.agent)
    if agent is None:
        there = ", ".join(sorted(service.agents)) or "none"
        raise Answered(400, f"no agent {body.agent[:80]!r} can be submitted here (there are: {there})")
    submitter = await service.submitter(caller)
    new = submitter.prepare(agent, body.input, key=key, goal=body.goal, timeout_seconds=body.timeout_seconds)
    stored: Record | None = None
    async with service.bound(caller) as connection:
        job = await jobs.submit(connection, new)
        if repeated := job != new.job:
            stored = (await history.load(connection, [(caller.tenant, job)], [2**62]))[caller.tenant, job]
    if stored is not None and not stored.lines:
        stored = await _collected(service, caller, job)
    if stored is not None and not _same(stored, job, new):
        raise Answered(409, "this idempotency key named a job with another input: use another key")
    await announce(service.pool)
    return answer({"job_id": job, "agent": agent.name, "status": "pending"}, 200 if repeated else 202)


async def _collected(service: Service, caller: Caller, job: str) -> Record | None:
    """Return what the lake holds of a job that left the store; None where there is no lake to ask."""
    try:
        return (await service.record(caller, job)).stored
    except Absent:
        return None


def _same(found: Record, job: str, new: Submission) -> bool:
    """Return whether the job that has this key was asked for with this input; an erased one can't be told apart."""
    told = read(found.lines[0]).cells
    if set(told) != {cell.name for cell in new.cells}:
        return False
    for cell in new.cells:
        stored = found.cells.get((1, cell.name))
        if stored is not None and stored.salt is not None and cell.body is not None:
            # No digest of content is kept: the stored salt makes the commitment anew.
            same = commitment(job, 1, cell.name, stored.salt, cell.body).hex() == told[cell.name]
            if not same:
                return False
    return True
