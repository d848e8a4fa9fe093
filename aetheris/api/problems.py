"""Errors as answers: RFC 9457 problem details, one shape for all, and nothing in them that tells of others.

Source: RFC 9457. `error` repeats `detail` for clients that know the older name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Lost, Refused, Unknown, Unusable

CONTENT_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Collected",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not valid",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
    504: "Took too long",
}


class Problem(BaseModel):
    """A problem, as every error of this API is answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not allowed",
                    "status": 403,
                    "detail": "this job is not yours",
                    "error": "this job is not yours",
                    "request_id": "5f0c1f6e2f3f4f0e8f5e7c1f2b3a4d5e",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    error: str
    request_id: str


class Answered(Exception):
    """Ends a request with this status and these words."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def answered(error: Exception) -> Answered:
    """Return the answer that an error of ours means. What is no error of ours is a bug and says nothing of itself."""
    text = " ".join(str(error).split())[:500]
    if type(error.__cause__).__module__.startswith("psycopg") and not isinstance(error, Unusable | Corrupt):
        return _of_the_database(error)
    match error:
        case Answered():
            return error
        case TimeoutError():
            return Answered(504, "the answer took too long; nothing is half done, ask again")
        case Denied():
            return Answered(403, text)
        case Conflict() | Lost() | Unknown():
            return Answered(409, text)
        case Corrupt():
            return Answered(500, f"the record is broken, and is not shown as sound: {text}")
        case Refused() if error.retry_after_seconds is not None:
            return Answered(429, text, {"Retry-After": str(max(1, round(error.retry_after_seconds)))})
        case Refused():
            return Answered(400, text)
        case Unusable():
            # The cause names hosts and files: it is for the log, not for whoever asks.
            return Answered(503, "the store can't be reached, or not used; try again", {"Retry-After": "1"})
        case AetherisError():
            return Answered(400, text)
        case _:
            return Answered(500, "a bug in Aetheris; the log has it under this request's id")


def _of_the_database(error: Exception) -> Answered:
    """Return what a refusal of PostgreSQL means. Its words name tables and processes: they are for the log."""
    match error:
        case Conflict():
            return Answered(409, "another write came first; read again, and ask again")
        case Denied():
            return Answered(500, "a bug in Aetheris; the log has it under this request's id")
        case _:
            return Answered(400, "the store can't keep such a value (a NUL character, a number beyond its range)")


def problem(answer: Answered, request_id: str) -> Response:
    """Return the response of a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(answer.status, "Error"),
        "status": answer.status,
        "detail": answer.detail,
        "error": answer.detail,
        "request_id": request_id,
    }
    # ASCII alone: what a client sent may hold half a surrogate pair, and goes back escaped.
    data = json.dumps(body, ensure_ascii=True).encode()
    headers = {**answer.headers, "Cache-Control": "no-store"}
    if answer.status == 401:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="aetheris"')
    return Response(data, answer.status, headers, CONTENT_TYPE)
