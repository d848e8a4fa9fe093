"""The airline of the example, in PostgreSQL: what the desk looks up, and how it changes.

A world is named "DATASET/NAME". Base rows are loaded once per data set; a
world's own rows lie over them (sql/airline/schema.sql tells how), so a world
needs no opening and no cleaning before a run.

Looking is one statement. A change is one transaction: lock the world, read all
that the decision needs in one look, let a pure function decide, write the
outcome and its receipt in one statement. A change that comes again under the
same key is answered from its receipt.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection, conninfo, errors
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from aetheris.domain.errors import Refused
from aetheris.store.database import CONNECT_SECONDS, Connection, Database
from aetheris.store.errors import translated
from aetheris.store.statements import statement

ROLE = "aetheris_airline"
POOL_SIZE = 8

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Leg:
    """One flight on one day, as the desk shows it."""

    flight: Document
    day: Document
    date: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a change must know before it can be decided."""

    reservation_id: str | None = None
    user_id: str | None = None
    flight_numbers: Sequence[str] = ()
    days: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What the airline knows of it: the reservation, its user (or the one asked for), methods, flights."""

    reservation: Document | None
    user_id: str | None
    methods: dict[str, Document]
    flights: dict[str, Document]  # number -> {"shown": ..., "days": {day: ...}}
    desk: Document  # airports, now, reservation_ids, certificate_ids
    taken: frozenset[str]  # which of the desk's reservation_ids are in use


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision answers, and what it changes."""

    answer: str
    reservation: Document | None = None
    listed_for: str | None = None  # the user whose profile gets the reservation
    methods: Mapping[str, Document | None] = field(default_factory=dict)  # None: used up
    handover: str | None = None


Decide = Callable[[Situation], Outcome]


class Airline:
    """The desk's access to the airline's tables, through a pool of connections."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool

    async def airports(self, world: str) -> Document:
        """Return code -> city of the airports served. Errors: Refused for a data set that isn't loaded."""
        rows = await self._look("airports", world)
        if not rows:
            raise Refused(f"airline: the data set of world {world!r} is not loaded")
        return _document(rows[0]["shown"])

    async def direct(self, world: str, origin: str, destination: str, day: str) -> list[Leg]:
        """Return the flights of a route that can be booked on `day` (YYYY-MM-DD), in the data set's order."""
        rows = await self._look("direct", world, origin=origin, destination=destination, day=day)
        return [Leg(_document(row["flight"]), _document(row["day"]), day) for row in rows]

    async def onestop(
        self, world: str, origin: str, destination: str, day: str, next_day: str | None
    ) -> list[tuple[Leg, Leg]]:
        """Return the pairs of flights with one stop that can be booked from `day` on."""
        rows = await self._look("onestop", world, origin=origin, destination=destination, day=day, next_day=next_day)
        return [
            (
                Leg(_document(row["first"]), _document(row["first_day"]), day),
                Leg(_document(row["second"]), _document(row["second_day"]), row["second_date"]),
            )
            for row in rows
        ]

    async def user(self, world: str, user_id: str) -> Document | None:
        """Return a profile with its payment methods and reservations."""
        rows = await self._look("user", world, user_id=user_id)
        if not rows:
            return None
        profile = _document(rows[0]["profile"])
        profile["payment_methods"] = json.loads(rows[0]["methods"] or "{}")
        profile["reservations"] = json.loads(rows[0]["reservations"] or "[]")
        return profile

    async def reservation(self, world: str, reservation_id: str) -> Document | None:
        """Return a reservation."""
        rows = await self._look("reservation", world, reservation_id=reservation_id)
        return _document(rows[0]["shown"]) if rows else None

    async def change(self, world: str, key: str, wanted: Wanted, decide: Decide) -> str:
        """Decide and write one change, once per `key`, and return its answer.

        Nothing is written when `decide` raises. Errors: what `decide` raises,
        and the store's.
        """
        binds = {**_name(world), "key": key}
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(statement("airline/lock_world"), binds)
                cursor = await connection.execute(
                    statement("airline/situation"),
                    {
                        **binds,
                        "reservation_id": wanted.reservation_id,
                        "user_id": wanted.user_id,
                        "flight_numbers": list(wanted.flight_numbers),
                        "days": list(wanted.days),
                    },
                )
                row = await cursor.fetchone()
                if row is None or row["desk"] is None:
                    raise Refused(f"airline: the data set of world {world!r} is not loaded")
                if row["answered"] is not None:
                    return str(row["answered"])
                situation, positions = _situation(row)
                outcome = decide(situation)
                await connection.execute(
                    statement("airline/change"), {**binds, **_writes(situation, positions, outcome)}
                )
        return outcome.answer

    async def _look(self, name: str, world: str, **binds: object) -> list[dict[str, Any]]:
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement(f"airline/{name}"), {**_name(world), **binds})
                return await cursor.fetchall()


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Airline]:
    """Yield the airline of a database where `install` was run."""
    pool = AsyncConnectionPool[Connection](
        _dsn(database),
        min_size=1,
        max_size=POOL_SIZE,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": CONNECT_SECONDS,
            "prepare_threshold": 1,
        },
        open=False,
    )
    with translated(database.where):
        async with pool:
            await pool.wait(CONNECT_SECONDS)
            yield Airline(pool)


