"""The ledger of tool invocations: effects, states, legal moves, and the two ways to read it.

A row is one transition of one attempt of one step, carried by exactly one
event. The current state of an attempt is its last transition. Rows hold
commitments, never bodies.

    effect none         -> committed | failed              (no start record: it may run again freely)
    effect idempotent   -> started -> committed | failed   (run again under the same key after a crash)
    effect once         -> started -> committed | failed | unknown -> confirmed | resolved

`unknown` is a doubt with a name: the call started and nobody recorded its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aetheris.domain.errors import Corrupt
from aetheris.domain.events import Event

EFFECTS = ("none", "idempotent", "once")

#: state -> states that may follow it in the ledger. "" is "no row yet".
MOVES: dict[str, dict[str, frozenset[str]]] = {
    "none": {"": frozenset({"committed", "failed"})},
    "idempotent": {"": frozenset({"started"}), "started": frozenset({"committed", "failed"})},
    "once": {
        "": frozenset({"started"}),
        "started": frozenset({"committed", "failed", "unknown"}),
        "unknown": frozenset({"confirmed", "resolved"}),
    },
}

#: States in which nobody knows yet whether the effect happened: such a job can't end.
OPEN = frozenset({"started", "unknown"})

#: What a confirmation or a person may say of a call in doubt. `not_done` promises
#: that the attempt can no longer take effect.
OUTCOMES = {"confirmed": ("done", "not_done"), "resolved": ("done", "failed", "not_done")}


@dataclass(slots=True)
class Invocation:
    """One attempt of one step, folded from its transitions."""

    step: int
    attempt: int
    tool_name: str
    effect: str
    idempotency_key: str
    args_hash: str
    result_hash: str = ""
    outcome: str = ""
    transitions: list[tuple[int, str, int]] = field(default_factory=list)  # seq, status, epoch

    @property
    def status(self) -> str:
        """The last transition's state."""
        return self.transitions[-1][1]

    @property
    def open(self) -> bool:
        """True when a call with an effect has started and its outcome isn't known."""
        return self.effect == "once" and self.status in OPEN

    def row(self) -> dict[str, Any]:
        """Return the row as `invocations.jsonl` holds it; keys are fixed."""
        return {
            "args_hash": self.args_hash,
            "attempt": self.attempt,
            "effect": self.effect,
            "idempotency_key": self.idempotency_key,
            "outcome": self.outcome,
            "result_hash": self.result_hash,
            "status": self.status,
            "step": self.step,
            "tool_name": self.tool_name,
            "transitions": [{"epoch": e, "seq": s, "status": t} for s, t, e in self.transitions],
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the `ledger` table. Digests are hex, "" where the row has none."""

    seq: int
    step: int
    attempt: int
    tool_name: str
    effect: str
    status: str
    epoch: int
    idempotency_key: str = ""
    args_hash: str = ""
    result_hash: str = ""
    outcome: str = ""


def transition_of(event: Event) -> Transition | None:
    """Return the ledger transition that this event tells of, or None.

    The result's commitment is that of its `result` cell, or else its `error` cell.
    """
    data, cells = event.data, event.cells
    key = data.get("idempotency_key", "")
    match event.type:
        case "tool_invocation_started":
            status, outcome = "started", ""
        case "tool_invocation_finished":
            status, outcome = ("committed" if data.get("outcome") == "success" else "failed"), ""
        case "tool_invocation_unknown":
            status, outcome = "unknown", ""
        case "tool_invocation_confirmed" | "tool_invocation_resolved":
            status, outcome = event.type.removeprefix("tool_invocation_"), str(data.get("outcome", ""))
        case _:
            return None
    return Transition(
        seq=event.seq,
        step=event.step,
        attempt=data["attempt"],
        tool_name=data["tool_name"],
        effect=data["effect"],
        status=status,
        epoch=event.epoch,
        idempotency_key=key if type(key) is str else "",
        args_hash=cells.get("args", ""),
        result_hash=cells.get("result", cells.get("error", "")),
        outcome=outcome,
    )


def fold(transitions: Iterable[Transition]) -> dict[tuple[int, int], Invocation]:
    """Return the attempts by (step, attempt), in the order in which they began.

    Errors: Corrupt at the first illegal move, naming its event.
    """
    calls: dict[tuple[int, int], Invocation] = {}
    steps: dict[str, int] = {}
    for t in transitions:
        fault = _fault(calls, t)
        if not fault and t.idempotency_key and steps.setdefault(t.idempotency_key, t.step) != t.step:
            fault = f"step {t.step} goes under the idempotency key of step {steps[t.idempotency_key]}"
        if fault:
            raise Corrupt(f"event {t.seq}: {fault}", where=f"event {t.seq}")
        _extend(calls, t)
    return calls


def collect(transitions: Iterable[Transition]) -> dict[tuple[int, int], Invocation]:
    """Return the attempts as `fold` does, but whatever the rows say: nothing is checked.

    For showing a damaged ledger, and for comparing two of them row by row.
    """
    calls: dict[tuple[int, int], Invocation] = {}
    for t in transitions:
        _extend(calls, t)
    return calls


def _fault(calls: dict[tuple[int, int], Invocation], t: Transition) -> str:
    # Returns how this row breaks the rules, or "".
    call = calls.get((t.step, t.attempt))
    before = call.status if call else ""
    this = f"step {t.step} attempt {t.attempt}"
    if t.status not in MOVES.get(t.effect, {}).get(before, frozenset()):
        return f"{this} ({t.effect[:24]}) can't go from {before or 'nothing'} to {t.status}"
    if t.status in OUTCOMES and t.outcome not in OUTCOMES[t.status]:
        return f"{t.status} with outcome {t.outcome[:24]!r}"
    if call is not None:
        changed = (call.tool_name, call.effect) != (t.tool_name, t.effect)
        return f"{this} changed its tool or effect" if changed else ""
    if t.attempt == 1:
        return ""
    earlier = calls.get((t.step, t.attempt - 1))
    if earlier is None:
        return f"{this} without attempt {t.attempt - 1}"
    return f"{this} began though attempt {t.attempt - 1} is {earlier.status}" if not _over(earlier) else ""


def _over(call: Invocation) -> bool:
    # May the step be tried again? Only where this attempt took no effect, or where its key makes that safe.
    if call.status == "started":
        return call.effect == "idempotent"
    return call.status == "failed" or (call.status in OUTCOMES and call.outcome != "done")


def _extend(calls: dict[tuple[int, int], Invocation], t: Transition) -> None:
    call = calls.get((t.step, t.attempt))
    if call is None:
        call = calls[t.step, t.attempt] = Invocation(
            t.step, t.attempt, t.tool_name, t.effect, t.idempotency_key, t.args_hash
        )
    call.transitions.append((t.seq, t.status, t.epoch))
    call.result_hash = t.result_hash or call.result_hash
    call.outcome = t.outcome or call.outcome
