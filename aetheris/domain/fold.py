"""State as a fold over events: the generic part that every job has.

`fold(events)` gives status, steps and results' commitments; an agent's own
state is its code's business. A snapshot holds this object (`dumps`), and the law
is fold(snapshot, tail) == fold(all). `queries/trace/fold.sql` is the same fold in
DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from aetheris.domain import ledger
from aetheris.domain.errors import Corrupt
from aetheris.domain.events import Event
from aetheris.domain.jobs import STATUS_AFTER, JobStatus


@dataclass(slots=True)
class JobState:
    """What the events say of a job so far."""

    status: JobStatus = JobStatus.PENDING
    head_seq: int = 0
    epoch: int = 0
    last_at: int = 0
    checkpoint_seq: int = 0
    #: step -> (kind, status, result commitment); the latest attempt's
    steps: dict[int, tuple[str, str, str]] = field(default_factory=dict)


def apply(state: JobState, event: Event) -> JobState:
    """Return `state` moved on by one event (the same object, changed)."""
    state.status = STATUS_AFTER.get(event.type, JobStatus.RUNNING if event.epoch else JobStatus.PENDING)
    state.head_seq, state.epoch, state.last_at = event.seq, event.epoch, event.at
    transition = ledger.transition_of(event)
    if transition is not None:
        state.steps[event.step] = (transition.tool_name, transition.status, transition.result_hash)
    elif event.type == "random_recorded":
        state.steps[event.step] = ("random", "committed", event.cells.get("value", ""))
    elif event.type == "state_checkpointed":
        state.checkpoint_seq = event.seq
        state.steps[event.step] = ("checkpoint", "committed", event.cells.get("state", ""))
    elif event.step and event.type == "job_waiting":
        state.steps[event.step] = (str(event.data["wait_type"]), "waiting", "")
    elif event.step and event.type in ("timer_fired", "wait_completed", "approval_completed"):
        state.steps[event.step] = (event.type, "committed", event.cells.get("payload", ""))
    return state


def fold(events: Iterable[Event], start: JobState | None = None) -> JobState:
    """Return the state after `events`, beginning at `start` (a snapshot) or at nothing."""
    state = start if start is not None else JobState()
    for event in events:
        apply(state, event)
    return state


def dumps(state: JobState) -> bytes:
    """Return the state as JSON: the same state, the same bytes. It holds commitments, never content."""
    return orjson.dumps(
        {
            "checkpoint_seq": state.checkpoint_seq,
            "epoch": state.epoch,
            "head_seq": state.head_seq,
            "last_at": state.last_at,
            "status": state.status.word,
            "steps": [[step, *state.steps[step]] for step in sorted(state.steps)],
        }
    )


def loads(body: bytes) -> JobState:
    """Return the state of a snapshot's body. Errors: Corrupt when it is none."""
    try:
        v = orjson.loads(body)
        return JobState(
            status=JobStatus[v["status"].upper()],
            head_seq=int(v["head_seq"]),
            epoch=int(v["epoch"]),
            last_at=int(v["last_at"]),
            checkpoint_seq=int(v["checkpoint_seq"]),
            steps={step: (kind, status, result) for step, kind, status, result in v["steps"]},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Corrupt("a snapshot's body is not a fold") from None
