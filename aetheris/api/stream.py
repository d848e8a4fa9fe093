"""A job's events as they come: Server-Sent Events that go on where a broken connection left off.

Each event's `id` is its `seq`, so a browser that reconnects sends it back as
Last-Event-ID and misses nothing. The stream ends by itself with `end` once the
job has ended, and with `expired` when the token has: who may look is asked
again with a new one.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import Header, Query
from starlette.responses import Response, StreamingResponse

from aetheris.api.access import Caller, route
from aetheris.api.answers import event_view
from aetheris.api.problems import Answered
from aetheris.api.service import Service
from aetheris.api.shapes import Callers, JobId, Services
from aetheris.domain.errors import AetherisError
from aetheris.runtime import metrics
from aetheris.store import history, jobs

LOOK_SECONDS = 0.2
REST_SECONDS = 1.0
BEAT_SECONDS = 15.0
#: An append never notifies (design, section 5), so a stream looks; so many events a look.
EVENTS_PER_LOOK = 500
LONGEST_SECONDS = 3600.0

Last = Annotated[str | None, Header(alias="Last-Event-ID", description="The `seq` of the last event that was got.")]
After = Annotated[int, Query(ge=0, le=2**53, description="Events after this number; Last-Event-ID wins.")]
_SSE = {200: {"description": "Events as they come.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@route(
    "GET",
    "/api/jobs/{job_id}/stream",
    needs="job:view",
    action="view_job",
    streams=True,
    response_class=StreamingResponse,
    responses=_SSE,
)
async def stream(
    job_id: JobId, service: Services, caller: Callers, last_event_id: Last = None, after: After = 0
) -> Response:
    """Follow a job's events live. Each is `event: TYPE`, `id: SEQ`, `data: {…}`; `end` is the last."""
    since = after
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= 16):
            raise Answered(400, "Last-Event-ID is not the number of an event")
        since = int(last_event_id)
    row = await service.row(caller, job_id)
    if _is_full(service, caller):
        raise Answered(429, f"{service.config.api.max_streams} streams are open for this tenant", {"Retry-After": "5"})
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_told(service, caller, row.job, since), 200, headers, "text/event-stream")


def _is_full(service: Service, caller: Caller) -> bool:
    return service.streams.get(caller.tenant, 0) >= service.config.api.max_streams


async def _told(service: Service, caller: Caller, job: str, since: int) -> AsyncIterator[bytes]:
    if _is_full(service, caller):
        # Others began while this one's audit entry was written. Whoever comes back hears why.
        yield b"event: error\ndata: {}\n\n"
        return
    service.streams[caller.tenant] = service.streams.get(caller.tenant, 0) + 1
    metrics.api_stream(1)
    try:
        async for part in _events(service, caller, job, since):
            yield part
    except AetherisError:
        # Half an answer can't become a problem: whoever listens comes back with Last-Event-ID.
        yield b"event: error\ndata: {}\n\n"
    finally:
        service.streams[caller.tenant] -= 1
        metrics.api_stream(-1)


async def _events(service: Service, caller: Caller, job: str, since: int) -> AsyncIterator[bytes]:
    until = time.monotonic() + LONGEST_SECONDS
    beat = time.monotonic()
    yield b"retry: 1000\n\n"
    while not service.closing.is_set() and time.monotonic() < until:
        if not await _still(service, caller):
            yield b"event: expired\ndata: {}\n\n"
            return
        async with service.bound(caller) as connection:
            row = await jobs.get(connection, caller.tenant, job)
            found = await history.lines(connection, caller.tenant, job, after=since, limit=EVENTS_PER_LOOK)
        for seq, line, leaf in found:
            since = seq
            view = event_view(line, leaf)
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, view["type"].encode(), orjson.dumps(view))
        if row is None or (row.status.terminal and since >= row.head_seq):
            yield b'event: end\ndata: {"status":"%s"}\n\n' % (b"collected" if row is None else row.status.word.encode())
            return
        if found:
            beat = time.monotonic()
            continue
        if time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            yield b": still here\n\n"
        await _pause(service, REST_SECONDS if row.lease_owner is None else LOOK_SECONDS)


async def _still(service: Service, caller: Caller) -> bool:
    """Return whether the caller may look on: token, tenant and, for a guest, their own tenant and the grant."""
    if caller.expires_at is not None and time.time() >= caller.expires_at:
        return False
    if await service.status(caller.tenant) != "active":
        return False
    if caller.guest_of is None:
        return True
    if await service.status(caller.guest_of) != "active":
        return False
    own = dataclasses.replace(caller, tenant=caller.guest_of, guest_of=None)
    return await service.support_grant(own, caller.tenant) is not None


async def _pause(service: Service, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await service.closing.wait()
    except TimeoutError:
        pass
