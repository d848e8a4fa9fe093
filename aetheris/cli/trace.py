"""`trace`: what one job did, in order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from aetheris.cli.connect import with_system
from aetheris.cli.ending import show_ending
from aetheris.cli.main import json_option
from aetheris.cli.remote import full_id, remote
from aetheris.cli.rows import cells
from aetheris.cli.screen import Screen, duration, plural
from aetheris.cli.shapes import ENDING, LINE, TRACE, held
from aetheris.domain.trace import TraceLine
from aetheris.domain.trace import trace as traced
from aetheris.runtime.ending import Ending, ending_of

if TYPE_CHECKING:
    from aetheris.forensics.remote import Api

#: What --json gives of a job beside its result and its lines, in this order.
HEAD = ("job", "agent", "agent_version", "status", "events", "duration_us")
Told = tuple[dict[str, Any], list[TraceLine], Ending]


@click.command()
@click.argument("job")
@json_option
def trace(job: str, screen: Screen) -> None:
    """Show what a job did, in order, and its result. The start of its id is enough.

    \b
    Example:  aetheris trace 7kq2
    """
    head, lines, ending = _here(job) if (api := remote()) is None else _there(api, job)
    screen.json(
        {
            **{name: head[name] for name in HEAD},
            "result": ending.result,
            "lines": [dataclasses.asdict(line) for line in lines],
        }
    )
    screen.line(
        f"{head['job'][:8]}…  {head['agent']} version {head['agent_version']}  {head['key'] or ''}  {head['status']}  "
        f"{duration(head['duration_us'] / 1e6)}  {plural(head['events'], 'event')}",
        style="bold",
    )
    screen.table(["", "", "", "", "", ""], [cells(line) for line in lines], right=(0, 4))
    show_ending(ending, screen)
    if ending.parked is not None:
        screen.line(f"parked: {ending.parked}", style="yellow")


def _here(job: str) -> Told:
    record = with_system(lambda system: system.record(job))
    return {"job": record.row.job, **record.head()}, traced(record.events), ending_of(record)


def _there(api: Api, job: str) -> Told:
    told = held(api, api.get(f"/api/jobs/{full_id(api, job)}/trace"), TRACE)
    lines = [TraceLine(**{n: line[n] for n in LINE} | {"states": tuple(line["states"])}) for line in told["lines"]]
    ending = Ending(result=told["result"], **{name: told["ending"][name] for name in ENDING})
    return {**told, "job": told["job_id"]}, lines, ending
