"""`replay`: does the code still do what is on record?"""

from __future__ import annotations

import dataclasses

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural
from aetheris.cli.targets import agents
from aetheris.domain.errors import AetherisError
from aetheris.runtime.replay import Replayed
from aetheris.runtime.replay import replay as replayed
from aetheris.runtime.system import AsyncSystem


@click.command()
@click.argument("job")
@click.argument("target", metavar="MODULE:AGENT")
@json_option
def replay(job: str, target: str, screen: Screen) -> None:
    """Run an agent's code against a job's record: no tool is called, nothing is written.

    Exit 0 when the code does what is on record, 1 with the first difference.

    \b
    Example:  aetheris replay 7kq2 desk.agents:rebook
    """
    agent = agents((target,))[0]

    async def work(system: AsyncSystem) -> tuple[str, Replayed]:
        record = await system.record(job)
        return record.row.job, await replayed(agent, record)

    full, found = with_system(work)
    screen.json({"job": full, **dataclasses.asdict(found)})
    versions = _versions(agent.name, found)
    if not found.same:
        raise AetherisError(f"job {full[:8]} differs: {found.difference}{versions}")
    end = "the record ends before the code does" if found.ended == "open" else found.ended
    screen.line(f"{full[:8]} the same: {plural(found.events, 'event')} reproduced, {end}{versions}")


def _versions(agent: str, found: Replayed) -> str:
    """Return what to add where other code was run than is on record."""
    if found.recorded_versions == (found.version,):
        return ""
    return f"; version {', then '.join(found.recorded_versions)} of {agent} is on record, this is {found.version}"
