"""The workers' register, and the database's clock."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence

from aetheris.store.database import Connection
from aetheris.store.errors import translated


async def register(
    connection: Connection, worker: str, *, agents: Mapping[str, str], capabilities: Sequence[str], concurrency: int
) -> None:
    """Make the worker known; its heartbeat keeps it so."""
    with translated():
        await connection.execute(
            "INSERT INTO aetheris.workers (worker_id, agents, versions, capabilities, concurrency, host, pid)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (worker_id) DO UPDATE SET"
            " started_at = clock_timestamp(), last_seen_at = clock_timestamp(), agents = excluded.agents,"
            " versions = excluded.versions, capabilities = excluded.capabilities, concurrency = excluded.concurrency,"
            " host = excluded.host, pid = excluded.pid",
            [
                worker,
                list(agents),
                [f"{a}@{v}" for a, v in agents.items()],
                list(capabilities),
                concurrency,
                socket.gethostname(),
                os.getpid(),
            ],
        )


async def unregister(connection: Connection, worker: str) -> None:
    """Forget the worker, and those not heard of for a day."""
    with translated():
        await connection.execute(
            "DELETE FROM aetheris.workers WHERE worker_id = %s OR last_seen_at < clock_timestamp() - interval '1 day'",
            [worker],
        )


async def clock_offset_us(connection: Connection) -> int:
    """Return what to add to this machine's clock (microseconds) to get the database's.

    Off by at most half a round trip.
    """
    with translated():
        before = time.time_ns()
        cursor = await connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now")
        row = await cursor.fetchone()
        after = time.time_ns()
    assert row is not None
    return int(row["now"]) - (before + after) // 2000


async def writable(connection: Connection) -> bool:
    """Return whether this server takes writes: it is no standby, and not set to read only."""
    with translated():
        cursor = await connection.execute(
            "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS yes"
        )
        row = await cursor.fetchone()
    return row is not None and bool(row["yes"])
