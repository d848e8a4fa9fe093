"""The threads in which plain tools run: a worker's own, never the event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

#: Set by a worker for its tasks; without one, the event loop's threads serve.
POOL: ContextVar[ThreadPoolExecutor | None] = ContextVar("aetheris_threads", default=None)


async def in_thread(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Return what `function` returns, called in a thread in a copy of this context."""
    call = partial(copy_context().run, _called, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(POOL.get(), call)


def _called(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except StopIteration as error:  # a future can't hold one, and whoever waits for it would wait for ever
        raise RuntimeError("it raised StopIteration") from error
