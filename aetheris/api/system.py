"""What is here: health, figures, agents, tools, the tenant itself, roles. Nothing of another tenant."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

from fastapi import Request
from fastapi.responses import Response as Plain
from starlette.responses import Response

from aetheris import __version__
from aetheris.api.access import MATRIX, OPEN, PERMISSIONS, route
from aetheris.api.answers import answer
from aetheris.api.problems import Answered
from aetheris.api.shapes import Anything, Callers, Services
from aetheris.domain.errors import AetherisError
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import exposition
from aetheris.store import jobs, tenants, walls, workers
from aetheris.store.errors import translated

READY_SECONDS = 2.0
APPROVALS_SHOWN = 200
#: A wait for an approval, as a list of jobs tells it. A signal's key stands there too, and may hold anything.
_APPROVAL = re.compile(r"approval ([0-9]{1,9})")
_log = logging.getLogger(__name__)
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready; what is wrong is in the log."}}


@route("GET", "/health", needs=OPEN, response_model=Anything)
@route("GET", "/api/health", needs=OPEN, response_model=Anything)
async def health() -> Response:
    """Say that this process answers. Whether it can serve is `/ready`."""
    return answer({"status": "alive", "version": __version__})


@route("GET", "/ready", needs=OPEN, response_model=Anything, responses=_READY)
async def ready(service: Services) -> Response:
    """Say whether requests can be served now: the store answers, its walls are up, and the audit log can be written."""
    found = {"store": False, "walls": False, "serving": not service.closing.is_set()}
    try:
        async with asyncio.timeout(READY_SECONDS):
            with translated():
                async with service.pool.connection(READY_SECONDS) as connection:
                    open_walls = await walls.breaches(connection)
                    found |= {"walls": not open_walls, "store": await workers.writable(connection)}
        for what in open_walls:
            _log.error("not ready: %s", what)
    except (AetherisError, TimeoutError) as error:
        _log.error("not ready: %s", error or "the store took too long")
    return answer({"ready": all(found.values()), **found}, 200 if all(found.values()) else 503)


@route("GET", "/metrics", needs=OPEN, response_class=Plain, responses=_TEXT)
async def figures() -> Response:
    """Show the API's own figures: none that names a tenant. All of them are on monitoring.prometheus.port."""
    return Response(exposition.api_text(), 200, media_type="text/plain; version=0.0.4; charset=utf-8")


@route("GET", "/api/openapi.json", needs=OPEN, response_model=Anything)
async def openapi(request: Request) -> Response:
    """Describe this API."""
    return answer(request.app.openapi())


@route("GET", "/api/agents", needs="job:view", action="list_agents", resource="agent", response_model=list[Anything])
async def agents(service: Services, caller: Callers) -> Response:
    """List the agents that can be submitted here, and how many workers serve each now."""
    found = []
    async with service.bound(caller) as connection:
        for name, agent in sorted(service.agents.items()):
            served = await jobs.live_workers(connection, name, 45.0, agent.asks)
            found.append(
                {
                    "agent": name,
                    "version": agent.version,
                    "accepts": list(agent.accepts),
                    "about": (agent.fn.__doc__ or "").strip(),
                    "workers": served,
                }
            )
    return answer(found)


@route("GET", "/api/tools", needs="job:view", action="list_tools", resource="tool", response_model=list[Anything])
async def tools(service: Services) -> Response:
    """List the tools of the agents' modules: what their effect is declared to be, and what they take."""
    return answer(
        [
            {
                "tool": t.name,
                "effect": t.effect,
                "retries": t.retries,
                "timeout_seconds": t.timeout_seconds,
                "confirms": t.confirmer is not None,
                "about": (t.fn.__doc__ or "").strip(),
                "arguments": t.arguments.model_json_schema(),
            }
            for _, t in sorted(service.tools.items())
        ]
    )


@route("GET", "/api/tenants", needs="job:view", action="view_tenant", resource="tenant", response_model=list[Anything])
async def own_tenant(service: Services, caller: Callers) -> Response:
    """List the tenants that the token may see: its own."""
    async with service.bound(caller) as connection:
        found = await tenants.tenant(connection, caller.tenant)
        counts = await jobs.count_by_status(connection, caller.tenant)
    if found is None:
        raise Answered(404, "no such tenant")
    by_status = {status.word: n for status, n in sorted(counts.items())}
    return answer(
        [
            {
                "tenant": found.id,
                "name": found.name,
                "status": found.status,
                "created_at": found.created_at,
                "jobs": by_status,
            }
        ]
    )


@route("GET", "/api/approvals", needs="job:view", action="list_jobs", response_model=list[Anything])
async def approvals(service: Services, caller: Callers) -> Response:
    """List the requests for approval that are open, of the 200 newest jobs that rest. Their titles are in the trace."""
    resting = [JobStatus.WAITING, JobStatus.PARKED]
    async with service.bound(caller) as connection:
        rows = await jobs.listing(connection, caller.tenant, statuses=resting, limit=APPROVALS_SHOWN)
    return answer(
        [
            {"job_id": r.job, "agent": r.agent, "step": int(found[1]), "since": r.updated_at}
            for r in rows
            for wait in r.waits_for.split(", ")
            if (found := _APPROVAL.fullmatch(wait))
        ]
    )


@route("GET", "/api/me", needs="job:view", action="view_tenant", resource="tenant", response_model=Anything)
async def me(caller: Callers) -> Response:
    """Say who the token says you are, and what that lets you do."""
    may = [p for p in PERMISSIONS if caller.may((p,))]
    return answer({"tenant": caller.tenant, "user": caller.user, "roles": list(caller.roles), "permissions": may})


@route("GET", "/api/rbac/role", needs="agent:manage", action="view_roles", resource="role", response_model=Anything)
async def roles() -> Response:
    """Show the roles and their permissions. Who has which is what tokens say."""
    return answer({role: sorted(may) for role, may in MATRIX.items()})
