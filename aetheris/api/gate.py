"""The way of a request: who asks, may they, whose is the job, the answer, and the audit entry before it.

1. The token gives tenant, user and roles. Without one that counts: 401.
2. A header may name the tenant; it may not name another: 403. Support access
   is asked for by a header of its own, and only a grant in force gives it.
3. A tenant that was removed or suspended: 403.
4. How often: 429.
5. The route's permission: 403.
6. The job's id says whose it is, without the database. Another tenant's: the
   same 403 whether the job exists or not. No id of ours: 404.
7. A length beyond the limit: 413.
8. The route answers, within the time limit.
9. The audit entry is made durable: what was allowed, what was denied, what
   failed. It has a transaction of its own, and the answer waits for it. Where
   it can't be written, nothing is answered but 503.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aetheris.api.access import Access, Caller
from aetheris.api.auth import Unauthenticated
from aetheris.api.problems import Answered, answered, problem
from aetheris.api.service import Absent, Service
from aetheris.domain.audit import plain
from aetheris.domain.errors import AetherisError
from aetheris.runtime import metrics

#: Said alike of every job of another tenant, whether it exists or not.
NOT_YOURS = "this job is not yours"
NO_SUCH_JOB = "no such job"
SUPPORT_HEADER = "x-support-tenant"
_NOWHERE = Access(("job:view",), "unknown_address", "address")
_log = logging.getLogger(__name__)
Inner = Callable[[Request], Awaitable[Response]]


async def passed(request: Request, access: Access, inner: Inner) -> Response:
    """Return the answer to `request` at a route of this access, on record before it is given."""
    service: Service = request.app.state.service
    if access.is_open:
        return await _opened(request, inner)
    began = time.monotonic()
    try:
        caller = await _who(service, request)
        # A tenant that a trusted token names for the first time is founded here: what follows can be on its record.
        status_of_own = await service.status(caller.tenant)
    except Exception as error:  # noqa: BLE001  every error is an answer
        return _problem(request, error)
    request.state.caller = own = caller
    response: Response | None = None
    try:
        if status_of_own != "active":
            raise Answered(403, f"the tenant is {status_of_own}")
        caller = request.state.caller = await _as_guest(service, request, own)
        await _may(service, request, caller, access)
        if request.state.too_large is not None:
            raise request.state.too_large
        async with asyncio.timeout(None if access.streams else service.config.api.timeout):
            response = await inner(request)
        status = response.status_code
    except Exception as error:  # noqa: BLE001  every error is an answer, and on record
        response = _problem(request, error)
        status = response.status_code
    try:
        await _record(service, request, caller, own, access, status, began)
    except AetherisError as error:
        _log.error("request %s: its audit entry can't be written: %s", request.state.request_id, error)
        return problem(
            Answered(503, "the audit log can't be written, so nothing is answered"), request.state.request_id
        )
    return response


async def unrouted(request: Request, answer: Answered) -> Response:
    """Return the answer to a request that no route takes: on record, too, where a token says whose it is."""
    service: Service = request.app.state.service
    if service.auth.keys is not None and "authorization" not in request.headers:
        return problem(answer, request.state.request_id)
    request.state.resource_id = request.url.path

    async def inner(_: Request) -> Response:
        raise answer

    return await passed(request, _NOWHERE, inner)


async def _opened(request: Request, inner: Inner) -> Response:
    try:
        return await inner(request)
    except Exception as error:  # noqa: BLE001  every error is an answer
        return _problem(request, error)


async def _who(service: Service, request: Request) -> Caller:
    host = request.client.host if request.client else ""
    try:
        return await service.auth.caller(request.headers.get("authorization"))
    except Unauthenticated as error:
        metrics.api_denied("401")
        # Only who has no token is slowed: behind a proxy all come from one address.
        if (wait := service.strangers.take(host)) > 0:
            raise Answered(
                429, "too many requests without a valid token", {"Retry-After": str(max(1, round(wait)))}
            ) from None
        _log.info("request %s from %s: %s", request.state.request_id, host, error.cause)
        raise


async def _as_guest(service: Service, request: Request, caller: Caller) -> Caller:
    """Return the caller, or the guest that they are in the tenant whose door they name."""
    wanted = request.headers.get(SUPPORT_HEADER)
    if wanted is None or wanted == caller.tenant:
        return caller
    grant = await service.support_grant(caller, wanted)
    if grant is None:
        raise Answered(403, "no support access to that tenant is in force for you")
    ends = min(grant.expires_at.timestamp(), caller.expires_at or float("inf"))
    return dataclasses.replace(caller, tenant=wanted, roles=(grant.role,), guest_of=caller.tenant, expires_at=ends)


async def _may(service: Service, request: Request, caller: Caller, access: Access) -> None:
    named = request.headers.get("x-tenant-id")
    if named is not None and named != (caller.guest_of or caller.tenant):
        raise Answered(403, "X-Tenant-ID names another tenant than the token does")
    if caller.guest_of is not None and (status := await service.status(caller.tenant)) != "active":
        raise Answered(403, f"the tenant is {status}")
    if (wait := service.rates.take(f"{caller.guest_of or caller.tenant}/{caller.user}")) > 0:
        raise Answered(429, "too many requests", {"Retry-After": str(max(1, round(wait)))})
    if not caller.may(access.needs):
        raise Answered(403, f"this needs {' or '.join(access.needs)}, which your role doesn't have")
    job = request.path_params.get("job_id")
    if job is not None:
        whose = await service.owner(caller, job)
        if whose == "another":
            raise Answered(403, NOT_YOURS)
        if whose == "nobody":
            raise Answered(404, NO_SUCH_JOB)


async def _record(
    service: Service, request: Request, caller: Caller, own: Caller, access: Access, status: int, began: float
) -> None:
    if status in (403, 429):
        metrics.api_denied(str(status))
    wanted = request.headers.get(SUPPORT_HEADER)
    resource = str(request.path_params.get("job_id") or getattr(request.state, "resource_id", ""))
    said: dict[str, Any] = {
        "client_ip": request.client.host if request.client else "",
        "duration_ms": int((time.monotonic() - began) * 1000),
        "request_id": request.state.request_id,
        "role": ",".join(caller.roles),
        "status": status,
        "user_agent": plain(request.headers.get("user-agent", ""), 200),
    }
    if wanted is not None and wanted != own.tenant:
        said["visited"] = plain(wanted, 63)
    entry: dict[str, Any] = {
        "action": access.action,
        "success": status < 400,
        "resource_type": access.resource,
        "resource_id": plain(resource, 200),
    }
    await service.audit.record(caller.tenant, by=caller.by, data=said, **entry)
    if caller.guest_of is not None:
        # The guest's own tenant has it on record too.
        await service.audit.record(own.tenant, by=own.by, data=said, **entry)


def _problem(request: Request, error: Exception) -> Response:
    request_id = request.state.request_id
    match error:
        case Absent():
            gone = error.tombstone is not None
            answer = Answered(410, "collected: it is in the lake, and `export` works from there") if gone else None
            return problem(answer or Answered(404, NO_SUCH_JOB), request_id)
        case RequestValidationError():
            return problem(Answered(422, _invalid(error)), request_id)
        case HTTPException():
            return problem(Answered(error.status_code, str(error.detail), error.headers), request_id)
        case _:
            answer = answered(error)
    if answer.status >= 500:
        _log.error("request %s: %s", request_id, error, exc_info=error if answer.status == 500 else None)
    return problem(answer, request_id)


def _invalid(error: RequestValidationError) -> str:
    """Return what is wrong, field by field; never what was sent."""
    found = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
    return "; ".join(found[:5])[:500]
