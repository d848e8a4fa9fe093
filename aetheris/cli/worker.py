"""`worker`: serve agents until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen
from aetheris.cli.targets import agents, tools
from aetheris.runtime.graphs.agent import GraphAgent
from aetheris.runtime.system import AsyncSystem
from aetheris.runtime.worker import Settings, Worker


@click.command()
@click.argument("targets", nargs=-1, metavar="[MODULE:AGENT]...")
@click.option("--tools", "modules", multiple=True, metavar="MODULE", help="Run task graphs with these tools too.")
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Jobs in hand at once."
)
@click.option("--lease", type=click.FloatRange(1, 3600), default=30.0, show_default=True, help="Seconds a lease lasts.")
@click.option("--capability", multiple=True, help="Take jobs that need this; may be given often.")
@click.option(
    "--accept-version",
    "accepts",
    multiple=True,
    metavar="AGENT@VERSION",
    help="Go on with jobs that began under this version of the code; may be given often.",
)
@json_option
def worker(
    targets: tuple[str, ...],
    modules: tuple[str, ...],
    concurrency: int,
    lease: float,
    capability: tuple[str, ...],
    accepts: tuple[str, ...],
    screen: Screen,
) -> None:
    """Run jobs of these agents. Ctrl-C or SIGTERM drains: calls under way end, then it leaves.

    With --tools it runs task graphs as well: any whose tools are all in the modules given.

    \b
    Example:  aetheris worker desk.agents:rebook --concurrency 200
              aetheris worker --tools desk.tools
    """
    if not targets and not modules:
        raise click.UsageError("nothing to serve: name agents (MODULE:AGENT), or --tools MODULE for task graphs")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    served = [*agents(targets), *([GraphAgent(tools(modules))] if modules else [])]
    for accepted in accepts:
        if accepted.partition("@")[0] not in {a.name for a in served} or not accepted.partition("@")[2]:
            raise click.UsageError(f"--accept-version {accepted!r}: give AGENT@VERSION of an agent served here")
    settings = Settings(concurrency=concurrency, lease_seconds=lease, capabilities=capability, accepts=accepts)
    counts = with_system(lambda system: _serve(system, Worker(system.database, served, settings), screen))
    screen.json({"claimed": counts.counts.claimed, "ended": counts.counts.ended})


async def _serve(system: AsyncSystem, worker: Worker, screen: Screen) -> Worker:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, worker, number)
    screen.fact("worker", f"{worker.name} serves {', '.join(sorted(worker.agents))} at {system.database.where}")
    await worker.run()
    ended = ", ".join(f"{n} {word}" for word, n in sorted(worker.counts.ended.items())) or "nothing to do"
    screen.fact("drained", ended)
    return worker


def _stop(worker: Worker, number: int) -> None:
    worker.stop()
    # A second signal leaves at once: leases run out, and what was in flight is in doubt on the record.
    asyncio.get_running_loop().remove_signal_handler(number)
