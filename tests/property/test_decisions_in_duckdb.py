"""Decision quality stands twice, in Python and in SQL: they may not part, on any record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aetheris.domain import events
from aetheris.domain.decisions import decisions
from aetheris.domain.encode import line_bytes
from aetheris.domain.events import Event
from aetheris.forensics.session import Session
from aetheris.lake.schema import TABLES

COUNTS = ("seq", "step", "grounds", "acts")
SHARES = ("completeness", "quality", "confidence", "oversight", "score")
#: What may come next: an answer, a call of each effect, an end of one that is open, an approval.
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["answer", "cut", "sure", "none", "once", "idempotent", "end", "doubt", "refuse", "approve"]),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=40,
)


def job(moves: Sequence[tuple[str, int, bool]], ends: bool) -> list[Event]:
    """A legal record of these moves."""
    made: list[Event] = []
    open_calls: dict[tuple[int, int], str] = {}
    attempts: dict[int, int] = {}

    def add(type: str, step: int = 0, **data: Any) -> None:
        made.append(Event(len(made), "worker/w", {}, data, 1, "", len(made) + 1, step, type))

    for move, number, good in moves:
        outcome = "success" if good else "failure"
        call = {"attempt": attempts.get(number, 0) + 1, "tool_name": "pay"}
        match move:
            case "answer" | "cut" | "sure":
                more: dict[str, Any] = {"finish_reason": "length" if move == "cut" else "stop"}
                if move == "sure":
                    more["confidence_ppm"] = number * 150_000
                said = {"attempt": 1, "effect": "idempotent", "outcome": outcome, "tool_name": "llm:desk"}
                add("tool_invocation_finished", 50 + number, llm_model="m", **said, **more)
            case "none" | "refuse":
                attempts[number] = call["attempt"]
                data = {**call, "effect": "none", "outcome": outcome if move == "none" else "refused"}
                add("tool_invocation_finished" if move == "none" else "tool_call_refused", number, **data)
            case "once" | "idempotent":
                if any(step == number for step, _ in open_calls):
                    continue
                attempts[number] = call["attempt"]
                open_calls[number, call["attempt"]] = move
                add("tool_invocation_started", number, **call, effect=move)
            case "end" | "doubt" if open_calls:
                (step, attempt), effect = sorted(open_calls.items())[number % len(open_calls)]
                call = {"attempt": attempt, "tool_name": "pay", "effect": effect}
                del open_calls[step, attempt]
                if move == "end":
                    add("tool_invocation_finished", step, **call, outcome=outcome)
                    continue
                add("tool_invocation_unknown", step, **call)
                if number % 3:
                    how = "confirmed" if number % 3 == 1 else "resolved"
                    add(f"tool_invocation_{how}", step, **call, outcome="done" if good else "not_done")
            case "approve":
                add("approval_completed", 70, correlation_key="k", decision="approved" if good else "rejected")
    if ends:
        add("job_completed")
    return made


def lake_of(jobs: Sequence[list[Event]]) -> Session:
    """Return a session over these jobs' events."""
    rows = []
    for number, made in enumerate(jobs):
        for e in made:
            line = line_bytes(
                events.build(
                    at=e.at, by=e.by, cells={}, data=e.data, epoch=1, prev="0" * 64, seq=e.seq, step=e.step, type=e.type
                )
            )
            where = {"tenant_id": "acme", "job_id": f"job-{number}", "xid": 1, "recorded_at": 1}
            rows.append({**where, "seq": e.seq, "leaf": b"\0" * 32, "line": line.decode()})
    table = TABLES["events"]
    batch = table.batch([[row[column] for row in rows] for column in table.source])
    return Session.over_tables({"events": pa.Table.from_batches([batch])}, "0" * 64, "made")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(MOVES, st.booleans()), min_size=1, max_size=8))
def test_duckdb_scores_any_decision_as_the_runtime_does(jobs: list[tuple[list[tuple[str, int, bool]], bool]]) -> None:
    """Every share of every decision."""
    made = [job(moves, ends) for moves, ends in jobs]
    with lake_of(made) as session:
        rows = session.query("trace/decisions", job_id=None).rows
    told = [(f"job-{number}", d) for number, m in enumerate(made) for d in decisions(m)]
    assert [(row["job_id"], *(row[c] for c in COUNTS)) for row in rows] == [
        (name, *(getattr(d, c) for c in COUNTS)) for name, d in told
    ]
    for row, (_, d) in zip(rows, told, strict=True):
        assert {c: row[c] for c in SHARES} == pytest.approx({c: getattr(d, c) for c in SHARES})
