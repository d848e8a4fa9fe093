"""The fixtures' jobs: built event by event with the rules of the domain, from a seeded chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from aetheris.domain import cells, events, ledger, merkle
from aetheris.domain.encode import body_bytes, line_bytes
from aetheris.domain.events import GENESIS_PREV, Event
from aetheris.runtime.submit import EMPTY_CONFIG_SHA256
from aetheris.runtime.tools import idempotency_key

Rows = list[dict[str, Any]]
#: What a story tells, event by event: (type, epoch, step, data, bodies).
Told = tuple[str, int, int, dict[str, Any], dict[str, Any]]
Story = Callable[["Job"], Iterator[Told]]
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_START = datetime(1970, 1, 1, tzinfo=UTC)


class Job:
    """The names that a story needs."""

    def __init__(self, tenant: str, number: int, chance: random.Random) -> None:
        self.tenant, self.number, self.chance = tenant, number, chance
        self.id = "".join(chance.choice(_ALPHABET) for _ in range(40))


def book(job: Job) -> Iterator[Told]:
    """Search, then book: a reading and an effect."""
    yield from _begin(job)
    yield from _reading("search_direct_flight", 1)
    yield from _effect(job, 1, "book_reservation", 2)
    yield "job_completed", 1, 0, {}, {"result": {"booked": f"HAT{job.number:03}"}}


def taken_over(job: Job) -> Iterator[Told]:
    """The first worker is lost after a reading; the second goes on."""
    yield from _begin(job)
    yield from _reading("get_user_details", 1)
    yield "job_leased", 2, 0, {"taken_from": "w1", "worker_id": "w2"}, {}
    yield from _effect(job, 2, "cancel_reservation", 2)
    yield "job_completed", 2, 0, {}, {"result": "cancelled"}


def in_doubt(job: Job) -> Iterator[Told]:
    """A call started, its worker was lost, and nobody knows: the job is parked."""
    yield from _begin(job)
    start = next(iter(_effect(job, 1, "send_certificate", 1)))
    yield start
    yield "job_leased", 2, 0, {"taken_from": "w1", "worker_id": "w2"}, {}
    call = {"attempt": 1, "effect": "once", "tool_name": "send_certificate"}
    yield "tool_invocation_unknown", 2, 1, {**call, "reason": "started, and the worker was lost"}, {}
    yield "job_parked", 2, 0, {"reason": "step 1 send_certificate: started, and the worker was lost"}, {}


def _begin(job: Job) -> Iterator[Told]:
    data = {
        "agent": "airline",
        "agent_version": "1",
        "config_sha256": EMPTY_CONFIG_SHA256,
        "format": events.FORMAT,
        "job": job.id,
        "tenant": job.tenant,
    }
    yield "job_created", 0, 0, data, {"input": {"ticket": f"T{job.number:03}"}}
    yield "job_leased", 1, 0, {"worker_id": "w1"}, {}


def _reading(tool: str, step: int) -> Iterator[Told]:
    data = {"attempt": 1, "duration_us": 7, "effect": "none", "outcome": "success", "tool_name": tool}
    yield "tool_invocation_finished", 1, step, data, {"args": {"n": step}, "result": [f"HAT{step:03}"]}


def _effect(job: Job, epoch: int, tool: str, step: int) -> Iterator[Told]:
    call = {"attempt": 1, "effect": "once", "tool_name": tool}
    key = idempotency_key(job.tenant, job.id, step, tool)
    yield "tool_invocation_started", epoch, step, {**call, "idempotency_key": key}, {"args": {"who": "mia_li"}}
    yield (
        "tool_invocation_finished",
        epoch,
        step,
        {**call, "duration_us": 7, "outcome": "success"},
        {"result": "HAT001"},
    )


def rows_of(tenant: str, story: Story, number: int, chance: random.Random, at: int) -> dict[str, Rows]:
    """Return the lake's rows of one job."""
    job = Job(tenant, number, chance)
    made: dict[str, Rows] = {"events": [], "cells": [], "ledger": []}
    prev = GENESIS_PREV
    for seq, (kind, epoch, step, data, bodies) in enumerate(story(job), 1):
        at += 1500
        own = {"tenant_id": tenant, "job_id": job.id, "seq": seq}
        written = {"xid": 700 + number, "recorded_at": _START + timedelta(microseconds=at)}
        commits = {}
        for name, value in bodies.items():
            salt, body = chance.randbytes(32), body_bytes(value)
            commits[name] = cells.commitment(job.id, seq, name, salt, body).hex()
            made["cells"].append({**own, "name": name, "salt": salt, "body": body.decode(), **written})
        by = "user/desk" if seq == 1 else f"worker/w{max(epoch, 1)}"
        value = events.build(
            at=at, by=by, cells=commits, data=data, epoch=epoch, prev=prev, seq=seq, step=step, type=kind
        )
        line, leaf = lines_of([value])[0]
        prev = leaf.hex()
        made["events"].append({**own, "leaf": leaf, "line": line, **written})
        told = ledger.transition_of(Event(at, by, commits, data, epoch, value["prev"], seq, step, kind))
        if told is not None:
            made["ledger"].append({**own, **_ledger_row(told), **written})
    return made


def lines_of(values: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Return line and leaf of each value; from the second on, `prev` is set to the leaf before."""
    made: list[tuple[str, bytes]] = []
    for value in values:
        if made:
            value["prev"] = made[-1][1].hex()
        line = line_bytes(value)
        made.append((line.decode(), merkle.leaf_hash(line)))
    return made


def _ledger_row(told: ledger.Transition) -> dict[str, Any]:
    digests = {n: bytes.fromhex(getattr(told, n)) or None for n in ("idempotency_key", "args_hash", "result_hash")}
    names = ("step", "attempt", "tool_name", "effect", "status", "epoch", "outcome")
    return {**{n: getattr(told, n) for n in names}, **digests}
