"""Defects of leases, of calls and their ledger, and of cells."""

from __future__ import annotations

import hashlib

from aetheris.demo.fixtures_defect import (
    CALLS,
    CELLS,
    DOUBT,
    EPOCHS,
    KEPT,
    LEDGER,
    OVERLAP,
    Jobs,
    Violation,
    bug,
    tampering,
)
from aetheris.demo.fixtures_scripts import Rows, Spec

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


@bug
def taken_too_early(jobs: Jobs) -> list[Violation]:
    """A worker took a job over twenty seconds before the other's lease ran out: two may have worked on it."""
    script = jobs["taken_over"]
    seq = script.find("job_leased", 1)
    jobs["taken_over"] = script.change(seq, after_us=script.specs[seq - 1].after_us - 22_000_000)
    return [Violation(OVERLAP, script.job, seq, "epoch 2 took over before the lease of epoch 1 ran out")]


@tampering
def two_holders(rows: Rows, jobs: Jobs) -> list[Violation]:
    """A sleeping job's lease was never given back, and another worker claimed the job all the same."""
    script = jobs["rebooked"]
    rows.tables["lease_changes"] = [
        row
        for row in rows.table("lease_changes")
        if (row["job_id"], row["epoch"], row["change"]) != (script.job, 1, "released")
    ]
    seq = script.find("job_leased", 1)
    return [Violation(OVERLAP, script.job, seq, "epoch 2 was claimed and epoch 1 had not been released")]


# --- calls and their ledger ----------------------------------------------------------------------------------


@bug
def two_starts(jobs: Jobs) -> list[Violation]:
    """A refund was started twice under one attempt: the money may have gone out twice."""
    script = jobs["rebooked"]
    seq = script.find("tool_invocation_started")
    spec = script.specs[seq - 1]
    jobs["rebooked"] = script.insert(seq + 1, spec)
    rule = f"step {spec.step} attempt 1 (once) can not go from started to started"
    twice = Violation(KEPT, script.job, seq + 1, "sooner after others than the limit lets")
    return [Violation(CALLS, script.job, seq + 1, rule), twice]


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


@bug
def ended_in_doubt(jobs: Jobs) -> list[Violation]:
    """A job completed although nobody knew whether its refund had gone out: it should have been parked."""
    script = jobs["rebooked"]
    started = script.find("tool_invocation_started")
    jobs["rebooked"] = script = script.without(started + 1)
    step = script.specs[started - 1].step
    rule = f"the job ended while step {step} attempt 1 (refund) was started"
    return [Violation(DOUBT, script.job, len(script.specs), rule)]


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
