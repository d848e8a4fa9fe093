"""Defects of what is derived and of what is linked: snapshots, and runs that go on as one another."""

from __future__ import annotations

from dataclasses import replace

from aetheris.demo.fixtures_defect import RUNS, SNAPSHOTS, Jobs, Violation, bug, tampering
from aetheris.demo.fixtures_scripts import Rows, Script, Spec, body, job_id, salt
from aetheris.domain import cells
from aetheris.domain.events import read
from aetheris.domain.fold import dumps, fold


def _snapshot(rows: Rows, script: Script, seq: int, *, of: Script, leaf_of: int = 0) -> None:
    """Lay a snapshot of `script` at `seq` that holds the fold of the job `of` up to there."""
    told = [read(row["line"].encode()) for row in rows.table("events") if row["job_id"] == of.job]
    row = rows.row("events", script.job, seq)
    rows.table("snapshots").append(
        {
            **{column: row[column] for column in ("tenant_id", "job_id", "seq", "xid", "recorded_at")},
            "kind": "timer",
            "version": 1,
            "leaf": rows.row("events", script.job, leaf_of or seq)["leaf"],
            "body": dumps(fold(told[:seq])),
            "mac": salt(script.job, seq, "mac"),  # the key never leaves the store: nobody can check it here
        }
    )


@tampering
def snapshot_of_another_job(rows: Rows, jobs: Jobs) -> list[Violation]:
    """Two snapshots are sound; a third holds another job's fold, and a fourth names another event."""
    one, two = jobs["rebooked"], jobs["taken_over"]
    _snapshot(rows, one, 5, of=one)
    _snapshot(rows, one, len(one.specs), of=one)
    _snapshot(rows, two, 4, of=one)
    _snapshot(rows, two, 5, of=two, leaf_of=4)
    return [
        Violation(SNAPSHOTS, two.job, 4, "the snapshot is not the fold of its events"),
        Violation(SNAPSHOTS, two.job, 5, "the snapshot is not of the event at its place"),
    ]


def _goes_on(script: Script, successor: str, state: str) -> tuple[Script, dict[str, object]]:
    """Return the job with an end that names its successor, and what the successor's first event must say."""
    end = script.specs[-1]
    specs = (
        *script.specs[:-1],
        Spec("run_continued", 900, {"continued_as": successor}, (("state", body(state)),), 9, end.epoch, end.by),
        replace(end, type="job_completed", data={"continued_as": successor}, bodies=()),
    )
    seq = len(specs) - 1
    commit = cells.commitment(script.job, seq, "state", salt(script.job, seq, "state"), body(state)).hex()
    return replace(script, specs=specs), {
        "continued_from": script.job,
        "continued_seq": seq,
        "continued_state": commit,
    }


def _unlimited(spec: Spec) -> Spec:
    """Return the event without a limit: a copy of a limited start would outrun it."""
    return replace(spec, data={name: value for name, value in spec.data.items() if name != "limit"})


@bug
def run_of_another_state(jobs: Jobs) -> list[Violation]:
    """A job goes on as a run that says so; another as one that begins with a state which nobody left behind."""
    one, two = jobs["rebooked"], jobs["retried"]
    found = []
    for name, script, forged in (("next", one, {}), ("next-but-one", two, {"continued_state": "0" * 64})):
        successor = job_id(script.tenant, name)
        jobs[script.job], links = _goes_on(script, successor, name)
        first = jobs["taken_over"]
        genesis = first.specs[0].data | {"job": successor} | links | forged
        specs = (replace(first.specs[0], data=genesis), *map(_unlimited, first.specs[1:]))
        jobs[successor] = replace(first, job=successor, specs=specs)
        if forged:
            rule = "the run begins with another state than the one before left"
            found.append(Violation(RUNS, successor, 1, rule))
    del jobs["rebooked"], jobs["retried"]
    return found


@bug
def run_that_nobody_named(jobs: Jobs) -> list[Violation]:
    """A job claims to go on from another, which ended and named none."""
    script = jobs["rebooked"]
    jobs["rebooked"] = script.change(1, data={"continued_from": jobs["retried"].job, "continued_seq": 3})
    return [Violation(RUNS, script.job, 1, "the run before does not name this one")]
