"""What tests of retention share: jobs that ran long ago, a lake beside them, and a search through every byte."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pyarrow.parquet as pq
from pydantic import BaseModel

import aetheris as ae
from aetheris.evidence import write
from aetheris.lake import Lake
from aetheris.runtime.collection import Collected, Collector
from aetheris.runtime.export import evidence_source
from aetheris.runtime.mirror import Round, mirror_once
from aetheris.runtime.record import JobRecord
from aetheris.runtime.sealing import Sealed, seal_finished
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from tests.store.job_support import FAST


class Passenger(BaseModel):
    """Someone with a secret."""

    name: str
    email: Annotated[str, ae.Sensitive]


@ae.tool
async def book(who: Passenger) -> str:
    """An effect."""
    return f"booked for {who.name}"


@ae.agent
async def trip(ctx: ae.Context, who: Passenger) -> str:
    """One call, one result."""
    return await ctx.call(book, who=who)


@ae.agent
async def slow_trip(ctx: ae.Context, who: Passenger) -> str:
    """One call, and a wait before the end."""
    said: str = await ctx.call(book, who=who)
    await ctx.wait_signal("go")
    return said


@ae.agent
async def waiting(ctx: ae.Context, n: int) -> int:
    """Waits for a signal."""
    await ctx.wait_signal("go")
    return n


class House:
    """A system with a worker, and a lake beside it."""

    def __init__(self, system: ae.AsyncSystem, folder: Path) -> None:
        self.system, self.folder = system, folder
        self.database = system.database
        self.source = MirrorSource(self.database)
        self.lake = Lake(folder, self.source.catalog_uri)

    async def travelled(self, count: int = 1, *, key: str | None = None, name: str = "Ada") -> list[str]:
        """Run jobs to their end."""
        jobs = [
            await self.system.submit(trip, Passenger(name=name, email=f"MARK-{n}-{name}@secret.example"), key=key)
            for n in range(count)
        ]
        await self.system.wait(jobs, seconds=30)
        return jobs

    def aged(self, days: int = 100, jobs: list[str] | None = None) -> None:
        """Let jobs be older than they are."""
        with self.admin() as connection:
            connection.execute(
                "UPDATE aetheris.jobs SET created_at = created_at - %(days)s * interval '1 day',"
                " updated_at = updated_at - %(days)s * interval '1 day'"
                " WHERE %(jobs)s::text[] IS NULL OR job_id = ANY (%(jobs)s)",
                {"days": days, "jobs": jobs},
            )

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that may do anything, and that no trigger stops."""
        connection = psycopg.connect(self.database.admin_dsn)
        connection.execute("SET session_replication_role = replica")
        return connection

    def count(self, table: str, job: str | None = None) -> int:
        """Return how many rows a table has, of one job or of all."""
        with self.admin() as connection:
            row = connection.execute(
                f"SELECT count(*) FROM aetheris.{table} WHERE %(job)s::text IS NULL OR job_id = %(job)s", {"job": job}
            ).fetchone()
        assert row is not None
        return int(row[0])

    async def mirror(self) -> Round:
        """One round."""
        return await mirror_once(self.source, self.lake)

    async def seal(self) -> Sealed:
        """Seal what has ended."""
        return await seal_finished(self.database, by="test")

    async def collect(self, *, days: int = 90, dry_run: bool = False, batch: int = 1000) -> Collected:
        """Collect what is due."""
        return await Collector(self.database, self.folder, days=days, batch=batch, by="test").run(dry_run=dry_run)

    async def kept(self) -> None:
        """Seal and mirror: after it, old jobs are due."""
        await self.seal()
        await self.mirror()

    def audited(self) -> list[tuple[str, bool]]:
        """Return what the audit chain of the tenant tells, in order."""
        with self.admin() as connection:
            return connection.execute(
                "SELECT line::json ->> 'type', (line::json #>> '{data,success}')::boolean FROM aetheris.audit_log"
                " WHERE line::json ->> 'type' <> 'audit_opened' ORDER BY seq"
            ).fetchall()


@asynccontextmanager
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    """Open one."""
    folder = tmp_path / "lake"
    async with ae.AsyncSystem(database=database, lake=folder) as system:
        made = House(system, folder)
        await system.start_worker([trip, slow_trip, waiting], FAST)
        try:
            yield made
        finally:
            made.lake.close()


def package(record: JobRecord) -> bytes:
    """Return the job's evidence."""
    out = BytesIO()
    write(evidence_source(record), out)
    return out.getvalue()


def everything_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file under a lake with its bytes, and with what its compression hides."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            yield path, raw
            if path.suffix == ".parquet":
                for column in pq.read_table(path, partitioning=None).columns:
                    yield path, b"\0".join(_bytes(value) for value in column.to_pylist() if value is not None)
            elif path.suffix == ".avro":
                yield path, _inflated(raw)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode()


def _inflated(raw: bytes) -> bytes:
    """Return the blocks of an Avro container, decompressed: (count, size, data, sync mark)*."""
    assert raw[:4] == b"Obj\x01"
    at, codec = 4, b"null"

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def text() -> bytes:
        nonlocal at
        size = number()
        at += size
        return raw[at - size : at]

    while entries := number():
        for _ in range(abs(entries)):
            name, value = text(), text()
            codec = value if name == b"avro.codec" else codec
    at += 16
    blocks = b""
    while at < len(raw):
        number()
        data = text()
        at += 16
        blocks += zlib.decompress(data, -15) if codec == b"deflate" else data
    assert codec in (b"deflate", b"null")
    return blocks
