"""How a tool reaches the airline: one pool of connections per event loop.

Whoever has a database at hand opens the desk with `at`. A worker started by
itself (`aetheris worker aetheris.demo.airline:airline`) has none: the first
call then opens the database that AETHERIS_DSN or AETHERIS_HOME names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakKeyDictionary

from aetheris.runtime.leaving import at_leave
from aetheris.store.airline import Airline, install, opened
from aetheris.store.database import Database

_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[Airline]] = WeakKeyDictionary()
_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncExitStack] = WeakKeyDictionary()


@asynccontextmanager
async def at(database: Database) -> AsyncIterator[Airline]:
    """Open the desk over `database` for the tools of this event loop, until the block ends."""
    loop = asyncio.get_running_loop()
    async with opened(database) as airline:
        before = _desks.get(loop)
        _desks[loop] = loop.create_future()
        _desks[loop].set_result(airline)
        try:
            yield airline
        finally:
            if before is None:
                del _desks[loop]
            else:
                _desks[loop] = before


async def airline() -> Airline:
    """Return the airline of this event loop, opened on the first call. Errors: the store's."""
    loop = asyncio.get_running_loop()
    desk = _desks.get(loop)
    if desk is None:
        desk = _desks[loop] = asyncio.ensure_future(_open(loop))
    try:
        return await asyncio.shield(desk)
    except Exception:
        if _desks.get(loop) is desk and desk.done():
            del _desks[loop]  # the next call tries again
        raise


async def leave() -> None:
    """Close what the first call opened in this event loop, if it did; a system that closes does so by itself."""
    loop = asyncio.get_running_loop()
    if (kept := _kept.pop(loop, None)) is not None:
        _desks.pop(loop, None)
        await kept.aclose()


async def _open(loop: asyncio.AbstractEventLoop) -> Airline:
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(Database.open)
        stack.callback(database.close)
        await install(database)
        airline = await stack.enter_async_context(opened(database))
        _kept[loop] = stack.pop_all()
        at_leave(leave)
        return airline
