"""Events: what a line holds, which types there are, and how lines form a chain.

One event is one line of canonical JSON with exactly these keys:

    at     microseconds since 1970 UTC, never before the predecessor's
    by     who wrote it: "worker/w1", "user/desk", "system"
    cells  name -> commitment (64 hex digits) of what is kept beside the line
    data   what may stand in the open; its shape is the type's
    epoch  the lease under which it was written; 0 before the first claim
    prev   the predecessor's leaf in hex; 64 zeros for the first event
    seq    1, 2, 3, ... without gaps
    step   the call of the job's code that it belongs to; 0 for the job itself
    type   one of TYPES
    v      1

    leaf = SHA-256(0x00 || line)

So one hash serves the chain and an RFC 6962 Merkle tree over the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt

VERSION = 1
GENESIS_PREV = "0" * 64
FORMAT = "aetheris/job/v1"
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_KEYS = frozenset({"at", "by", "cells", "data", "epoch", "prev", "seq", "step", "type", "v"})

#: type -> the fields that `data` must hold, with their Python type.
#: More may follow in a later release; a reader ignores fields it doesn't know.
TYPES: dict[str, dict[str, type]] = {
    # The first event binds tenant, job, agent and the digest of the configuration. cells: input
    "job_created": {
        "format": str,
        "tenant": str,
        "job": str,
        "agent": str,
        "agent_version": str,
        "config_sha256": str,
    },
    "job_leased": {"worker_id": str},  # a worker claimed it; the epoch rose
    "job_waiting": {"wait_type": str},  # timer, signal, approval; expires_at? in microseconds
    "job_parked": {"reason": str},
    "job_retrying": {"reason": str},
    "job_resumed": {"resumed_by": str},
    "signal_received": {"correlation_key": str},  # cells: payload; `by` is who sent it
    "wait_completed": {"correlation_key": str},  # delivers the signal of this key; expired?
    "message_ignored": {"kind": str, "reason": str},  # taken from the inbox, without effect
    "cancel_requested": {"reason": str},  # cancel, timeout. cells: why
    "pause_requested": {},  # cells: why
    "timer_fired": {},
    "job_completed": {},  # cells: result
    "job_failed": {"reason": str},  # cells: error
    "job_cancelled": {"reason": str},
    # Tool invocations. cells: args and args/...
    "tool_invocation_started": {"attempt": int, "effect": str, "idempotency_key": str, "tool_name": str},
    # cells: result or error; args too where the effect is none (it has no start record)
    "tool_invocation_finished": {"attempt": int, "duration_us": int, "effect": str, "outcome": str, "tool_name": str},
    "tool_invocation_unknown": {"attempt": int, "effect": str, "reason": str, "tool_name": str},
    "tool_invocation_confirmed": {"attempt": int, "effect": str, "outcome": str, "tool_name": str},
    "tool_invocation_resolved": {"attempt": int, "effect": str, "outcome": str, "tool_name": str},
    # Nothing started: its wait for a limit would have passed max_wait. cells: args, error
    "tool_call_refused": {"attempt": int, "effect": str, "outcome": str, "tool_name": str, "try_again_us": int},
    "random_recorded": {},  # cells: value
    "state_checkpointed": {},  # cells: state
    # The job goes on as another, which begins with this state and names this event. cells: state
    "run_continued": {"continued_as": str},
    "state_changed": {},
    "approval_requested": {"correlation_key": str},  # role?, expires_at?. cells: title
    "approval_completed": {"correlation_key": str, "decision": str},  # cells: why
    "child_requested": {"agent": str, "child": str},
    "child_completed": {"child": str, "status": str},  # erased?. cells: result or error
    "patch_recorded": {"patch": str},  # the code took its new way here
    # The world no longer confirms a recorded result: the job is parked until a person resumes it.
    "confirmation_replay_failed": {"attempt": int, "tool_name": str, "reason": str},
}

#: Nothing follows these.
TERMINAL_TYPES = frozenset({"job_completed", "job_failed", "job_cancelled"})

#: tool_invocation_finished.data.outcome
FINISHED_OUTCOMES = frozenset({"success", "failure", "timeout"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event as read from its line."""

    at: int
    by: str
    cells: dict[str, str]
    data: dict[str, Any]
    epoch: int
    prev: str
    seq: int
    step: int
    type: str


def build(
    *,
    at: int,
    by: str,
    cells: dict[str, str],
    data: dict[str, Any],
    epoch: int,
    prev: str,
    seq: int,
    step: int,
    type: str,
) -> dict[str, Any]:
    """Return the object of an event line, ready to be encoded."""
    return {
        "at": at,
        "by": by,
        "cells": cells,
        "data": data,
        "epoch": epoch,
        "prev": prev,
        "seq": seq,
        "step": step,
        "type": type,
        "v": VERSION,
    }


def read(line: bytes) -> Event:
    """Return the event of a line that is canonical and has the right shape.

    Hash the line first; then read it. Errors: Corrupt.
    """
    return from_value(canonical.loads(line))


