"""Support access: a tenant lets one person of another tenant in, in one role, for a while, and can end it.

Whoever was let in asks with their own token and the header `X-Support-Tenant`:
never by accident, and each request stands on both tenants' audit chains.
"""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from aetheris.api.access import route
from aetheris.api.answers import answer
from aetheris.api.problems import Answered
from aetheris.api.shapes import Anything, Callers, Services, SupportGrant
from aetheris.store import support


@route(
    "POST",
    "/api/support/grants",
    needs="agent:manage",
    action="grant_support",
    resource="tenant",
    response_model=Anything,
    status_code=201,
)
async def grant(body: SupportGrant, service: Services, caller: Callers) -> Response:
    """Let somebody of another tenant in, as operator or auditor, for at most eight hours."""
    if body.guest_tenant == caller.tenant:
        raise Answered(400, "support access is for people of another tenant")
    async with service.bound(caller) as connection:
        made = await support.grant(
            connection,
            caller.tenant,
            guest_tenant=body.guest_tenant,
            guest=body.guest,
            role=body.role,
            reason=body.reason,
            by=caller.by,
            minutes=body.minutes,
        )
    return answer(dataclasses.asdict(made), 201)


@route(
    "GET",
    "/api/support/grants",
    needs=("agent:manage", "audit:view"),
    action="view_support",
    resource="tenant",
    response_model=list[Anything],
)
async def grants(service: Services, caller: Callers) -> Response:
    """List whom this tenant let in, newest first."""
    async with service.bound(caller) as connection:
        found = await support.grants(connection, caller.tenant)
    return answer([dataclasses.asdict(g) for g in found])


@route(
    "DELETE",
    "/api/support/grants/{grant_id}",
    needs="agent:manage",
    action="revoke_support",
    resource="tenant",
    response_model=Anything,
)
async def revoke(grant_id: str, service: Services, caller: Callers) -> Response:
    """End a grant now."""
    async with service.bound(caller) as connection:
        ended = await support.revoke(connection, caller.tenant, grant_id)
    if not ended:
        raise Answered(404, "no such grant is in force")
    return answer({"grant_id": grant_id, "revoked": True})
