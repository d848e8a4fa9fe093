"""`submit`: make a job durable."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from aetheris.cli.connect import with_system
from aetheris.cli.ending import show_ending
from aetheris.cli.main import json_option
from aetheris.cli.remote import remote
from aetheris.cli.remote import submit as send
from aetheris.cli.screen import Screen
from aetheris.cli.targets import agents, tools
from aetheris.domain.canonical import strict_json
from aetheris.domain.errors import AetherisError, Corrupt, Refused
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.agents import Agent
from aetheris.runtime.ending import ending_of
from aetheris.runtime.graphs.agent import SUFFIXES, GraphAgent, load
from aetheris.runtime.record import JobRecord
from aetheris.runtime.system import AsyncSystem

INPUT_BYTES_LIMIT = 16 * 1024 * 1024


@click.command()
@click.argument("target", metavar="MODULE:AGENT|GRAPH.yaml")
@click.option("-i", "--input", "source", help="JSON file with the agent's input, or - for standard input.")
@click.option("--key", help="Idempotency key: the same key twice is the same job.")
@click.option("--tools", "modules", multiple=True, metavar="MODULE", help="For a graph: where its tools are.")
@click.option("--wait", is_flag=True, help="Wait for its end; runs it here if no worker serves the agent.")
@json_option
def submit(
    target: str, source: str | None, key: str | None, modules: tuple[str, ...], wait: bool, screen: Screen
) -> None:
    """Submit a job of an agent, or of a task graph in a YAML or JSON file, and print its id.

    A graph is checked against its tools before the job exists. They are in the modules that
    it names itself (tools: desk.tools), or that --tools names.

    \b
    Example:  aetheris submit desk.agents:rebook -i ticket.json --key ticket-881
              aetheris submit rebook.yaml -i ticket.json --tools desk.tools

    \b
    A graph:  nodes:
                seen:  {tool: find_fare, with: {booking: "${input.booking}"}}
                dear:  {condition: {if: "${seen.price_cents}", above: 50000}}
                ok:    {approval: "Pay ${seen.price_cents} cents?", expires: 4h,
                        needs: dear}
                pay:   {tool: refund, with: {amount_cents: "${seen.price_cents}"},
                        needs: ok}
    """
    value = read_json(source) if source is not None else None
    if (api := remote()) is not None:
        if modules or wait or Path(target).suffix in SUFFIXES:
            raise Refused("through AETHERIS_URL an agent is submitted by its name, without --tools and --wait")
        send(api, screen, target, value, key)
        return
    agent = _agent(target, modules)
    if source is None:
        _needs_no_input(agent)

    async def work(system: AsyncSystem) -> tuple[str, JobRecord | None]:
        job = await system.submit(agent, value, key=key, traceparent=os.environ.get("TRACEPARENT", ""))
        if not wait:
            return job, None
        if not await system.served(agent):
            await system.start_worker([agent])
        await system.wait([job])
        return job, await system.record(job)

    job, record = with_system(work)
    if record is None:
        screen.line(job)
        screen.json({"job": job})
        return
    screen.line(f"{job} {record.row.status.word}")
    ending = ending_of(record)
    show_ending(ending, screen)
    ended = {"result": ending.result, "error": ending.error}
    screen.json({"job": job, "status": record.row.status.word, **ended})
    if record.row.status is JobStatus.PARKED:
        raise AetherisError(f"job {job[:8]} is parked: `aetheris jobs --parked` says what it waits for")
    if record.row.status is not JobStatus.COMPLETED:
        raise AetherisError(f"job {job[:8]} {record.row.status.word}: `aetheris trace {job[:8]}` shows why")


def _needs_no_input(agent: Agent) -> None:
    try:
        agent.input_cells(None)
    except Refused:
        raise Refused(f"agent {agent.name}: no input was given: name it with -i FILE") from None


def _agent(target: str, modules: tuple[str, ...]) -> Agent:
    if Path(target).suffix in SUFFIXES:
        graph = load(Path(target))
        return GraphAgent(tools([*graph.tool_modules, *modules]), graph)
    if modules:
        raise Refused(f"--tools is for graphs (*{', *'.join(SUFFIXES)}); {target} is an agent and knows its tools")
    return agents((target,))[0]


def read_json(source: str) -> Any:
    """Return the JSON in a file or on standard input. Errors: Refused, with file and place."""
    name = "standard input" if source == "-" else source
    try:
        # One byte more than may be: a device without an end, or a file beyond memory, is refused like any other.
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            data = file.read(INPUT_BYTES_LIMIT + 1)
    except OSError as error:
        raise Refused(f"{name}: {(error.strerror or '').lower()}; give a JSON file, or - for standard input") from None
    if len(data) > INPUT_BYTES_LIMIT:
        raise Refused(f"{name}: more than {INPUT_BYTES_LIMIT:,} bytes")
    try:
        return strict_json(data, floats=True)
    except Corrupt as error:
        raise Refused(f"{name}: {error}") from None
