"""The audit log as its readers see it: entries, the chain's check, and the chain as a file."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response as Plain
from starlette.responses import Response

from aetheris.api.access import Caller, route
from aetheris.api.answers import answer
from aetheris.api.service import Service
from aetheris.api.shapes import Anything, AuditPage, Callers, Services
from aetheris.domain import events
from aetheris.evidence import audit_file
from aetheris.runtime.audit_export import audit_export
from aetheris.store import audit
from aetheris.store.audit import AuditRow

Before = Annotated[int | None, Query(ge=1, le=2**53, description="Entries before this number.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The chain.",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
        "headers": {
            "X-Head": {"description": "The last entry's leaf, in hex.", "schema": {"type": "string"}},
            "X-Signature": {
                "description": "Where the API has a signing key: what goes into a file beside the chain's, named as it"
                " and .dsse (a DSSE envelope over an in-toto statement), in base64.",
                "schema": {"type": "string", "format": "byte"},
            },
        },
    }
}


@route("GET", "/api/audit", needs="audit:view", action="view_audit", resource="audit", response_model=AuditPage)
async def entries(service: Services, caller: Callers, before: Before = None, limit: Limit = 100) -> Response:
    """Read the tenant's audit log, newest first. Reading it is on it, too."""
    return answer(await page(service, caller, before=before, limit=limit))


@route("GET", "/api/audit/verify", needs="audit:view", action="view_audit", resource="audit", response_model=Anything)
async def verified(service: Services, caller: Callers) -> Response:
    """Check the tenant's whole audit chain. A break is 500, and says at which entry."""
    async with service.bound(caller) as connection:
        head = await audit.verify(connection, caller.tenant)
    return answer({"tenant": caller.tenant, "entries": head.seq, "head": head.leaf.hex(), "sound": True})


@route(
    "POST",
    "/api/audit/export",
    needs="audit:view",
    action="export_audit",
    resource="audit",
    response_class=Plain,
    responses=_LINES,
)
async def export(service: Services, caller: Callers) -> Response:
    """Export the whole chain, unless broken or empty, as lines that anyone verifies (`aetheris verify audit.jsonl`)."""
    async with service.bound(caller) as connection:
        made = await audit_export(connection, caller.tenant, service.signer)
    headers = {
        "Content-Disposition": f'attachment; filename="audit-{caller.tenant}.jsonl"',
        "X-Head": made.head.leaf.hex(),
    }
    if made.signature is not None:
        headers["X-Signature"] = base64.b64encode(made.signature).decode()
    return Response(made.lines, 200, headers, audit_file.MEDIA_TYPE)


async def page(
    service: Service, caller: Caller, *, before: int | None, limit: int, resource: str | None = None
) -> dict[str, Any]:
    """Return a page of entries, newest first; of one resource, where it is named."""
    async with service.bound(caller) as connection:
        rows = await audit.newest(connection, caller.tenant, before=before, limit=limit + 1, resource=resource)
    more = rows[limit - 1].seq if len(rows) > limit else None
    return {"entries": [_view(r) for r in rows[:limit]], "next": more}


def _view(row: AuditRow) -> dict[str, Any]:
    e = events.read(row.line)
    data = dict(e.data)
    fixed = {name: data.pop(name, default) for name, default in (("resource_type", ""), ("resource_id", ""))}
    return {
        "seq": e.seq,
        "at": e.at,
        "action": e.type,
        "by": e.by,
        "success": bool(data.pop("success", True)),
        **fixed,
        "data": data,
        "leaf": row.leaf.hex(),
    }
