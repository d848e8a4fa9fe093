"""What a person does to a job: stop, pause, resume, signal, approve, resolve, retry. Each goes into its inbox."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from aetheris.api.access import route
from aetheris.api.answers import answer
from aetheris.api.shapes import Approve, Callers, Done, JobId, Reason, Resolve, Services, Signal, Submitted
from aetheris.domain.errors import Denied

DONE: dict[str, Any] = {"response_model": Done}
#: Who answers for a job's own agent (a user), or for the whole shop (an operator); the approval itself may ask for one.
APPROVERS = ("job:create", "tool:execute")


def _done(job: str, sent: bool) -> Response:
    return answer({"job_id": job, "sent": sent})


@route("POST", "/api/jobs/{job_id}/stop", needs="job:stop", action="stop_job", **DONE)
async def stop(job_id: JobId, body: Reason, service: Services, caller: Callers) -> Response:
    """Ask a job to end: its code gets Cancelled where it waits. A call in doubt is resolved first."""
    row = await service.row(caller, job_id)
    return _done(row.job, await (await service.operator(caller)).cancel(row.job, body.why))


@route("POST", "/api/jobs/{job_id}/pause", needs="job:stop", action="stop_job", **DONE)
async def pause(job_id: JobId, body: Reason, service: Services, caller: Callers) -> Response:
    """Let a job rest once its calls under way have ended."""
    row = await service.row(caller, job_id)
    await (await service.operator(caller)).pause(row.job, body.why)
    return _done(row.job, True)


@route("POST", "/api/jobs/{job_id}/resume", needs="job:create", action="signal_job", **DONE)
async def resume(job_id: JobId, body: Reason, service: Services, caller: Callers) -> Response:
    """Let a paused or parked job go on."""
    row = await service.row(caller, job_id)
    await (await service.operator(caller)).resume(row.job, body.why)
    return _done(row.job, True)


@route("POST", "/api/jobs/{job_id}/signal", needs="job:create", action="signal_job", **DONE)
async def signal(job_id: JobId, body: Signal, service: Services, caller: Callers) -> Response:
    """Send a signal. Its key arrives exactly once, also before the job waits for it."""
    row = await service.row(caller, job_id)
    sent = await (await service.operator(caller)).signal(row.job, body.correlation_key, body.payload)
    return _done(row.job, sent)


@route("POST", "/api/jobs/{job_id}/approve", needs=APPROVERS, action="approve_job", **DONE)
async def approve(job_id: JobId, body: Approve, service: Services, caller: Callers) -> Response:
    """Answer the request for approval at a step. Where it asks for a role, yours must be that, or admin."""
    row = await service.row(caller, job_id)
    operator = await service.operator(caller)
    refused: Denied | None = None
    for role in caller.roles:
        try:
            return _done(
                row.job, await operator.approve(row.job, body.step, approved=body.approved, why=body.why, role=role)
            )
        except Denied as error:
            refused = error
    assert refused is not None
    raise refused


@route("POST", "/api/jobs/{job_id}/resolve", needs="tool:execute", action="resolve_job", **DONE)
async def resolve(job_id: JobId, body: Resolve, service: Services, caller: Callers) -> Response:
    """End the doubt about a call that started and whose end nobody recorded."""
    row = await service.row(caller, job_id)
    sent = await (await service.operator(caller)).resolve(
        row.job, body.step, body.outcome, why=body.why, result=body.result, worker_gone=body.worker_gone
    )
    return _done(row.job, sent)


@route(
    "POST",
    "/api/jobs/{job_id}/retry",
    needs="job:create",
    action="create_job",
    response_model=Submitted,
    status_code=202,
)
async def retry(job_id: JobId, service: Services, caller: Callers) -> Response:
    """Run a failed or cancelled job anew, with the same input; the new run names the old one."""
    row = await service.row(caller, job_id)
    job = await (await service.operator(caller)).retry(row.job)
    return answer({"job_id": job, "agent": row.agent, "status": "pending"}, 202)
