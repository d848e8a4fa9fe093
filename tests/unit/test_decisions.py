"""Decision quality: each share moves for its own reason and no other."""

from __future__ import annotations

from typing import Any

import pytest

from aetheris.domain.decisions import Decision, Decisions, decisions
from aetheris.domain.events import Event


def script(*lines: tuple[str, int, dict[str, Any]]) -> list[Event]:
    """Events of these types, steps and data."""
    return [Event(n, "worker/w", {}, data, 1, "", n, step, type) for n, (type, step, data) in enumerate(lines)]


def answer(step: int, finish: str = "stop", **more: Any) -> tuple[str, int, dict[str, Any]]:
    """A model's answer."""
    data = {"attempt": 1, "effect": "idempotent", "outcome": "success", "tool_name": "llm:desk"}
    return "tool_invocation_finished", step, {**data, "finish_reason": finish, **more}


def start(step: int, attempt: int = 1) -> tuple[str, int, dict[str, Any]]:
    """A call of effect once that begins."""
    return "tool_invocation_started", step, {"attempt": attempt, "effect": "once", "tool_name": "pay"}


def end(
    step: int, how: str = "finished", outcome: str = "success", attempt: int = 1
) -> tuple[str, int, dict[str, Any]]:
    """Its end, or what was said of it."""
    data = {"attempt": attempt, "effect": "once", "outcome": outcome, "tool_name": "pay"}
    return f"tool_invocation_{how}", step, data


def look(step: int, outcome: str = "success") -> tuple[str, int, dict[str, Any]]:
    """A call without effect: it begins and ends in one event."""
    return "tool_invocation_finished", step, {"attempt": 1, "effect": "none", "outcome": outcome, "tool_name": "see"}


APPROVED = ("approval_completed", 90, {"correlation_key": "k", "decision": "approved"})
REJECTED = ("approval_completed", 90, {"correlation_key": "k", "decision": "rejected"})
DONE = ("job_completed", 0, {})


def only(*lines: tuple[str, int, dict[str, Any]]) -> Decision:
    """The one decision of a script."""
    (found,) = decisions(script(*lines))
    return found


def test_an_answer_that_lacks_nothing_is_worth_a_hundred() -> None:
    """Grounds that succeeded, an answer that ended by itself, a call that a person approved before it began."""
    found = only(look(1), answer(2, "tool_calls"), APPROVED, start(3), end(3), DONE)
    assert (found.step, found.seq, found.grounds, found.acts, found.score) == (2, 1, 1, 1, 100.0)
    assert only(answer(1), DONE).score == 100.0  # nothing to lack


@pytest.mark.parametrize(
    ("lines", "score"),
    [
        ([look(1), look(2, "failure"), answer(3), DONE], 87.5),  # half of its grounds failed
        ([answer(1, "length"), DONE], 75.0),  # cut off
        ([answer(1, "other"), DONE], 75.0),
        ([answer(1, confidence_ppm=400_000), DONE], 85.0),
        ([answer(1), start(2), end(2), DONE], 80.0),  # nobody approved
        ([answer(1), start(2), APPROVED, end(2), DONE], 80.0),  # too late
        ([answer(1), REJECTED, start(2), end(2), DONE], 80.0),
        ([APPROVED, answer(1), start(2), end(2), DONE], 80.0),  # of what was decided before
        ([answer(1), APPROVED, start(2), end(2), start(3), end(3), DONE], 100.0),
        ([answer(1), start(2), APPROVED, start(3), end(2), end(3), DONE], 90.0),  # one of two
        ([answer(1), APPROVED, start(2), ("job_failed", 0, {})], 70.0),  # no end on record
        ([answer(1), APPROVED, start(2), end(2, "unknown", ""), end(2, "resolved", "done"), DONE], 70.0),  # a word
        ([answer(1), APPROVED, start(2), end(2, "unknown", ""), end(2, "confirmed", "done"), DONE], 100.0),
        ([start(1), end(1, "unknown", ""), end(1, "confirmed", "not_done"), answer(2), DONE], 75.0),
        ([look(1, "failure"), start(2), answer(3, "length"), start(4), ("job_cancelled", 0, {})], 10.0),
    ],
)
def test_each_share_moves_for_its_own_reason(lines: list[tuple[str, int, dict[str, Any]]], score: float) -> None:
    """30 for ends on record, 25 for grounds, 25 for the answer, 20 for a person."""
    assert only(*lines).score == pytest.approx(score)


def test_what_was_done_upon_one_answer_is_the_ground_of_the_next() -> None:
    """Attempts count by when they began; one from before the last answer but one is of neither."""
    first, second, third = decisions(
        script(start(1), answer(2), look(3, "failure"), answer(4), answer(5), end(1), DONE)
    )
    assert (first.grounds, first.acts, first.completeness) == (1, 1, 0.5)
    assert (second.grounds, second.acts, second.quality, second.completeness) == (1, 0, 0.0, 1.0)
    assert (third.grounds, third.acts, third.score) == (0, 0, 100.0)


def test_an_attempt_that_is_begun_anew_is_one_and_a_second_attempt_another() -> None:
    """A worker that was killed under a start record begins the same attempt."""
    assert only(start(1), start(1), end(1), answer(2), DONE).grounds == 1
    again = only(start(1), end(1, outcome="failure"), start(1, 2), end(1, attempt=2), answer(2), DONE)
    assert (again.grounds, again.quality) == (2, 0.5)


def test_an_answer_is_open_until_the_next_or_the_end() -> None:
    """And one that failed is none."""
    failed = answer(1)[0], 1, {**answer(1)[2], "outcome": "failure"}
    assert decisions(script(failed, answer(2), look(3))) == []


def test_a_long_job_holds_what_is_open_and_no_more() -> None:
    """A million steps must not be held for the sake of a score."""
    noted = Decisions()
    for event in script(*[line for n in range(1, 500) for line in (start(n), end(n), look(n + 1000))]):
        assert noted.note(event) is None
    assert not noted._open
    assert noted._acts.attempts == 998
