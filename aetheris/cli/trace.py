"""`trace`: what one job did, in order."""

from __future__ import annotations

import dataclasses

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.remote import remote, show_trace
from aetheris.cli.screen import Screen, duration, plural
from aetheris.domain.trace import TraceLine
from aetheris.domain.trace import trace as traced
from aetheris.runtime.record import JobRecord


@click.command()
@click.argument("job")
@json_option
def trace(job: str, screen: Screen) -> None:
    """Show what a job did, in order. The start of its id is enough.

    \b
    Example:  aetheris trace 7kq2
    """
    if (api := remote()) is not None:
        show_trace(api, screen, job)
        return
    record = with_system(lambda system: system.record(job))
    lines = traced(record.events)
    row = record.row
    span = (record.events[-1].at - record.events[0].at) / 1e6
    screen.json(
        {
            "job": row.job,
            "agent": row.agent,
            "agent_version": row.agent_version,
            "status": row.status.word,
            "events": len(record.events),
            "duration_us": int(span * 1e6),
            "lines": [dataclasses.asdict(line) for line in lines],
        }
    )
    screen.line(
        f"{row.job[:8]}…  {row.agent} version {row.agent_version}  {row.key or ''}  {row.status.word}  "
        f"{duration(span)}  {plural(len(record.events), 'event')}",
        style="bold",
    )
    screen.table(["", "", "", "", "", ""], [cells(line) for line in lines], right=(0, 4))
    _why(record, screen)


def cells(line: TraceLine) -> list[str]:
    """Return a trace line as columns: when, what, name, effect, how long, states and notes."""
    what = f"{line.what} {line.step}" if line.what == "call" else line.what
    took = "" if line.duration_us is None else duration(line.duration_us / 1e6)
    notes = [", ".join(line.states) if line.effect != "none" or line.states != ("committed",) else ""]
    if line.attempt > 1:
        notes.append(f"attempt {line.attempt}")
    if line.waited_us:  # nothing is said of what did not wait
        notes.append(f"waited {duration(line.waited_us / 1e6)}")
    notes.append(line.note)
    if line.what in ("took over", "went on"):
        notes.append(f"epoch {line.epoch}")
    return [f"{line.since_start_us / 1e6:.3f}", what, line.name, line.effect, took, "  ".join(n for n in notes if n)]


def _why(record: JobRecord, screen: Screen) -> None:
    last = record.events[-1]
    if last.type == "job_failed":
        error = record.value(last, "error") or {}
        screen.line(f"failed because {error.get('kind')}: {error.get('message')}  ({error.get('where')})", style="red")
    elif last.type == "job_parked":
        screen.line(f"parked: {last.data['reason']}", style="yellow")
