"""`worker`: serve agents until told to stop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
from collections.abc import Coroutine

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.monitored import monitored
from aetheris.cli.screen import Screen
from aetheris.cli.targets import agents, apart, tools
from aetheris.domain.errors import Unusable
from aetheris.runtime import exposition, heap
from aetheris.runtime.config import Prometheus
from aetheris.runtime.graphs.agent import GraphAgent
from aetheris.runtime.held import Settings
from aetheris.runtime.system import AsyncSystem
from aetheris.runtime.worker import DRAIN_SECONDS, Worker

DRAIN_TOLD_SECONDS = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.argument("targets", nargs=-1, metavar="[MODULE:AGENT]...", callback=apart)
@click.option("--tools", "modules", multiple=True, metavar="MODULE", help="Run task graphs with these tools too.")
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), help="Jobs in hand at once.  [default: worker.concurrency, 100]"
)
@click.option(
    "--lease", type=click.FloatRange(1, 3600), help="Seconds a lease lasts.  [default: jobstore.lease_duration, 30]"
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    help="Serve Prometheus metrics here; 0 is any free port.  [default: monitoring.prometheus.port, 9093]",
)
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
    concurrency: int | None,
    lease: float | None,
    metrics_port: int | None,
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
    served = [*agents(targets), *([GraphAgent(tools(modules))] if modules else [])]
    for accepted in accepts:
        if accepted.partition("@")[0] not in {a.name for a in served} or not accepted.partition("@")[2]:
            raise click.UsageError(f"--accept-version {accepted!r}: give AGENT@VERSION of an agent served here")

    if lease is not None and math.isnan(lease):  # every range has it in it, and no lease would be granted
        raise click.BadParameter("nan is no number of seconds", param_hint="'--lease'")

    heap.settle()

    def serve(system: AsyncSystem) -> Coroutine[None, None, Worker]:
        keys = system.config.worker
        settings = Settings(
            concurrency=concurrency or keys.concurrency,
            lease_seconds=lease or system.config.jobstore.lease_duration,
            poll_seconds=keys.poll_interval,
            capabilities=capability or keys.capabilities,
            accepts=accepts,
            snapshot=system.config.runtime.snapshot,
        )
        return _serve(system, system.make_worker(served, settings), screen, metrics_port)

    counts = with_system(serve)
    screen.json({"claimed": counts.counts.claimed, "ended": counts.counts.ended})


async def _serve(system: AsyncSystem, worker: Worker, screen: Screen, port: int | None) -> Worker:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _stop, worker, number)
    stop_tracing = monitored(system.config, worker.name)
    screen.fact("worker", f"{worker.name} serves {', '.join(sorted(worker.serving.agents))} at {system.database.where}")
    serve_metrics(system.config.monitoring.prometheus, port, screen=screen)
    try:
        await worker.run()
    finally:
        stop_tracing()
    ended = ", ".join(f"{n} {word}" for word, n in sorted(worker.counts.ended.items())) or "nothing to do"
    screen.fact("drained", ended)
    return worker


def serve_metrics(keys: Prometheus, port: int | None, *, screen: Screen, default: int | None = None) -> None:
    """Serve metrics, and say where. A port that was asked for must be had; the default one is done without."""
    if port is None and not keys.enable:
        return
    asked = port is not None or "port" in keys.model_fields_set
    wanted = port if port is not None else keys.port if asked or default is None else default
    try:
        server = exposition.serve(wanted, keys.host)[0]
    except Unusable as error:
        if asked:
            raise
        logging.warning("%s; none are served here", error)
        return
    screen.fact("metrics", f"http://{server.server_name}:{server.server_port}/metrics")


def _stop(worker: Worker, number: int) -> None:
    worker.stop()
    # Said only to who has to wait: most workers are gone sooner, and who sees nothing presses Ctrl-C again.
    asyncio.get_running_loop().call_later(
        DRAIN_TOLD_SECONDS,
        logging.warning,
        "draining: calls under way end first, for %.0f s at most; a second signal leaves at once, and them in doubt",
        DRAIN_SECONDS,
    )
    for other in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(other, _leave, other)


def _leave(number: int) -> None:
    # Leases run out, and what was in flight is in doubt on the record. No thread is waited for: a tool may hang in one.
    logging.warning("a second signal: leaving at once, what is in flight is in doubt")
    sys.stdout.flush()
    os._exit(128 + number)
