"""Where the store is, and how each role gets a connection to it.

`Database.open` finds PostgreSQL: the one that a DSN names, or the embedded one
in AETHERIS_HOME. A connection always acts as one of the roles of the
migrations, never as owner or superuser; `connect` checks that and refuses
otherwise. Migrations alone run with the rights of the DSN itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection, conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from aetheris.domain.errors import Denied, Refused, Unusable
from aetheris.store import arrays, walls
from aetheris.store.embedded import Embedded, Running
from aetheris.store.errors import Unreachable, translated

Role = Literal["app", "worker", "mirror", "keeper"]
Connection = AsyncConnection[dict[str, Any]]

CONNECT_SECONDS = 10
#: A pool lets go of one unused connection each time so long has gone by: twelve tenants' bursts leave nothing behind.
IDLE_SECONDS = 20.0
OLDEST_SERVER = 15
_NOT_A_MEMBER = re.compile(r'permission denied to set role "(\w+)"')


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL that holds, or will hold, a store."""

    admin_dsn: str
    embedded: Running | None = None

    @classmethod
    def open(cls, dsn: str | None = None, home: Path | None = None) -> Database:
        """Return the database that `dsn` (or AETHERIS_DSN) names, else the embedded one of `home`.

        Starts the embedded server when it isn't running. Errors: Refused,
        Unreachable.
        """
        dsn = dsn or os.environ.get("AETHERIS_DSN")
        if dsn:
            check_dsn(dsn, "AETHERIS_DSN")
            return cls(dsn)
        running = Embedded(home or default_home()).start()
        return cls(running.dsn("aetheris_admin"), running)

    @property
    def where(self) -> str:
        """Host and database for messages; never the password."""
        parts = conninfo.conninfo_to_dict(self.admin_dsn)
        if self.embedded is not None:
            return "the embedded server"
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"

    def dsn(self, role: Role) -> str:
        """Return a connection string that acts as `role`, and says so in pg_stat_activity."""
        name = f"aetheris-{role}"
        if self.embedded is not None:
            return conninfo.make_conninfo(self.embedded.dsn(f"aetheris_{role}"), application_name=name)
        return conninfo.make_conninfo(self.admin_dsn, options=f"-c role=aetheris_{role}", application_name=name)

    async def connect(self, role: Role) -> Connection:
        """Return an autocommit connection that acts as `role` and can't see past its walls.

        Errors: Unreachable, Unusable (no schema yet), Refused (the role could
        look past row-level security).
        """
        connection = await _connect(self.dsn(role), self.where)
        try:
            with translated(self.where):
                await walls.check(connection, role)
                if role == "worker":
                    # A prepared plan lives as long as its connection. One made while a table was small reads
                    # all of it, and goes on so when it has grown, until the next ANALYZE.
                    await connection.execute("SET enable_seqscan = off")
        except BaseException:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def pool(self, role: Role, size: int) -> AsyncIterator[AsyncConnectionPool[Connection]]:
        """Yield a pool of up to `size` such connections."""
        pool = AsyncConnectionPool[Connection](
            self.dsn(role),
            min_size=1,
            max_size=size,
            max_idle=IDLE_SECONDS,
            kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": CONNECT_SECONDS},
            configure=_configure,
            # A connection that PostgreSQL dropped meanwhile (a restart, a fail-over) is replaced unseen.
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        async with pool:
            yield pool

    def close(self) -> None:
        """Let go of the embedded server; the last process to do so stops it."""
        if self.embedded is not None:
            self.embedded.release()


def check_dsn(dsn: str, name: str) -> None:
    """Hold that `dsn` can be read as a connection string. Errors: Refused, without it: it may hold a password."""
    try:
        conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Refused(f"{name} is not a PostgreSQL connection string (postgresql://user@host/db)") from None


def default_home() -> Path:
    """Return AETHERIS_HOME, or `.aetheris` in the current folder."""
    return Path(os.environ.get("AETHERIS_HOME") or ".aetheris").absolute()


async def _connect(dsn: str, where: str) -> Connection:
    try:
        connection: Connection = await AsyncConnection.connect(
            dsn, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
        )
    except psycopg.OperationalError as error:
        raise unreachable(error, where) from None
    if connection.info.server_version < OLDEST_SERVER * 10_000:
        found = connection.info.server_version // 10_000
        await connection.close()
        raise Unusable(f"PostgreSQL {found} at {where} is too old: Aetheris needs {OLDEST_SERVER} or newer")
    await _configure(connection)
    return connection


def unreachable(error: psycopg.OperationalError, where: str) -> Exception:
    """Return one line for a connection that could not be made."""
    text = " ".join(str(error).split())
    if "does not exist" in text and "role" in text:
        return Unusable(f"the database at {where} has no Aetheris roles: run `aetheris init`")
    if found := _NOT_A_MEMBER.search(text):
        return Denied(
            f"the login at {where} may not act as {found[1]}: grant it that role, or name one that may in AETHERIS_DSN"
        )
    cause = "refused" if "refused" in text.lower() else text.rpartition("failed: ")[2] or text
    return Unreachable(
        f"can't reach PostgreSQL at {where} ({cause}). Is it running? Without AETHERIS_DSN the embedded one is used."
    )


async def _configure(connection: AsyncConnection[Any]) -> None:
    arrays.register(connection)
    connection.prepare_threshold = 1


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Run the block in one transaction; a connection lost at its begin or commit is one of our errors, too."""
    with translated():
        async with connection.transaction():
            yield


@asynccontextmanager
async def as_tenant(pool: AsyncConnectionPool[Connection], tenant: str) -> AsyncIterator[Connection]:
    """Yield an app connection in a transaction bound to `tenant`, and to nothing after it."""
    with translated():
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT set_config('aetheris.tenant', %s, true)", [tenant])
            yield connection
