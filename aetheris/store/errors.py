"""Where a SQLSTATE or a lost connection becomes one of our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Lost, Refused, Unusable


class Unreachable(Unusable):
    """The database can't be reached, or the connection broke. Nothing is known of a statement in flight."""


class Full(Refused):
    """The database's disk is full or read-only. The statement wrote nothing."""

    exit_code = 1


@contextmanager
def translated(where: str = "") -> Iterator[None]:
    """Turn psycopg's errors inside the block into ours, each with one line."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, where) from error


def translate(error: psycopg.Error, where: str = "") -> AetherisError:
    """Return the error of our tree that says what this one means to the caller."""
    place = f" at {where}" if where else ""
    text = " ".join(str(error).split())
    match error:
        case pg.InsufficientPrivilege():
            return Denied(f"PostgreSQL{place} refused: {text}")
        case pg.UniqueViolation() | pg.SerializationFailure() | pg.DeadlockDetected() | pg.LockNotAvailable():
            return Conflict(f"another write came first{place}: {text}")
        case pg.IdleInTransactionSessionTimeout():
            return Lost(f"PostgreSQL{place} heard nothing of this process for too long: nothing was written")
        case pg.DiskFull() | pg.ReadOnlySqlTransaction():
            return Full(f"PostgreSQL{place} can't write: {text}. Free some disk space; nothing was lost.")
        case pg.UndefinedTable() | pg.InvalidSchemaName() | pg.UndefinedColumn():
            return Unusable(f"the database{place} has no Aetheris schema of this version: run `aetheris init`")
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate.startswith(("08", "57", "28")):
            return Unreachable(f"can't reach PostgreSQL{place}: {text}")
        case _ if error.sqlstate == "AE004":
            return Conflict(text)
        case _ if error.sqlstate in ("AE001", "AE002", "AE003"):
            return Corrupt(f"the database refused: {text}")
        case _:
            return Refused(f"PostgreSQL{place} refused: {text}")
