"""The fold stands twice, in Python and in SQL: they may not part, on any job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aetheris.domain import events
from aetheris.domain.fold import dumps, fold, loads
from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source
from aetheris.lake.schema import TABLES
from tests.property.random_jobs import SCRIPT, TENANT, Made, make
from tests.property.test_snapshots import FULL

FIXTURES = sorted((Path(__file__).parents[2] / "data" / "fixtures").glob("*/lake.json"))


def lake_of(jobs: Sequence[Made], cuts: Sequence[int]) -> Session:
    """Return a session over these jobs, with a true snapshot of each at its cut."""
    told, snapshots = [], []
    for number, (made, cut) in enumerate(zip(jobs, cuts, strict=True)):
        where = {"tenant_id": TENANT, "job_id": f"job-{number}", "xid": 1, "recorded_at": 1}
        told += [
            {**where, "seq": seq, "leaf": leaf, "line": line.decode()}
            for seq, (leaf, line) in enumerate(zip(made.leaves, made.lines, strict=True), 1)
        ]
        body = dumps(fold(made.events[:cut]))
        place = {"seq": cut, "kind": "timer", "version": 1, "leaf": made.leaves[cut - 1]}
        snapshots.append({**where, **place, "body": body, "mac": b""})
    rows = {"events": told, "snapshots": snapshots}
    tables = {
        name: pa.Table.from_batches(
            [TABLES[name].batch([[row[column] for row in rows[name]] for column in TABLES[name].source])]
        )
        for name in rows
    }
    return Session.over_tables(tables, "0" * 64, "made")


# DuckDB takes milliseconds a query: few examples, each of several jobs.
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SCRIPT, st.floats(0, 1)), min_size=1, max_size=6))
@example([(FULL, 1.0), (FULL, 0.4), ([*FULL, ("checkpoint", 1, True), *FULL], 0.8)])
def test_duckdb_folds_any_job_as_the_runtime_does(jobs: list[tuple[list[tuple[str, int, bool]], float]]) -> None:
    """Status, steps and results' commitments, to the byte of what a snapshot stores; and no snapshot is faulted."""
    made = [make(script) for script, _ in jobs]
    cuts = [max(1, round(share * len(m.events))) for m, (_, share) in zip(made, jobs, strict=True)]
    with lake_of(made, cuts) as session:
        found = {row["job_id"]: row for row in session.query("trace/fold").rows}
        for number, m in enumerate(made):
            state = fold(m.events)
            row = found[f"job-{number}"]
            assert row["body"].encode() == dumps(state)
            assert (row["status"], row["steps"], row["seq"]) == (state.status.word, len(state.steps), state.head_seq)
        assert session.query("integrity/snapshots").rows == []
        cut = session.query("trace/fold", job_id="job-0", through=cuts[0]).rows
        assert [row["body"].encode() for row in cut] == [dumps(fold(made[0].events[: cuts[0]]))]


@pytest.mark.parametrize("place", FIXTURES, ids=lambda p: p.parent.name)
def test_duckdb_folds_every_fixture_as_the_runtime_does(place: Path) -> None:
    """Damaged stores too: what can be read is folded alike."""
    with open_source(place.parent) as session:
        rows = session.sql("select tenant_id, job_id, line from events order by tenant_id, job_id, seq").rows
        folded = {(r["tenant_id"], r["job_id"]): r["body"] for r in session.query("trace/fold").rows}
    for (tenant, job), lines in _jobs(rows):
        state = fold(events.read(line.encode()) for line in lines)
        assert loads(folded[tenant, job].encode()) == state


def _jobs(rows: list[dict[str, str]]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row["tenant_id"], row["job_id"]), []).append(row["line"])
    yield from found.items()
