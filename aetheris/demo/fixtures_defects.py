"""What can be wrong with a store, one defect per function: what was done, and what each check must say of it.

A `bug` is done to the script, before the chain is laid: every hash is right,
and the story is wrong. A `tampering` is done to the rows afterwards, as
someone with write access to a lake would. Each function returns the
violations that must be found, all of them: a check that says more cries wolf.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aetheris.demo.fixtures_scripts import Row, Rows, Script, Spec, body, lay
from aetheris.domain import encode, merkle

Jobs = dict[str, Script]
CHAIN, GAPS, GENESIS, MOVES = "integrity/chain", "integrity/gaps", "integrity/genesis", "integrity/moves"
CALLS, LEDGER, CELLS, COLUMNS = "integrity/calls", "integrity/ledger", "integrity/cells", "integrity/columns"
EPOCHS = "leases/epochs"
#: The jobs that a damaged store holds: a few of the clean store's, of one tenant.
GROUND = ("rebooked", "taken_over", "retried")


class Violation(NamedTuple):
    """A row that a check must return."""

    check: str
    job: str
    seq: int
    rule: str


@dataclass(frozen=True, slots=True)
class Defect:
    """A store with something wrong in it, and what must be found."""

    name: str
    done: str
    rows: Rows
    violations: tuple[Violation, ...]


DEFECTS: dict[str, Callable[[Jobs], Defect]] = {}


def bug(fn: Callable[[Jobs], list[Violation]]) -> Callable[[Jobs], list[Violation]]:
    """Register a defect of the story: the function changes the scripts it is given."""

    def make(jobs: Jobs) -> Defect:
        found = fn(jobs)
        return Defect(fn.__name__, fn.__doc__ or "", lay(jobs.values()), tuple(found))

    DEFECTS[fn.__name__] = make
    return fn


def tampering(fn: Callable[[Rows, Jobs], list[Violation]]) -> Callable[[Rows, Jobs], list[Violation]]:
    """Register a defect of the rows: the function changes the rows it is given."""

    def make(jobs: Jobs) -> Defect:
        rows = lay(jobs.values())
        found = fn(rows, jobs)
        return Defect(fn.__name__, fn.__doc__ or "", rows, tuple(found))

    DEFECTS[fn.__name__] = make
    return fn


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


# --- leases --------------------------------------------------------------------------------------------------


@bug
def stale_epoch(jobs: Jobs) -> list[Violation]:
    """A worker that had lost its lease wrote once more, after another had taken the job over."""
    script = jobs["taken_over"]
    seq = script.find("tool_invocation_finished", -1)
    jobs["taken_over"] = script.change(seq, epoch=1, by="worker/w3")
    return [Violation(EPOCHS, script.job, seq, "the epoch falls")]


@bug
def clock_backwards(jobs: Jobs) -> list[Violation]:
    """An event is dated two seconds before the one it follows."""
    script = jobs["rebooked"]
    seq = script.find("random_recorded")
    jobs["rebooked"] = script.change(seq, after_us=-2_000_000)
    return [Violation(EPOCHS, script.job, seq, "dated before the event before it")]


# --- calls and their ledger ----------------------------------------------------------------------------------


@bug
def two_starts(jobs: Jobs) -> list[Violation]:
    """A refund was started twice under one attempt: the money may have gone out twice."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_started")
    spec = script.specs[seq - 1]
    jobs["rebooked"] = script.insert(seq + 1, spec)
    rule = f"step {spec.step} attempt 1 (once) can not go from started to started"
    return [Violation(CALLS, script.job, seq + 1, rule)]


@bug
def skipped_attempt(jobs: Jobs) -> list[Violation]:
    """A call's third attempt follows its first."""
    script = jobs["retried"]
    seq = script.find("tool_invocation_finished", 1)
    jobs["retried"] = script.change(seq, data={"attempt": 3})
    rule = f"step {script.specs[seq - 1].step} attempt 3 without the attempt before it"
    return [Violation(CALLS, script.job, seq, rule)]


@bug
def doubt_forgotten(jobs: Jobs) -> list[Violation]:
    """A call whose outcome nobody knew is recorded as committed, without a confirmation or a person's word."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_started") + 1
    spec = script.specs[seq - 2]
    told = {"attempt": 1, "effect": "once", "reason": "no answer within 5 s", "tool_name": "refund"}
    jobs["rebooked"] = script.insert(seq, Spec("tool_invocation_unknown", 900, told, (), spec.step, 1, spec.by))
    rule = f"step {spec.step} attempt 1 (once) can not go from unknown to committed"
    return [Violation(CALLS, script.job, seq + 1, rule)]


@tampering
def missing_ledger_row(rows: Rows, jobs: Jobs) -> list[Violation]:
    """The ledger lost the row of a call that the events tell of."""
    job, seq = jobs["rebooked"].job, jobs["rebooked"].find("tool_invocation_finished")
    rows.drop("ledger", job, seq)
    return [Violation(LEDGER, job, seq, "the event has no ledger row")]


@tampering
def ledger_row_without_event(rows: Rows, jobs: Jobs) -> list[Violation]:
    """The ledger holds a call that no event tells of."""
    script = jobs["rebooked"]
    seen = rows.row("ledger", script.job, script.find("tool_invocation_finished"))
    seq = len(script.specs) + 1
    rows.table("ledger").append({**seen, "seq": seq, "step": 40})
    return [Violation(LEDGER, script.job, seq, "the ledger row has no event")]


@tampering
def forged_ledger_row(rows: Rows, jobs: Jobs) -> list[Violation]:
    """The ledger calls a refused refund committed."""
    script = jobs["retried"]
    seq = script.find("tool_invocation_finished", -1)
    rows.row("ledger", script.job, seq)["status"] = "committed"
    return [Violation(LEDGER, script.job, seq, "status differs between event and ledger")]


# --- cells ---------------------------------------------------------------------------------------------------


@tampering
def forged_result(rows: Rows, jobs: Jobs) -> list[Violation]:
    """What the bank answered was rewritten beside the line; its commitment stands in the line."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_started") + 1
    rows.row("cells", script.job, seq, name="result")["body"] = '{"receipt":"R-9999"}'
    return [Violation(CELLS, script.job, seq, "cell result is not what the line committed to")]


@tampering
def cell_missing(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A call's arguments are gone, and no erasure is on record."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_finished")
    rows.drop("cells", script.job, seq, name="args")
    return [Violation(CELLS, script.job, seq, "cell args is missing and was not erased on record")]


@tampering
def erased_off_record(rows: Rows, jobs: Jobs) -> list[Violation]:
    """An account number was blanked like an erasure, but nobody put it on record."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_started")
    rows.row("cells", script.job, seq, name="args/what/iban").update(salt=None, body=None)
    return [Violation(CELLS, script.job, seq, "cell args/what/iban is missing and was not erased on record")]


@tampering
def cell_without_line(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A cell was slipped in that no line commits to."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_finished")
    seen = rows.row("cells", script.job, seq, name="result")
    rows.table("cells").append({**seen, "name": "notes", "salt": hashlib.sha256(b"notes").digest()})
    return [Violation(CELLS, script.job, seq, "cell notes has no line that commits to it")]


def _edit(event: Row, part: str, **fields: Any) -> None:
    value = json.loads(event["line"])
    value[part] |= fields
    event["line"] = encode.line_bytes(value).decode()