async def install(database: Database) -> None:
    """Make the airline's role, schema and tables where they are missing. Safe from many processes at once."""
    with translated(database.where):
        connection = await AsyncConnection.connect(database.admin_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS)
        async with connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('airline', 0))")
            await _make_role(connection, login=database.embedded is not None)
            await connection.execute(statement("airline/schema"))


async def _make_role(connection: AsyncConnection[Any], *, login: bool) -> None:
    found = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE])
    if await found.fetchone() is None:
        # Roles are the server's, the advisory lock is the database's: another database may be a moment faster.
        with suppress(errors.DuplicateObject, errors.UniqueViolation):
            async with connection.transaction():
                how = "LOGIN" if login else "NOLOGIN"
                await connection.execute(f"CREATE ROLE {ROLE} NOSUPERUSER NOBYPASSRLS NOINHERIT {how}".encode())
    if not login:
        await connection.execute(f"GRANT {ROLE} TO CURRENT_USER".encode())


def _dsn(database: Database) -> str:
    if database.embedded is not None:
        return database.embedded.dsn(ROLE)
    return conninfo.make_conninfo(database.admin_dsn, options=f"-c role={ROLE}")


def _name(world: str) -> dict[str, str]:
    dataset, slash, name = world.partition("/")
    if not slash or not name:
        raise Refused(f"airline: world {world!r} is not DATASET/NAME")
    return {"dataset": dataset, "world": name}


def _document(text: str) -> Document:
    value: Document = json.loads(text)
    return value


def _situation(row: dict[str, Any]) -> tuple[Situation, dict[str, int]]:
    methods = json.loads(row["methods"])
    situation = Situation(
        reservation=None if row["reservation"] is None else _document(row["reservation"]),
        user_id=row["user_id"],
        methods={name: shown for name, _, shown in methods if shown is not None},
        flights=json.loads(row["flights"]),
        desk=_document(row["desk"]),
        taken=frozenset(row["taken"]),
    )
    return situation, {name: position for name, position, _ in methods}


def _writes(before: Situation, positions: Mapping[str, int], outcome: Outcome) -> dict[str, Any]:
    after_last = max(positions.values(), default=0) + 1
    changed = list(outcome.methods)
    shown = None if outcome.reservation is None else json.dumps(outcome.reservation)
    return {
        "answer": outcome.answer,
        "reservation_id": None if outcome.reservation is None else outcome.reservation["reservation_id"],
        "reservation": shown,
        "listed_for": outcome.listed_for,
        "user_id": before.user_id,
        "payment_ids": changed,
        # A method keeps its place in the profile; a new one, or one that comes back, goes to the end.
        "positions": [
            positions[name] if name in before.methods else after_last + at for at, name in enumerate(changed)
        ],
        "methods": [None if (doc := outcome.methods[name]) is None else json.dumps(doc) for name in changed],
        "handover": outcome.handover,
    }
