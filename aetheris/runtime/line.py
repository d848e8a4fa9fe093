"""One connection that many use in turn: what waits, however many they are, takes no connection each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aetheris.store.database import Connection


class Line:
    """Connects at the first turn, and anew after one that failed. A turn is as long as its statements, never a wait."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Connection]:
        """Yield the connection, to nobody else meanwhile. Errors: Unreachable."""
        async with self._turn:
            if self._connection is None or self._connection.closed:
                self._connection = await self._connect()
            try:
                yield self._connection
            except BaseException:
                await self._drop()  # cut off in a statement, it may not be fit for the next
                raise

    async def close(self) -> None:
        """Let go of the connection once the turn under way is over."""
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
