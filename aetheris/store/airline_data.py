"""A data set of the airline: what it is, what names it, and how it gets into the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from aetheris.store.airline import Document, install
from aetheris.store.database import CONNECT_SECONDS, Database
from aetheris.store.errors import translated

_SEPARATE = ("payment_methods", "reservations")


@dataclass(frozen=True, slots=True)
class DataSet:
    """What every run starts from. The order of keys counts everywhere: it is the order in which the desk shows them.

    `desk` is what the desk has that is in no record: `airports` (code -> city),
    `now`, and the numbers it gives out, `reservation_ids` and `certificate_ids`.
    """

    users: Mapping[str, Document]
    flights: Mapping[str, Document]
    reservations: Mapping[str, Document]
    desk: Document

    @property
    def digest(self) -> str:
        """Return the name of this data set: 16 hex digits over all of it, order included."""
        whole = json.dumps([self.users, self.flights, self.reservations, self.desk], separators=(",", ":"))
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


async def load(database: Database, data: DataSet) -> str:
    """Load a data set once, making the airline's tables where they are missing; return its name."""
    await install(database)
    name = data.digest
    with translated(database.where):
        connection = await AsyncConnection.connect(database.admin_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS)
        async with connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.execute("SET LOCAL ROLE aetheris_airline")
            await cursor.execute(
                "INSERT INTO airline.datasets (dataset, desk) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [name, json.dumps(data.desk)],
            )
            if cursor.rowcount:
                await _fill(cursor, name, data)
    return name


async def _fill(cursor: AsyncCursor[Any], name: str, data: DataSet) -> None:
    await _copy(
        cursor,
        "flights (dataset, flight_number, position, shown)",
        (
            (name, number, position, json.dumps({k: v for k, v in flight.items() if k != "dates"}))
            for position, (number, flight) in enumerate(data.flights.items())
        ),
    )
    await _copy(
        cursor,
        "flight_days (dataset, flight_number, day, shown)",
        (
            (name, number, day, json.dumps(shown))
            for number, flight in data.flights.items()
            for day, shown in flight["dates"].items()
        ),
    )
    await _copy(
        cursor,
        "users (dataset, user_id, shown)",
        ((name, user, json.dumps({**shown, **dict.fromkeys(_SEPARATE)})) for user, shown in data.users.items()),
    )
    await _copy(
        cursor,
        "payment_methods (dataset, world, user_id, payment_id, position, shown)",
        (
            (name, "", user, payment, position, json.dumps(method))
            for user, shown in data.users.items()
            for position, (payment, method) in enumerate(shown["payment_methods"].items())
        ),
    )
    await _copy(
        cursor,
        "reservations (dataset, world, reservation_id, shown)",
        ((name, "", number, json.dumps(shown)) for number, shown in data.reservations.items()),
    )
    await _copy(
        cursor,
        "user_reservations (dataset, world, user_id, reservation_id, position)",
        (
            (name, "", user, number, position)
            for user, shown in data.users.items()
            for position, number in enumerate(shown["reservations"])
        ),
    )


async def _copy(cursor: AsyncCursor[Any], table: str, rows: Iterable[tuple[object, ...]]) -> None:
    async with cursor.copy(f"COPY airline.{table} FROM STDIN".encode()) as copy:
        for row in rows:
            await copy.write_row(row)
