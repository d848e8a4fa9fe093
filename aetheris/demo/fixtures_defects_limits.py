"""Defects of limits: calls that started when the limit in force did not let them."""

from __future__ import annotations

from typing import Any

from aetheris.demo.fixtures_defect import GROUND, KEPT, Jobs, Violation, bug
from aetheris.demo.fixtures_jobs import REFUND_LIMIT


@bug
def limit_outrun(jobs: Jobs) -> list[Violation]:
    """One refund in ten minutes was the limit; a worker let three through within sixteen."""
    seqs = {name: jobs[name].find("tool_invocation_started") for name in GROUND}
    for name, seq in seqs.items():
        _limit(jobs, name, seq, interval_ns=600_000_000_000)
    rule = "sooner after others than the limit lets"
    return [Violation(KEPT, jobs[name].job, seqs[name], rule) for name in ("taken_over", "retried")]


@bug
def limit_jumped(jobs: Jobs) -> list[Violation]:
    """A refund started half a minute before the slot that it had been given."""
    seq = jobs["rebooked"].find("tool_invocation_started")
    _limit(jobs, "rebooked", seq, slot_us=30_000_000)
    return [Violation(KEPT, jobs["rebooked"].job, seq, "started before its slot")]


@bug
def limit_slept_over(jobs: Jobs) -> list[Violation]:
    """A worker slept over its slot by ten minutes and started all the same, in what was others' time."""
    seq = jobs["retried"].find("tool_invocation_started")
    # Nobody else had a slot then.
    for name in ("rebooked", "taken_over"):
        _limit(jobs, name, jobs[name].find("tool_invocation_started"), name="refund.card")
    _limit(jobs, "retried", seq, slot_us=-600_000_000)
    return [Violation(KEPT, jobs["retried"].job, seq, "started long after its slot")]


def _limit(jobs: Jobs, job: str, seq: int, **changed: Any) -> None:
    jobs[job] = jobs[job].change(seq, data={"limit": REFUND_LIMIT | changed})
