"""What requests and answers hold: their fields, bounds and examples, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from aetheris.api.access import Caller
from aetheris.api.service import Service
from aetheris.domain import ids
from aetheris.domain.jobs import JobStatus

EXAMPLE_ID = "7kq2m0zj4w8xr1v6n3tb5yd9hc0f2gse8apk4q1m"
StatusWord = Literal["pending", "running", "completed", "failed", "cancelled", "waiting", "parked", "retrying"]
assert {s.word for s in JobStatus} == set(StatusWord.__args__)  # type: ignore[attr-defined]


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


Services = Annotated[Service, Depends(_service)]
Callers = Annotated[Caller, Depends(_caller)]
#: An id is told from a non-id by its MAC, not by its shape: what has another shape is 404, not 422.
JobId = Annotated[str, Path(description="A job's id.", examples=[EXAMPLE_ID])]
#: Text that PostgreSQL can keep: no NUL. (Half surrogates are refused by pydantic.)
_NO_NUL = r"^[^\x00]*$"


def _text(limit: int, least: int = 0) -> Any:
    return Field(min_length=least, max_length=limit, pattern=_NO_NUL)


Why = Annotated[str, _text(10_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Submit(_Body):
    """A job to be made durable."""

    agent: Annotated[str, _text(200, 1)] = Field(examples=["rebook"])
    input: Any = Field(None, examples=[{"booking": "4WQ150"}], description="What the agent takes.")
    goal: Annotated[str, _text(2_000)] = ""
    timeout_seconds: float | None = Field(None, gt=0, le=366 * 86_400, description="From now to its end.")


class Message(_Body):
    """What an agent is asked: its input."""

    message: Any = Field(None, examples=[{"booking": "4WQ150"}])


class Reason(_Body):
    """Why; it stays on the job's record."""

    why: Why = Field("", examples=["the customer left"])


class Signal(_Body):
    """A signal by its key; a key arrives once."""

    correlation_key: Annotated[str, _text(200, 1)] = Field(examples=["payment-received"])
    payload: Any = Field(None, examples=[{"amount_cents": 4200}])


class Resolve(_Body):
    """The end of a doubt about a call."""

    step: int = Field(ge=1, le=2**53, examples=[4])
    outcome: Literal["done", "failed", "not_done"]
    result: Any = Field(None, description="With `done`: what the call returned.")
    why: Annotated[str, _text(10_000, 1)] = Field(examples=["bank statement 2026-11-23, line 4"])
    worker_gone: bool = Field(False, description="With `not_done`: you made sure that its worker is gone.")


class Approve(_Body):
    """The answer to a request for approval."""

    step: int = Field(ge=1, le=2**53, examples=[4])
    approved: bool
    why: Why = Field("", examples=["called the customer"])


class SupportGrant(_Body):
    """Whom to let in, as what, for how long, and why."""

    guest_tenant: str = Field(pattern=f"^{ids.TENANT_PATTERN}$", examples=["vendor"])
    guest: str = Field(pattern=r"^[!-.0-~]{1,128}$", examples=["alice"])
    role: Literal["operator", "auditor"]
    minutes: int = Field(ge=1, le=480, examples=[60])
    reason: Annotated[str, _text(2_000, 1)] = Field(examples=["ticket 4711: job parked since noon"])


class FindJobs(_Body):
    """Which jobs of the lake; what is left out does not filter."""

    agent_filter: Annotated[str, _text(200)] | None = Field(None, examples=["airline"])
    status_filter: StatusWord | None = None
    tool_filter: Annotated[str, _text(200)] | None = Field(None, examples=["book_reservation"])
    event_filter: Annotated[str, _text(64)] | None = Field(None, examples=["tool_invocation_unknown"])
    since: datetime | None = None
    until: datetime | None = None
    limit: int = Field(20, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


class AskQuery(_Body):
    """Parameters of a named query; those not given are null."""

    parameters: dict[str, str | int | bool | None] = Field(default_factory=dict, examples=[{"tenant_id": None}])


class JobView(BaseModel):
    """A job as its row tells it."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    agent: str
    agent_version: str
    status: StatusWord | Literal["collected"]
    events: int
    epoch: int
    key: str | None
    waits_for: str
    created_at: datetime
    updated_at: datetime


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the next page, null on the last."""

    jobs: list[JobView]
    next: str | None


class Submitted(BaseModel):
    """The job that was made; or that this idempotency key named before."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    agent: str
    status: str = Field(examples=["pending"])


class Done(BaseModel):
    """What was asked is in the job's inbox; `sent` is false when it was asked before."""

    job_id: str
    sent: bool


class EventView(BaseModel):
    """One event; `line` is what its leaf hashes, byte for byte."""

    seq: int
    type: str
    at: int = Field(description="Microseconds since 1970, UTC.")
    by: str
    step: int
    epoch: int
    data: dict[str, Any]
    leaf: str
    line: str


class EventPage(BaseModel):
    """Events in order; `next` is what to give as `after` for the next page, null at the head."""

    job_id: str
    events: list[EventView]
    next: int | None


class AuditView(BaseModel):
    """One entry of the audit chain."""

    seq: int
    at: int = Field(description="Microseconds since 1970, UTC.")
    action: str
    by: str
    success: bool
    resource_type: str
    resource_id: str
    data: dict[str, Any]
    leaf: str


class AuditPage(BaseModel):
    """Entries, newest first; `next` is what to give as `before` for older ones, null at the first."""

    entries: list[AuditView]
    next: int | None


class Anything(BaseModel):
    """An object; its fields are told in the route's description."""

    model_config = ConfigDict(extra="allow")
