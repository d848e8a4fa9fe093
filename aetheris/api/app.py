"""The app: every declared route behind the gate, the edge around it, and the OpenAPI document of it all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from aetheris import __version__
from aetheris.api import acts, audit, exports, forensics, jobs, records, stream, support, system
from aetheris.api.access import ROUTES, Access
from aetheris.api.edge import Edge
from aetheris.api.gate import passed, unrouted
from aetheris.api.problems import CONTENT_TYPE, TITLES, Answered, Problem
from aetheris.api.service import Service
from aetheris.domain.errors import Refused

#: The modules that declare routes; importing them is what declares.
DECLARED = (system, jobs, records, stream, acts, exports, forensics, audit, support)
_DESCRIPTION = """Durable agent jobs, their record, and who looked at it.

Every request carries a token (`Authorization: Bearer`), and sees the tenant that the token names. Another tenant's
job is 403, whether it exists or not; what is no id of ours is 404. Every answer is on the tenant's audit chain before
it is given. Errors are problem details (RFC 9457)."""


class Guarded(APIRoute):
    """A route that can't be reached but through the gate."""

    access: Access

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler: the gate, and behind it FastAPI's own. Errors: Refused for an undeclared route."""
        inner = super().get_route_handler()
        access = next((r.access for r in ROUTES if (r.path, r.endpoint) == (self.path, self.endpoint)), None)
        if access is None:
            raise Refused(f"route {self.path} declares no permission: declare it with @route")
        self.access = access

        async def handle(request: Request) -> Response:
            return await passed(request, access, inner)

        return handle


def create_app(service: Service) -> FastAPI:
    """Return the app over an opened service."""
    app = FastAPI(
        title="Aetheris",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # its pages load from elsewhere; nothing here does
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = service
    app.router.route_class = Guarded
    app.router.redirect_slashes = False
    for r in ROUTES:
        options = {"tags": [r.path.split("/")[2] if r.path.startswith("/api/") else "health"], **r.options}
        app.add_api_route(
            r.path,
            r.endpoint,
            methods=[r.method],
            responses={**_problems(r.access, r.path), **options.pop("responses", {})},
            openapi_extra={
                "x-permission": list(r.access.needs),
                "security": [] if r.access.is_open else [{"bearer": []}],
                **options.pop("openapi_extra", {}),
            },
            **options,
        )
    app.add_exception_handler(HTTPException, _unrouted)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    api = service.config.api
    app.add_middleware(Edge, body_bytes=api.max_body_bytes, local_only=service.auth.keys is None)
    return app


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        made.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        }
        app.openapi_schema = made
    return app.openapi_schema


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "no such address", 405: "this address takes another method"}
    answer = Answered(error.status_code, words.get(error.status_code, str(error.detail)), error.headers)
    return await unrouted(request, answer)


def _problems(access: Access, path: str) -> dict[int | str, dict[str, Any]]:
    codes = [400, 413, 422, 503, *(() if access.is_open else (401, 403, 409, 429, 500, 504))]
    if "{" in path:
        codes += [404, 410]
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    made: dict[int | str, dict[str, Any]] = {code: {"description": TITLES[code], "content": content} for code in codes}
    made[codes[0]]["model"] = Problem
    return made
