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
        idempotency_key=data.get("idempotency_key", ""),
        args_hash=cells.get("args", ""),
        result_hash=cells.get("result", cells.get("error", "")),
        outcome=outcome,
    )


def fold(transitions: Iterable[Transition]) -> dict[tuple[int, int], Invocation]:
    """Return the attempts by (step, attempt), in the order in which they began.

    Errors: Corrupt at the first illegal move, naming its event.
    """
    calls: dict[tuple[int, int], Invocation] = {}
    for t in transitions:
        where = f"event {t.seq}"
        call = calls.get((t.step, t.attempt))
        before = call.status if call else ""
        if t.status not in MOVES.get(t.effect, {}).get(before, frozenset()):
            raise Corrupt(
                f"{where}: step {t.step} attempt {t.attempt} ({t.effect}) can't go from "
                f"{before or 'nothing'} to {t.status}",
                where=where,
            )
        if t.status in OUTCOMES and t.outcome not in OUTCOMES[t.status]:
            raise Corrupt(f"{where}: {t.status} with outcome {t.outcome!r}", where=where)
        if call is None:
            if t.attempt != 1 and (t.step, t.attempt - 1) not in calls:
                raise Corrupt(f"{where}: step {t.step} attempt {t.attempt} without attempt {t.attempt - 1}", where=where)
            call = calls[t.step, t.attempt] = Invocation(
                t.step, t.attempt, t.tool_name, t.effect, t.idempotency_key, t.args_hash
            )
        elif (call.tool_name, call.effect) != (t.tool_name, t.effect):
            raise Corrupt(f"{where}: step {t.step} attempt {t.attempt} changed its tool or effect", where=where)
        call.transitions.append((t.seq, t.status, t.epoch))
        call.result_hash = t.result_hash or call.result_hash
        call.outcome = t.outcome or call.outcome
    return calls
