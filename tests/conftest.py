"""One embedded PostgreSQL for the session, and a database with an empty store for each test that asks."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from aetheris.store.database import Database
from aetheris.store.embedded import ADMIN, Embedded, Running
from aetheris.store.migrate import migrate

#: How long an example may take says something of the machine, not of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_numbers = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """A real PostgreSQL of the tests' own, with a template that holds an empty store."""
    folder = Path(tempfile.mkdtemp(prefix="aetheris-tests-", dir="/tmp"))
    folder.chmod(0o755)
    running = Embedded(folder / "home").start()
    try:
        with psycopg.connect(running.dsn(ADMIN), autocommit=True) as connection:
            connection.execute("CREATE DATABASE store_template")
        asyncio.run(migrate(Database(psycopg.conninfo.make_conninfo(running.dsn(ADMIN), dbname="store_template"))))
        yield running
    finally:
        running.release()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(server: Running) -> Iterator[Callable[[], Database]]:
    """Make databases with an empty store; they are dropped after the test."""
    names: list[str] = []

    def make() -> Database:
        name = f"store_{next(_numbers)}"
        with psycopg.connect(server.dsn(ADMIN), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE store_template".encode())
        names.append(name)
        return Database(psycopg.conninfo.make_conninfo(server.dsn(ADMIN), dbname=name))

    yield make
    with psycopg.connect(server.dsn(ADMIN), autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Database:
    """A database with an empty store."""
    return new_database()
