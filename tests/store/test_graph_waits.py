"""Gates of a task graph on the real ctx: approvals, signals, their expiry; and a failed graph run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.store.database import Database

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    CALLS.clear()


@ae.tool
async def do(what: Any) -> Any:
    """An effect that is counted; fails the first time it is told to."""
    CALLS.append(str(what))
    if what == "fail" and CALLS.count("fail") == 1:
        raise ValueError("not today")
    return what


def written(folder: Path, text: str) -> ae.Agent:
    """Return the graph in a file with this text."""
    (folder / "g.yaml").write_text(text)
    return ae.graph(folder / "g.yaml", [do])


def until(job: ae.Job, *statuses: JobStatus) -> None:
    """Return once the job stands so."""
    deadline = time.monotonic() + 30
    while job.status not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


ASKED = """
nodes:
  ask: {approval: "Pay ${input}?", role: operator, expires: %s}
  yes: {tool: do, with: {what: "paid, says ${ask.why}"}, needs: ask}
  no: {tool: do, with: {what: "expired: ${ask.expired}"}, needs: [not ask]}
"""


@pytest.mark.parametrize(
    ("answer", "expires", "expected"),
    [(True, "1h", "paid, says seen"), (False, "1h", "expired: false"), (None, "1.5s", "expired: true")],
    ids=["approved", "rejected", "expired"],
)
def test_an_approval_opens_its_gate_one_way(
    database: Database, tmp_path: Path, answer: bool | None, expires: str, expected: str
) -> None:
    """A person's word, or their silence, decides which branch runs."""
    with ae.open(database.admin_dsn) as system:
        job = system.submit(made := written(tmp_path, ASKED % expires), 42)
        system.serve(made)
        until(job, JobStatus.PARKED, JobStatus.WAITING, JobStatus.COMPLETED)
        if answer is not None:
            (job.approve if answer else job.reject)(1, why="seen")
        until(job, JobStatus.COMPLETED)
        assert [expected] == CALLS


def test_a_signal_brings_its_payload_and_none_in_time_closes_the_gate(database: Database, tmp_path: Path) -> None:
    """Exactly one branch runs."""
    text = """
nodes:
  paid: {wait: {signal: "invoice-${input}", expires: 2s}}
  ship: {tool: do, with: {what: "${paid.amount}"}}
  remind: {tool: do, with: {what: reminder}, needs: not paid}
"""
    with ae.open(database.admin_dsn) as system:
        made = written(tmp_path, text)
        system.serve(made)
        one, two = system.submit(made, 1), system.submit(made, 2)
        one.signal("invoice-1", {"amount": 7})
        until(one, JobStatus.COMPLETED)
        until(two, JobStatus.COMPLETED)
        assert sorted(CALLS) == ["7", "reminder"]


def test_a_failed_graph_is_run_again_where_its_tools_are(database: Database, tmp_path: Path) -> None:
    """The new run asks for the same tools as the old."""
    with ae.open(database.admin_dsn) as system:
        made = written(tmp_path, "nodes: {a: {tool: do, with: {what: fail}}}")
        job = system.submit(made).wait(30)
        assert job.status is JobStatus.FAILED
        again = system.job(system._do(system.operator.retry(job.id)))
        assert list(again.record.row.capabilities) == ["tool:do"]
        assert again.wait(30).result == {"a": "fail"}


def test_a_cancelled_graph_ends_without_another_call(database: Database, tmp_path: Path) -> None:
    """Cancelling reaches a graph that waits."""
    with ae.open(database.admin_dsn) as system:
        made = written(tmp_path, "nodes: {rest: {wait: 1h}, a: {tool: do, with: {what: x}, needs: rest}}")
        system.serve(made)
        job = system.submit(made)
        until(job, JobStatus.PARKED, JobStatus.WAITING)
        job.cancel("changed my mind")
        until(job, JobStatus.CANCELLED)
        assert CALLS == []
