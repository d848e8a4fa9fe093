"""Decision quality: how well the record bears out each answer of a model, 0 to 100.

An answer is a decision. The attempts of calls that began between the answer
before and this one are its grounds; those that began between it and the next
answer, or the job's end, are its acts. Of 100 points

    completeness  30   attempts, grounds and acts, of which the record knows the end by itself: no doubt,
                       nobody's word
    quality       25   grounds that succeeded
    confidence    25   the mean probability of its tokens where the endpoint gave it (logprobs);
                       else all if the answer ended by itself, none if it was cut off or filtered
    oversight     20   acts with effect `once` that began after a person had approved, since the answer

Each is a share of what there is, and whole where there is nothing: an answer
that needs no approval lacks none. It says how far the record stands behind a
decision, not whether the decision was right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aetheris.domain.events import TERMINAL_TYPES, Event

COMPLETENESS, QUALITY, CONFIDENCE, OVERSIGHT = 30, 25, 25, 20
#: An endpoint's words for an answer that ended by itself; one that gives none is believed.
WHOLE = frozenset({"stop", "tool_calls", "function_call", ""})
#: What an event may say of an answer's end; anything else an endpoint says is "other".
FINISH_REASONS = WHOLE | {"length", "content_filter"}
_KNOWN = frozenset({"tool_invocation_finished", "tool_invocation_confirmed", "tool_call_refused"})
#: What the name of a model begins with, where it stands as a tool's.
MODEL_PREFIX = "llm:"


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer and its shares, each 0 to 1. `seq` is its event."""

    step: int
    seq: int
    grounds: int
    acts: int
    completeness: float
    quality: float
    confidence: float
    oversight: float

    @property
    def score(self) -> float:
        """Points of 100."""
        return (
            COMPLETENESS * self.completeness
            + QUALITY * self.quality
            + CONFIDENCE * self.confidence
            + OVERSIGHT * self.oversight
        )


@dataclass(slots=True)
class _Tally:
    """The attempts that began between two answers."""

    attempts: int = 0
    known: int = 0
    succeeded: int = 0
    once: int = 0
    approved: int = 0

    def begin(self, effect: str, approved: bool) -> None:
        self.attempts += 1
        if effect == "once":
            self.once += 1
            self.approved += approved

    def end(self, event: Event) -> None:
        self.known += event.type in _KNOWN
        self.succeeded += event.data["outcome"] in ("success", "done")


@dataclass(slots=True)
class Decisions:
    """A job's decisions as its events come, in order. One whose beginning was not seen is not known here.

    Holds counts, and the attempts that have not ended: as much for a job of a
    million steps as for one of ten.
    """

    _answer: Event | None = None
    _grounds: _Tally = field(default_factory=_Tally)
    _acts: _Tally = field(default_factory=_Tally)
    _open: dict[tuple[int, int], _Tally] = field(default_factory=dict)
    _approved: bool = False

    def note(self, event: Event) -> Decision | None:
        """Take one more event into account; return the decision that it ends, if it ends one."""
        kind = event.type
        if kind.startswith("tool_"):
            if str(event.data["tool_name"]).startswith(MODEL_PREFIX):
                return self._answered(event) if _is_answer(event) else None
            self._call(event)
        elif kind == "approval_completed":
            self._approved = self._approved or event.data["decision"] == "approved"
        elif kind in TERMINAL_TYPES:
            return self._close()
        return None

    def _answered(self, event: Event) -> Decision | None:
        ended = self._close()
        self._answer, self._grounds, self._acts, self._approved = event, self._acts, _Tally(), False
        return ended

    def _call(self, event: Event) -> None:
        data, key = event.data, (event.step, int(event.data["attempt"]))
        if event.type == "tool_invocation_unknown":
            return  # its attempt stays open
        if event.type == "tool_invocation_started":
            # One that is begun anew under its own start record is the same attempt.
            if key not in self._open:
                self._acts.begin(data["effect"], self._approved)
                self._open[key] = self._acts
            return
        tally = self._open.pop(key, None)
        if tally is None:
            if data["effect"] != "none" and event.type != "tool_call_refused":
                return  # it began before what was seen
            tally = self._acts
            tally.begin(data["effect"], self._approved)
        tally.end(event)

    def _close(self) -> Decision | None:
        answer, self._answer = self._answer, None
        if answer is None:
            return None
        grounds, acts = self._grounds, self._acts
        attempts = grounds.attempts + acts.attempts
        return Decision(
            answer.step,
            answer.seq,
            grounds.attempts,
            acts.attempts,
            _share(grounds.known + acts.known, attempts),
            _share(grounds.succeeded, grounds.attempts),
            _confidence(answer),
            _share(acts.approved, acts.once),
        )


def decisions(events: Iterable[Event]) -> list[Decision]:
    """Return the decisions of a job's events; the last one of a job that has not ended is still open, and left out."""
    noted = Decisions()
    return [ended for event in events if (ended := noted.note(event)) is not None]


def _is_answer(event: Event) -> bool:
    return event.type == "tool_invocation_finished" and event.data["outcome"] == "success"


def _confidence(answer: Event) -> float:
    if (ppm := answer.data.get("confidence_ppm")) is not None:
        return min(max(int(ppm), 0), 1_000_000) / 1e6
    return 1.0 if answer.data.get("finish_reason", "") in WHOLE else 0.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
