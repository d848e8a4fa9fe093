"""The reckoning after the last round of the mirror: lake, world and what was submitted must tell one story.

Everything is in the lake then, also what retention took out of PostgreSQL, so
this is asked of the lake alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source
from tests.soak.agents import COUNTED
from tests.soak.load import Submitted
from tests.soak.watch import Found

JOBS = """
    select job_id, any_value(tenant_id) as tenant, arg_max(type, seq) as last, max(epoch) as epochs,
           epoch_us(max(happened_at)) as last_us, count(*) as events
    from events group by job_id
"""
CALLS = """
    select job_id, step, any_value(tool_name) as tool, arg_max(status, seq) as status, arg_max(outcome, seq) as outcome,
           max(lower(hex(idempotency_key))) as key
    from ledger group by job_id, step
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What the lake tells of one job."""

    last: str
    epochs: int
    last_us: int
    events: int


def reckon(lake: Path, world: Path, submitted: list[Submitted], found: Found) -> dict[str, Told]:
    """Add to `found` what is lost or doubled, and return what the lake tells of each job."""
    with open_source(lake) as session:
        told = {r["job_id"]: Told(r["last"], r["epochs"], r["last_us"], r["events"]) for r in session.sql(JOBS).rows}
        _effects(session, world, found)
    for job in submitted:
        if job.job not in told:
            found.lost.add(f"{job.job[:8]} ({job.kind}) was submitted and is not in the lake")
        elif told[job.job].last not in ("job_completed", "job_failed", "job_cancelled"):
            found.stuck.add(f"{job.job[:8]} ({job.kind}) has not ended: its last event is {told[job.job].last}")
        elif told[job.job].last != "job_completed":
            found.unfinished[f"{job.kind} {told[job.job].last}"] += 1
    return told


def _effects(session: Session, world: Path, found: Found) -> None:
    """Hold ledger against world: what is recorded as done happened, and what happened is on record."""
    happened: Counter[str] = Counter()
    for path in world.iterdir():
        if "." not in path.name:
            happened.update(line.split(" ", 1)[0] for line in path.read_text().splitlines())
    found.duplicates = max(found.duplicates, sum(n - 1 for n in happened.values()))
    known = set()
    for call in session.sql(CALLS).rows:
        if call["tool"] not in COUNTED:
            continue
        known.add(call["key"])
        done = call["status"] == "committed" or (
            call["status"] in ("confirmed", "resolved") and call["outcome"] == "done"
        )
        if done and not happened[call["key"]]:
            found.lost.add(f"job {call['job_id'][:8]}: step {call['step']} is recorded as done and is not in the world")
    found.lost |= {f"effect {key[:12]} is in the world and in no ledger" for key in happened.keys() - known}
