"""Defects of the chain, the genesis and a job's moves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aetheris.demo.fixtures_defect import (
    CELLS,
    CHAIN,
    COLUMNS,
    EPOCHS,
    GAPS,
    GENESIS,
    MOVES,
    Jobs,
    Violation,
    bug,
    tampering,
)
from aetheris.demo.fixtures_scripts import Row, Rows, Spec, body
from aetheris.domain import encode, merkle

# --- the chain -----------------------------------------------------------------------------------------------


@tampering
def edited_line(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A call's duration was edited in its line; the leaf beside it still is the old line's."""
    job, seq = jobs["rebooked"].job, jobs["rebooked"].find("tool_invocation_finished")
    _edit(rows.row("events", job, seq), "data", duration_us=1)
    return [Violation(CHAIN, job, seq, "the leaf is not the hash of the line")]


@tampering
def edited_line_and_leaf(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A line was edited and its leaf made anew; the next line still names the old leaf."""
    job, seq = jobs["rebooked"].job, jobs["rebooked"].find("tool_invocation_finished")
    event = rows.row("events", job, seq)
    _edit(event, "data", duration_us=1)
    event["leaf"] = merkle.leaf_hash(event["line"].encode())
    return [Violation(CHAIN, job, seq + 1, "prev is not the leaf of the event before")]


@tampering
def dropped_event(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A call was taken out with all that hangs on it: its event, its ledger row, its cells."""
    job, seq = jobs["taken_over"].job, jobs["taken_over"].find("tool_invocation_finished")
    for table in ("events", "ledger", "cells"):
        rows.drop(table, job, seq)
    return [Violation(GAPS, job, seq + 1, "does not follow the event before")]


@tampering
def swapped_order(rows: Rows, jobs: Jobs) -> list[Violation]:
    """Two neighbouring calls changed places, with their ledger rows and cells."""
    job, seq = jobs["taken_over"].job, jobs["taken_over"].find("tool_invocation_finished", 1)
    for table in ("events", "ledger", "cells"):
        for row in rows.table(table):
            if row["job_id"] == job and row["seq"] in (seq, seq + 1):
                row["seq"] = 2 * seq + 1 - row["seq"]
    link, number = "prev is not the leaf of the event before", "the line says another seq"
    return [
        *(Violation(CHAIN, job, at, link) for at in (seq, seq + 1, seq + 2)),
        *(Violation(GAPS, job, at, number) for at in (seq, seq + 1)),
        # A commitment binds the cell to its seq.
        *(
            Violation(CELLS, job, at, f"cell {name} is not what the line committed to")
            for at in (seq, seq + 1)
            for name in ("args", "result")
        ),
        Violation(EPOCHS, job, seq + 1, "dated before the event before it"),
    ]


@tampering
def beheaded(rows: Rows, jobs: Jobs) -> list[Violation]:
    """The first event is gone with its input: nothing says whose job this is."""
    job = jobs["retried"].job
    for table in ("events", "cells"):
        rows.drop(table, job, 1)
    return [
        Violation(GAPS, job, 2, "does not follow the event before"),
        Violation(GENESIS, job, 2, "the first event is not a genesis"),
    ]


@tampering
def wrong_column(rows: Rows, jobs: Jobs) -> list[Violation]:
    """The column beside a line calls a failed job completed: whoever queries columns alone is deceived."""
    job, seq = jobs["retried"].job, len(jobs["retried"].specs)
    rows.forged.append((job, seq, "type", "job_completed"))
    return [Violation(COLUMNS, job, seq, "column type differs from the line")]


# --- genesis and moves ---------------------------------------------------------------------------------------


@bug
def wrong_genesis(jobs: Jobs) -> list[Violation]:
    """A job's first event names another job: a history passed off as this one's."""
    script = jobs["rebooked"]
    jobs["rebooked"] = script.change(1, data={"job": jobs["retried"].job})
    return [Violation(GENESIS, script.job, 1, "the genesis names another job")]


@bug
def another_tenants_genesis(jobs: Jobs) -> list[Violation]:
    """A job's first event names another tenant."""
    script = jobs["rebooked"]
    jobs["rebooked"] = script.change(1, data={"tenant": "globex"})
    return [Violation(GENESIS, script.job, 1, "the genesis names another tenant")]


@bug
def second_genesis(jobs: Jobs) -> list[Violation]:
    """A job begins once more in its middle."""
    script = jobs["retried"]
    jobs["retried"] = script.insert(4, replace(script.specs[0], after_us=1000, epoch=1, bodies=()))
    return [
        Violation(GENESIS, script.job, 4, "a second genesis"),
        Violation(GENESIS, script.job, 4, "the genesis has a predecessor"),
        Violation(MOVES, script.job, 4, "the job can not go from running to pending"),
    ]


@bug
def event_after_end(jobs: Jobs) -> list[Violation]:
    """A job that had completed draws another number."""
    script = jobs["rebooked"]
    seq = len(script.specs) + 1
    late = Spec("random_recorded", 5000, {}, (("value", body(7)),), 9, 2, "worker/w2")
    jobs["rebooked"] = script.insert(seq, late)
    return [Violation(MOVES, script.job, seq, "the job can not go from completed to running")]


@bug
def completed_while_parked(jobs: Jobs) -> list[Violation]:
    """A parked job completes without a worker having taken it up."""
    script = jobs["rebooked"]
    seq = len(script.specs)
    parked = Spec("job_parked", 900, {"reason": "waits for a person"}, (), 0, 2, "worker/w2")
    jobs["rebooked"] = script.insert(seq, parked)
    return [Violation(MOVES, script.job, seq + 1, "the job can not go from parked to completed")]


def _edit(event: Row, part: str, **fields: Any) -> None:
    value = json.loads(event["line"])
    value[part] |= fields
    event["line"] = encode.line_bytes(value).decode()
