"""The thread of a plain `def` job, and its hand-overs to the event loop.

One side runs at a time. The thread runs the job's code and delivers recorded
results to itself; for anything new it hands over to the loop and blocks until
the loop gives back. When the job is given up (lease lost, suspended), the
blocked thread gets `Abandoned`, a BaseException, so that the job's own
`except Exception` can't hold it.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aetheris.runtime.answers import Abandoned


class JobThread:
    """Runs `body` in a thread of its own and serves what it hands over."""

    def __init__(self, body: Callable[[], Any], name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Callable[[], Awaitable[Any]] | None] = asyncio.Queue()
        self._answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self._abandoned = False
        # What logging and tracing know of the job holds in its thread too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run, body), name=name, daemon=True)

    async def drive(self) -> tuple[Any, BaseException | None]:
        """Run the body to its end and return what it returned, and what it raised. Errors: those of a request."""
        self._thread.start()
        while (request := await self._requests.get()) is not None:
            try:
                await request()
            except BaseException:
                self.abandon()
                raise
            self._answers.put(None)
        return self._outcome

    def hand_over(self, request: Callable[[], Awaitable[Any]]) -> None:
        """In the thread: let the loop do `request`, and return once it is done."""
        if self._abandoned:
            raise Abandoned
        self._loop.call_soon_threadsafe(self._requests.put_nowait, request)
        if (error := self._answers.get()) is not None:
            raise error

    def abandon(self) -> None:
        """Let the blocked thread unwind."""
        if not self._abandoned:
            self._abandoned = True
            self._answers.put(Abandoned())

    def _run(self, body: Callable[[], Any]) -> None:
        try:
            self._outcome = (body(), None)
        except BaseException as error:  # noqa: BLE001  handed to the loop, which raises it
            self._outcome = (None, error)
        if not self._abandoned:
            self._loop.call_soon_threadsafe(self._requests.put_nowait, None)
