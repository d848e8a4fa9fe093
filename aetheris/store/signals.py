"""NOTIFY: a worker hears of new work at once. It is a hint; polling stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aetheris.store.database import Connection
from aetheris.store.errors import translated

CHANNEL = "aetheris_jobs"


async def listen(connection: Connection) -> AsyncIterator[str]:
    """Yield the payload of each notification. Errors: Unreachable when the connection breaks."""
    with translated():
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        async for notice in connection.notifies():
            yield notice.payload


async def wake_others(connection: Connection) -> None:
    """Tell every listening worker that there may be something to claim. Errors: Unreachable."""
    with translated():
        await connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])
