"""`serve`: the API."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from aetheris.api import tokens
from aetheris.api.access import Caller
from aetheris.api.auth import Authenticator, authenticator
from aetheris.api.server import bind, is_loopback
from aetheris.api.server import serve as answer
from aetheris.api.service import opened
from aetheris.cli.connect import with_system
from aetheris.cli.lake import lake_folder, lake_option
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen
from aetheris.cli.targets import agents, apart
from aetheris.cli.worker import serve_metrics
from aetheris.domain.errors import Refused
from aetheris.runtime.agents import Agent
from aetheris.runtime.config import Api
from aetheris.runtime.config_file import load
from aetheris.runtime.held import Settings
from aetheris.runtime.submit import whoami
from aetheris.runtime.system import AsyncSystem
from aetheris.runtime.tools import Tool
from aetheris.store.database import default_home

LOCAL_HOST = "127.0.0.1"


@click.command()
@click.argument("targets", nargs=-1, metavar="[MODULE:AGENT]...", callback=apart)
@click.option("--host", help="Where to listen.  [default: api.host; without authentication 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 is any free port.  [default: api.port, 8080]")
@click.option("--no-worker", is_flag=True, help="Answer requests only; the jobs are for other workers.")
@click.option("--dev-tokens", is_flag=True, help="Believe the tokens of `aetheris token`; this machine only.")
@lake_option
@json_option
def serve(
    targets: tuple[str, ...],
    host: str | None,
    port: int | None,
    no_worker: bool,
    dev_tokens: bool,
    place: Path | None,
    screen: Screen,
) -> None:
    """Serve the API, and a worker for these agents, until Ctrl-C or SIGTERM.

    Who asks shows a token (api.middleware.jwt_*). Where none is configured nobody has to, and
    only this machine is listened to.

    \b
    Example:  aetheris serve desk.agents:rebook --dev-tokens
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    served = agents(targets)
    keys = load().config.api
    tenant = click.get_current_context().find_root().obj["tenant"]
    auth = _auth(keys, tenant, dev_tokens)
    where = _host(keys, host, auth, dev_tokens)
    listening = bind(where, keys.port if port is None else port)

    async def work(system: AsyncSystem) -> None:
        async with opened(
            system.database, system.config, auth, agents=served, tools=_tools(served), lake=lake_folder(place)
        ) as service:
            worker = None if no_worker or not served else await _worker(system, served)
            serve_metrics(system.config.monitoring.prometheus, None, default=9092, screen=screen)

            def ready() -> None:
                _tell(screen, where, listening.getsockname()[1], auth, dev_tokens)
                if worker is not None:
                    screen.fact("worker", f"{worker.name} serves {', '.join(sorted(worker.serving.agents))}")
                sys.stdout.flush()

            await answer(service, listening, ready, lambda: worker.stop() if worker is not None else None)
        screen.fact("stopped", "what was under way has ended")

    with_system(work)


async def _worker(system: AsyncSystem, served: list[Agent]) -> Any:
    keys = system.config.worker
    return await system.start_worker(
        served,
        Settings(
            concurrency=keys.concurrency,
            lease_seconds=system.config.jobstore.lease_duration,
            poll_seconds=keys.poll_interval,
            capabilities=keys.capabilities,
        ),
    )


def _auth(keys: Api, tenant: str, dev_tokens: bool) -> Authenticator:
    local = Caller(tenant, whoami().removeprefix("user/"), ("admin",))
    configured = authenticator(keys.middleware, local=local)
    if not dev_tokens:
        return configured
    if configured.keys is not None:
        raise Refused("--dev-tokens goes without api.middleware.jwt_*: tokens are believed of one issuer")
    return tokens.authenticator(default_home())


def _host(keys: Api, host: str | None, auth: Authenticator, dev_tokens: bool) -> str:
    if auth.keys is not None and not dev_tokens:
        return host or keys.host
    wanted = host or (keys.host if "host" in keys.model_fields_set else LOCAL_HOST)
    if not is_loopback(wanted):
        why = "--dev-tokens is for this machine" if dev_tokens else "no authentication is configured"
        raise Refused(
            f"{why}, so {wanted} is not listened on: configure api.middleware.jwt_keys_file (or jwt_jwks_url, jwt_key),"
            f" jwt_algorithm and jwt_issuer, or listen on {LOCAL_HOST}"
        )
    return wanted


def _tell(screen: Screen, host: str, port: int, auth: Authenticator, dev_tokens: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    screen.json({"url": f"http://{shown}:{port}", "authentication": auth.keys is not None})
    screen.fact("api", f"http://{shown}:{port}/api   its description: /api/openapi.json")
    if auth.keys is None:
        assert auth.local is not None
        screen.line(
            f"NO AUTHENTICATION: whoever reaches this port on this machine is {auth.local.user},"
            f" admin of tenant {auth.local.tenant}. Listening on {host} alone.",
            style="bold yellow",
        )
    elif dev_tokens:
        screen.fact("tokens", "development tokens of this machine (`aetheris token`), on this machine alone")
    else:
        screen.fact("tokens", f"{auth.keys.algorithm}, issued by {auth.issuer} for {auth.audience}")


def _tools(served: list[Agent]) -> list[Tool[Any, Any]]:
    found: dict[str, Tool[Any, Any]] = {}
    for agent in served:
        module = sys.modules.get(agent.fn.__module__)
        for thing in vars(module).values() if module is not None else ():
            if isinstance(thing, Tool):
                found[thing.name] = thing
    return list(found.values())