def from_value(value: dict[str, Any]) -> Event:
    """Return the event of a parsed line, its shape checked. Errors: Corrupt."""
    if value.keys() != _KEYS:
        odd = sorted(value.keys() ^ _KEYS)
        raise Corrupt(f"field {odd[0]!r} is {'missing' if odd[0] in _KEYS else 'not one of an event'}")
    if type(value["v"]) is not int or value["v"] != VERSION:
        raise Corrupt(f"event version {value['v']!r} is not {VERSION}")
    for name, least in (("at", 0), ("epoch", 0), ("seq", 1), ("step", 0)):
        if type(value[name]) is not int or value[name] < least:
            raise Corrupt(f"field {name!r} is not an integer from {least}")
    if type(value["by"]) is not str or not value["by"]:
        raise Corrupt("field 'by' is not a name")
    if type(value["type"]) is not str or not _TYPE.match(value["type"]):
        raise Corrupt("field 'type' is not an event type")
    if type(value["prev"]) is not str or not _HEX64.match(value["prev"]):
        raise Corrupt("field 'prev' is not 64 lower-case hex digits")
    if type(value["data"]) is not dict:
        raise Corrupt("field 'data' is not an object")
    cells = value["cells"]
    if type(cells) is not dict:
        raise Corrupt("field 'cells' is not an object")
    for name, commit in cells.items():
        if not name or type(commit) is not str or not _HEX64.match(commit):
            raise Corrupt(f"cell {name!r} has no commitment of 64 lower-case hex digits")
    for name, kind in TYPES.get(value["type"], {}).items():
        if type(value["data"].get(name)) is not kind:
            raise Corrupt(f"{value['type']} without {name} ({kind.__name__})")
    if value["type"] == "tool_invocation_finished" and value["data"]["outcome"] not in FINISHED_OUTCOMES:
        raise Corrupt(f"outcome {value['data']['outcome'][:24]!r} is not one of a finished call")
    return Event(
        value["at"],
        value["by"],
        cells,
        value["data"],
        value["epoch"],
        value["prev"],
        value["seq"],
        value["step"],
        value["type"],
    )


class Break(NamedTuple):
    """One rule of the chain that one event breaks.

    `rule` is one of seq, prev, genesis, time, epoch, end.
    """

    rule: str
    where: str
    message: str
    expected: str = ""
    found: str = ""


class Chain:
    """Checks one job's events as they come: sequence, links, time, epochs, genesis, end.

    Feed `add(event, leaf)` in order; it raises Corrupt at the first break and
    names the event. A verifier that wants every break uses `breaks`, and `skip`
    for a line that can't be read. It holds O(1) memory.
    """

    def __init__(self) -> None:
        self.count = 0
        self.head = GENESIS_PREV
        self.genesis: Event | None = None
        self.last: Event | None = None
        self._next_seq = 1

    def add(self, event: Event, leaf: bytes) -> None:
        """Accept the next event, or raise Corrupt saying how it breaks the chain."""
        for broken in self._broken(event):
            raise Corrupt(
                f"{broken.where}: {broken.message}", where=broken.where, expected=broken.expected, found=broken.found
            )
        self._move(event, leaf)

    def breaks(self, event: Event, leaf: bytes) -> list[Break]:
        """Return every rule that the next event breaks, and go on as if it had broken none."""
        broken = list(self._broken(event))
        self._move(event, leaf)
        return broken

    def skip(self, leaf: bytes) -> None:
        """Go past a line that is no event; the next one must still name it as predecessor."""
        self.count += 1
        self.head = leaf.hex()
        self._next_seq += 1

    def _broken(self, event: Event) -> Iterator[Break]:
        where = f"event {self.count + 1}"
        if event.seq != self._next_seq:
            yield Break("seq", where, f"seq is {event.seq}", str(self._next_seq), str(event.seq))
        if event.prev != self.head:
            yield Break("prev", where, "prev is not its predecessor's leaf", self.head, event.prev)
        if (event.type == "job_created") != (self.count == 0):
            yield Break("genesis", where, "no genesis first" if self.count == 0 else "a second genesis")
        elif self.count == 0 and event.data["format"] != FORMAT:
            yield Break("genesis", where, "another format of job", FORMAT, event.data["format"][:80])
        if self.last is not None:
            if event.at < self.last.at:
                yield Break("time", where, "earlier than its predecessor", f"{self.last.at} or later", str(event.at))
            if event.epoch < self.last.epoch:
                yield Break("epoch", where, f"epoch {event.epoch} after {self.last.epoch}")
            if self.last.type in TERMINAL_TYPES:
                yield Break("end", where, "follows the end of the job")

    def _move(self, event: Event, leaf: bytes) -> None:
        if self.count == 0 and event.type == "job_created":
            self.genesis = event
        self.count += 1
        self.head = leaf.hex()
        self.last = event
        self._next_seq = event.seq + 1
