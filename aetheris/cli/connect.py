"""Commands run their async work through here, on the database itself.

What the API offers is asked of it first (remote.py). Whatever comes here while
AETHERIS_URL is set was meant for what stands behind the API, and must not
quietly be done to another database: it is refused, unless one is named.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from aetheris.domain.errors import Refused
from aetheris.runtime.config_file import Loaded, load
from aetheris.runtime.system import AsyncSystem
from aetheris.store.database import Database

T = TypeVar("T")


def with_system(work: Callable[[AsyncSystem], Awaitable[T]], *, anywhere: bool = False) -> T:
    """Open the tenant's system, run `work` with it, close it in order, and return what `work` returned.

    Errors: Refused when AETHERIS_URL is set and no database is named, unless it may be done `anywhere`.
    """
    if not anywhere:
        refuse_over_api()
    tenant = click.get_current_context().find_root().obj["tenant"]

    async def opened() -> T:
        async with AsyncSystem(tenant=tenant) as system:
            return await work(system)

    return asyncio.run(opened())


def open_database() -> Database:
    """Return the database that a worker with this configuration works on: of jobstore.dsn, else the embedded one.

    For what needs no tenant of it, or comes before its tables. Errors: Refused, Unreachable.
    """
    return Database.open(own_server(load()))


def own_server(loaded: Loaded) -> str | None:
    """Return what names the server of one's own that commands work on; None where that is the embedded one.

    As wherever a store is opened, AETHERIS_DSN wins over `jobstore.type: embedded`.
    """
    return loaded.config.dsn or os.environ.get("AETHERIS_DSN") or None


def only_embedded() -> None:
    """Refuse a command that is for the embedded server, when commands work on another one."""
    loaded = load()
    if own_server(loaded) is None:
        return
    if os.environ.get("AETHERIS_DSN"):
        name, undo = "AETHERIS_DSN", "unset AETHERIS_DSN"
    else:
        name, undo = f"jobstore.dsn in {loaded.path}", "take it out"
    raise Refused(f"{name} names a server of your own: start and stop it yourself, or {undo}")


def refuse_over_api() -> None:
    """Refuse a command that works on the database itself, when AETHERIS_URL is set and no database is named."""
    name = next((n for n in ("AETHERIS_URL", "AETHERIS_API_URL") if os.environ.get(n)), None)
    if name is None or own_server(load()):
        return
    ctx = click.get_current_context()
    command = ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
    raise Refused(
        f"{name} is set, and the API doesn't offer `{command}`: name the database it is for (AETHERIS_DSN),"
        f" or unset {name} to use the embedded one"
    )
