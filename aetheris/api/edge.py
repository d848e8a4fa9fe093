"""The edge: what holds for every request before any route is looked for.

A request gets its id, its size is bounded while it is read (and by the gate
where its length says too much, so that this stands on record), its answer gets
headers that keep browsers from guessing, and it is counted. Where nobody has
to log in (loopback alone), a browser's page from elsewhere is kept out: its
Origin, or the name it came by, is not this machine's.
"""

from __future__ import annotations

import re
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aetheris.api.keys import LOOPBACK
from aetheris.api.problems import Answered, problem
from aetheris.runtime import metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
#: Headers beyond this are refused by the server itself (uvicorn's h11 limit is set to it).
HEADER_BYTES_LIMIT = 16_384
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, local_only: bool) -> None:
        self._app, self._body_bytes, self._local_only = app, body_bytes, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on; everything else as it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(16)
        length = headers.get("content-length", "0")
        too_large = not length.isdecimal() or int(length[:12]) > self._body_bytes
        scope.setdefault("state", {}).update(request_id=request_id, too_large=self._too_large() if too_large else None)
        began, status = time.monotonic(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                found["X-Request-ID"] = request_id
                for name, value in _FIXED.items():
                    found.setdefault(name, value)
            await send(message)

        try:
            if (refused := self._refused(headers)) is not None:
                await problem(refused, request_id)(scope, receive, answer)
                return
            await self._app(scope, self._bounded(receive), answer)
        finally:
            route = getattr(scope.get("route"), "path", "")
            metrics.api_answered(scope["method"] if route else "", route, status, time.monotonic() - began)

    def _refused(self, headers: Headers) -> Answered | None:
        if self._local_only:
            origin = headers.get("origin")
            if not _is_local(f"//{headers.get('host', '')}") or (origin is not None and not _is_local(origin)):
                return Answered(403, "without authentication only pages and programs of this machine are answered")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._body_bytes:
                raise HTTPException(413, self._too_large().detail)
            return message

        return bounded

    def _too_large(self) -> Answered:
        return Answered(413, f"a request has at most {self._body_bytes:,} bytes (api.max_body_bytes)")


def _is_local(url: str) -> bool:
    try:
        return (urlsplit(url).hostname or "") in LOOPBACK
    except ValueError:
        return False
