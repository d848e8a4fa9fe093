"""NOTIFY: a worker hears of new work at once. It is a hint; polling stands behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from psycopg_pool import AsyncConnectionPool

from aetheris.store.database import Connection
from aetheris.store.errors import Unreachable, translated

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


async def announce(pool: AsyncConnectionPool[Connection]) -> None:
    """Tell every listening worker of a job whose commit is done; a hint that fails is none.

    A transaction that notifies holds a lock of the whole server from before its
    commit until that is on disk (PostgreSQL, async.c: PreCommit_Notify), so
    submits that notified in theirs would reach the disk one at a time.
    """
    with contextlib.suppress(Unreachable), translated():
        async with pool.connection() as connection:
            await wake_others(connection)
