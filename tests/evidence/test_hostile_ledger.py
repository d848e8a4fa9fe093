"""H54 to H61: a tool ledger that tells another story than the events. Chain and seal are consistent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.evidence.evidence_job import Job, Spec, base, doubt, finished, judged, package, started

Rows = list[dict[str, Any]]


@cache
def job() -> Job:
    return base()


def rows_as(change: Callable[[Rows], object]) -> bytes:
    """Other rows, under a seal that names exactly these rows."""
    rows = job().rows()
    change(rows)
    return package(job().members(rows=rows))


def specs_as(change: Callable[[list[Spec]], object]) -> bytes:
    """Other events, with rows, leaves, root and seal that follow."""
    specs = list(job().specs)
    change(specs)
    return package(job().with_specs(specs).members())


def row(number: int, **fields: Any) -> bytes:
    return rows_as(lambda rows: rows[number].update(fields))


def at_end(*more: Spec) -> bytes:
    return specs_as(lambda specs: specs.__setitem__(slice(-1, -1), [replace(s, epoch=2) for s in more]))


def stamped(step: int, at: int, epoch: int) -> Callable[[list[Spec]], object]:
    return lambda specs: specs.__setitem__(at, replace(specs[at], epoch=epoch))


def same_key(specs: list[Spec]) -> None:
    key = specs[8].data["idempotency_key"]
    specs[10] = replace(specs[10], data=specs[10].data | {"idempotency_key": key})


def sealed(**wrong: Any) -> bytes:
    return package(job().members() | {"seal.json": job().statement(job().parts(), **wrong)})


def extra_row(rows: Rows) -> None:
    rows.append(rows[0] | {"step": 9, "transitions": [{"epoch": 2, "seq": 16, "status": "committed"}]})


def as_committed(number: int) -> bytes:
    def change(rows: Rows) -> None:
        moves = rows[number]["transitions"]
        moves[-1]["status"] = "committed"
        rows[number].update(status="committed", outcome="")

    return rows_as(change)


HELD: dict[str, Any] = {"cells": {"args": b"{}"}, "tool": "pay"}
CASES: dict[str, Callable[[], bytes]] = {
    "H54-event-without-a-row": lambda: rows_as(lambda rows: rows.pop(1)),
    "H54-transition-without-its-mark": lambda: rows_as(lambda rows: rows[1]["transitions"].pop(1)),
    "H54-no-rows-at-all": lambda: rows_as(lambda rows: rows.clear()),
    "H55-row-without-an-event": lambda: rows_as(extra_row),
    "H55-two-rows-for-one-call": lambda: rows_as(lambda rows: rows.append(rows[0])),
    "H55-rows-out-of-order": lambda: rows_as(lambda rows: rows.reverse()),
    "H56-result-digest": lambda: row(0, result_hash="ab" * 32),
    "H56-request-digest": lambda: row(0, args_hash="ab" * 32),
    "H56-tool": lambda: row(0, tool_name="delete_everything"),
    "H56-key": lambda: row(1, idempotency_key="ab" * 32),
    "H57-two-commits-of-one-call": lambda: at_end(finished(2, "once", attempt=2)),
    "H57-two-commits-of-one-step": lambda: at_end(started(2, "once", attempt=3), finished(2, "once", attempt=3)),
    "H57-two-steps-under-one-key": lambda: specs_as(same_key),
    "H58-committed-without-started": lambda: at_end(finished(8, "once")),
    "H58-committed-before-started": lambda: at_end(finished(8, "once", tool="pay"), started(8, "once", **HELD)),
    "H58-never-ended": lambda: at_end(started(8, "once", **HELD)),
    "H58-doubt-at-the-end": lambda: at_end(
        started(8, "once", tool="refund"), doubt("unknown", 8, data={"reason": "x"})),
    "H58-two-ends": lambda: at_end(
        started(8, "once", **HELD), finished(8, "once", tool="pay"), finished(8, "once", "failure", tool="pay")),
    "H58-no-such-effect": lambda: at_end(finished(8, "maybe")),
    "H59-stale-epoch-of-a-commit": lambda: specs_as(lambda specs: specs.__setitem__(9, replace(specs[9], epoch=1))),
    "H59-stale-epoch-of-an-event": lambda: specs_as(lambda specs: specs.__setitem__(12, replace(specs[12], epoch=1))),
    "H59-stale-epoch-in-the-row": lambda: rows_as(lambda rows: rows[2]["transitions"][1].update(epoch=1)),
    "H60-ledger-digest": lambda: sealed(ledger_sha256="ab" * 32),
    "H60-count": lambda: sealed(invocation_count=3),
    "H61-unknown-shown-as-committed": lambda: as_committed(1),
    "H61-failed-shown-as-committed": lambda: as_committed(3),
    "H61-confirmed-without-unknown": lambda: at_end(
        started(8, "once", tool="refund"), doubt("confirmed", 8, data={"outcome": "done"})),
    "H61-resolved-without-unknown": lambda: at_end(
        started(8, "once", tool="refund"), doubt("resolved", 8, data={"outcome": "done"})),
    "H61-resolved-as-nothing-known": lambda: at_end(
        started(8, "once"), doubt("unknown", 8, data={"reason": "x"}), doubt("resolved", 8, data={"outcome": "fine"})),
    "H61-hole-in-the-attempts": lambda: at_end(started(8, "once", attempt=2, **HELD)),
    "H61-again-though-committed": lambda: at_end(started(2, "once", attempt=3)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_ledger_that_tells_another_story_fails(case: str) -> None:
    """'Refunded once' must mean once, in both places."""
    judged(CASES[case](), "ledger", 1)


#: The attacker edits events and ledger alike: the story is consistent, and nobody signed it.
TWINS: dict[str, Callable[[], bytes]] = {
    "H54-call-dropped-from-both": lambda: specs_as(lambda specs: specs.pop(2)),
    "H55-call-invented-in-both": lambda: at_end(finished(8, "none", tool="search")),
    "H56-result-in-both": lambda: specs_as(
        lambda specs: specs.__setitem__(9, replace(specs[9], cells={"result": b'"paid nothing"'}))),
    "H61-failure-told-as-success": lambda: specs_as(
        lambda specs: specs.__setitem__(11, finished(3, "idempotent", tool="notify", epoch=2))),
}  # fmt: skip


@pytest.mark.parametrize("case", TWINS)
def test_a_rebuilt_twin_is_consistent_and_no_more(case: str) -> None:
    """Only a signature tells it from the truth."""
    judged(TWINS[case](), "authenticity", 3)


def test_an_idempotent_call_left_open_by_a_crash_is_no_doubt() -> None:
    """Its key makes it safe to run again, so a job may end beside it."""
    judged(at_end(started(8, "idempotent", **HELD), started(8, "idempotent", attempt=2, **HELD),
                  finished(8, "idempotent", attempt=2, tool="pay")), "none", 3)  # fmt: skip


def test_a_finding_names_the_call_and_both_sides() -> None:
    """'Ledger failed' alone starts a week of digging."""
    verdict = judged(CASES["H56-result-digest"](), "ledger", 1)
    finding = verdict["ledger"].findings[0]
    assert (finding.where, finding.found) == ("invocations.jsonl line 1", "ab" * 32)
    assert "call 1 attempt 1 (search): result_hash" in finding.what


def test_every_row_of_the_section_has_a_case() -> None:
    """A row without a case is a promise nobody holds."""
    assert {case[:3] for case in CASES} == {f"H{n}" for n in range(54, 62)}
