"""What the mirror's tests stand on: a store with its schema, a lake beside it, rows that form true chains."""

from __future__ import annotations

import asyncio
import hashlib
import random
from itertools import count
from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg import sql

from aetheris.domain import encode, events
from aetheris.lake import Lake, open_lake
from aetheris.runtime.mirror import Round, mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

_numbers = count(1)


def copy_of(database: Database, name: str | None = None) -> Database:
    """Return a new database that holds what this one holds now: a backup."""
    with psycopg.connect(database.admin_dsn) as connection:
        found = connection.info.dbname
    name = name or f"{found}_copy_{next(_numbers)}"
    with psycopg.connect(
        psycopg.conninfo.make_conninfo(database.admin_dsn, dbname="postgres"), autocommit=True
    ) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(found))
        connection.execute(make)
    return Database(psycopg.conninfo.make_conninfo(database.admin_dsn, dbname=name))


class World:
    """A store, its lake's folder, and a hand that writes rows as the append would."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.source = MirrorSource(database)
        self.random = random.Random(7)
        self._heads: dict[tuple[str, str], tuple[int, str, int]] = {}
        self._lakes: list[Lake] = []

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection that may write rows as they come (no triggers): the test is the worker."""
        connection = psycopg.connect(self.database.admin_dsn)
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET search_path = aetheris")
        connection.commit()
        return connection

    def lake(self, folder: Path | None = None) -> Lake:
        """Return the lake, ready to be committed to."""
        made = Lake(folder or self.folder, self.source.catalog_uri)
        self._lakes.append(made)
        return made

    def mirror(self, folder: Path | None = None) -> Round:
        """Run one round."""
        return asyncio.run(mirror_once(self.source, self.lake(folder)))

    def close(self) -> None:
        """Let go of the lakes' connections."""
        for lake in self._lakes:
            lake.close()

    def write(
        self,
        job: str,
        steps: int = 2,
        *,
        tenant: str = "default",
        connection: psycopg.Connection[tuple[object, ...]] | None = None,
        xid: int | None = None,
    ) -> None:
        """Append `steps` events to a job, each with its cell and its ledger row, in one transaction.

        With `connection` the transaction stays open; `xid` forges the rows' transaction.
        """
        own = connection or self.connect()
        rows = self._rows(tenant, job, steps)
        more, value = (", xid", ", %s::text::xid8") if xid else ("", "")
        for table, columns, some in zip(
            ("job_events", "cells", "ledger"), _COLUMNS, zip(*rows, strict=True), strict=True
        ):
            names = columns + more
            marks = ", ".join(["%s"] * (columns.count(",") + 1)) + value
            with own.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})", [(*r, str(xid)) if xid else r for r in some]
                )
        if connection is None:
            own.commit()
            own.close()

    def forget(self, job: str, after: int, tenant: str = "default") -> None:
        """Take a job's rows after a sequence number away, as a restored backup would; the job goes on from there."""
        with self.connect() as connection:
            for table in ("job_events", "cells", "ledger"):
                connection.execute(f"DELETE FROM {table} WHERE job_id = %s AND seq > %s", [job, after])
            row = connection.execute(
                "SELECT leaf FROM job_events WHERE job_id = %s AND seq = %s", [job, after]
            ).fetchone()
        assert row is not None or after == 0
        at = self._heads[tenant, job][2]
        self._heads[tenant, job] = (after, row[0].hex() if row else events.GENESIS_PREV, at)  # type: ignore[attr-defined]

    def stored(self) -> list[tuple[str, str, int, bytes, str]]:
        """Return the store's events by key."""
        with self.connect() as connection:
            return connection.execute(  # type: ignore[return-value]
                "SELECT tenant_id, job_id, seq, leaf, line FROM job_events ORDER BY 1, 2, 3"
            ).fetchall()

    def counts(self) -> dict[str, int]:
        """Return how many rows the store holds of what the tests write."""
        with self.connect() as connection:
            return {
                lake: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index, misc]
                for lake, table in (("events", "job_events"), ("cells", "cells"), ("ledger", "ledger"))
            }

    def mirrored(self) -> list[tuple[str, str, int, bytes, str]]:
        """Return the published lake's events by key, every byte checked."""
        return in_order(open_lake(self.folder, verify=True).tables["events"].read())

    def assert_equal(self) -> None:
        """Hold the published lake to the store: every row, once."""
        assert self.mirrored() == self.stored()
        lake = open_lake(self.folder)
        assert {name: lake.tables[name].read().num_rows for name in self.counts()} == self.counts()

    def _rows(self, tenant: str, job: str, steps: int) -> list[tuple[tuple[object, ...], ...]]:
        seq, prev, at = self._heads.get((tenant, job), (0, events.GENESIS_PREV, 1_770_000_000_000_000))
        made = []
        for _ in range(steps):
            seq, at, started = seq + 1, at + self.random.randrange(1000, 99_999), seq % 2 == 0
            key, salt = self.random.randbytes(32), self.random.randbytes(32)
            name, status = ("args", "started") if started else ("result", "committed")
            data = {"attempt": 1, "effect": "once", "idempotency_key": key.hex(), "tool_name": "book"}
            line = encode.line_bytes(
                events.build(
                    at=at, by="worker/w1", cells={name: salt.hex()}, data=data, epoch=1, prev=prev, seq=seq,
                    step=(seq + 1) // 2, type="tool_invocation_started" if started else "tool_invocation_finished",
                )
            )  # fmt: skip
            leaf = hashlib.sha256(b"\0" + line).digest()
            prev = leaf.hex()
            body = f'{{"secret":"MARK-{self.random.randrange(10**12):012}"}}'
            made.append(
                (
                    (tenant, job, seq, leaf, line.decode()),
                    (tenant, job, seq, name, salt, body),
                    (tenant, job, seq, (seq + 1) // 2, 1, "book", "once", status, 1, key, salt, None),
                )
            )
        self._heads[tenant, job] = (seq, prev, at)
        return made


def in_order(rows: pa.Table) -> list[tuple[str, str, int, bytes, str]]:
    """Return event rows by key, as the store gives them."""
    columns = [rows[name].to_pylist() for name in ("tenant_id", "job_id", "seq", "leaf", "line")]
    return sorted(zip(*columns, strict=True))


_COLUMNS = (
    "tenant_id, job_id, seq, leaf, line",
    "tenant_id, job_id, seq, name, salt, body",
    "tenant_id, job_id, seq, step, attempt, tool_name, effect, status, epoch, idempotency_key, args_hash, result_hash",
)
