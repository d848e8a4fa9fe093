"""A worker's duties: each on a connection of its own, and begun again when that breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aetheris.domain.errors import AetherisError
from aetheris.store.database import Connection, Database
from aetheris.store.errors import Unreachable

RECONNECT_SECONDS = 0.2

_log = logging.getLogger("aetheris.runtime.worker")


async def keep_up(database: Database, duty: Callable[[Connection], Awaitable[None]]) -> None:
    """Run one duty on a connection of its own until it is done; reconnect when it breaks."""
    while True:
        try:
            async with await database.connect("worker") as connection:
                await duty(connection)
                return
        except Unreachable as error:
            _log.warning("%s", error)
        except AetherisError as error:
            _log.error("%s", error)
        await asyncio.sleep(RECONNECT_SECONDS)


async def until_stopped(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return once `stop` is set or one of `tasks` is done. Errors: what ended it."""
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:  # also when the worker itself is cancelled: else the garbage collector finds a task that waits
        stopped.cancel()
    for task in done:
        await task  # raises what ended it
