"""`trace`: what one job did, in order."""

from __future__ import annotations

import dataclasses

import click

from aetheris.cli.connect import with_system
from aetheris.cli.ending import result_of, show_ending
from aetheris.cli.main import json_option
from aetheris.cli.remote import remote, show_trace
from aetheris.cli.rows import cells
from aetheris.cli.screen import Screen, duration, plural
from aetheris.domain.trace import trace as traced


@click.command()
@click.argument("job")
@json_option
def trace(job: str, screen: Screen) -> None:
    """Show what a job did, in order, and its result. The start of its id is enough.

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
            "result": result_of(record),
            "lines": [dataclasses.asdict(line) for line in lines],
        }
    )
    screen.line(
        f"{row.job[:8]}…  {row.agent} version {row.agent_version}  {row.key or ''}  {row.status.word}  "
        f"{duration(span)}  {plural(len(record.events), 'event')}",
        style="bold",
    )
    screen.table(["", "", "", "", "", ""], [cells(line) for line in lines], right=(0, 4))
    show_ending(record, screen)
    if (last := record.events[-1]).type == "job_parked":
        screen.line(f"parked: {last.data['reason']}", style="yellow")
