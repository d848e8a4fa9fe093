"""What the store holds now, as the operator's gauges show it."""

from __future__ import annotations

from dataclasses import dataclass

from aetheris.domain.jobs import JobStatus
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement


@dataclass(frozen=True, slots=True)
class Gauges:
    """Jobs by state, and what may be wrong with them."""

    states: dict[str, int]
    backlog: int
    stuck: int
    live_leases: int
    parked_seconds: float


async def sample(connection: Connection) -> Gauges:
    """Return the gauges of the whole store; every state is there, with 0 for none."""
    with translated():
        row = await (await connection.execute(statement("gauges"))).fetchone()
    assert row is not None
    states = {status.word: int(row["states"].get(str(status.value), 0)) for status in JobStatus}
    return Gauges(states, row["backlog"], row["stuck"], row["live_leases"], row["parked_seconds"])
