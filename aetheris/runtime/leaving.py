"""What a tool opened in an event loop and keeps for its next calls is closed before that loop ends.

A pool that a tool opens at its first call has no owner that ends it. A loop
that ends with the pool's tasks still running cancels them, and on Python 3.11
such a cancellation may be swallowed: the process would never leave.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)
_closing: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[None]]]] = WeakKeyDictionary()


def at_leave(close: Callable[[], Awaitable[None]]) -> None:
    """Have `close` awaited in this event loop when the system that works in it closes, after its workers."""
    _closing.setdefault(asyncio.get_running_loop(), []).append(close)


async def leave() -> None:
    """Close what was kept in this event loop, the latest first. One that fails is logged and holds up no other."""
    kept = _closing.pop(asyncio.get_running_loop(), [])
    for close in reversed(kept):
        try:
            await close()
        except Exception as error:  # noqa: BLE001  it is a tool's own code
            _log.warning("leaving: %s: %s", type(error).__name__, error)
