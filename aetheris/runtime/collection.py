"""Collection: finished jobs leave PostgreSQL once the lake is shown to hold every row of them.

    due        ended longer ago than the retention, sealed, under no hold, no parent running
    shown      each row of the batch is looked for in the lake by its key (an event also by its leaf, a cell
               also by whether it has a body), in files whose bytes are those the lake's index names
    removed    in one transaction: locked, looked at again, buried, removed, told of on the audit chain

What is not shown stays, and is counted. One collector at a time; between two
batches it rests as long as the last one took, so that running jobs have the
database to themselves half of the time at least.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from aetheris.domain.errors import Conflict, Refused
from aetheris.evidence.dsse import Signer
from aetheris.lake import OpenedLake, layout, open_lake
from aetheris.lake.opened import check_bytes, read_files
from aetheris.lake.schema import DAY_MICROSECONDS
from aetheris.runtime.audit import entry
from aetheris.runtime.sealing import signature_holds
from aetheris.store import audit, retention
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database, transaction
from aetheris.store.retention import Due

#: The lake's tables that must hold a job whole before it goes. Snapshots are derived: they just go.
SHOWN = ("events", "cells", "ledger", "lease_changes", "limit_waits", "seals")
REST_SECONDS_MOST = 2.0
DAYS_MOST = 36_500
_START = (datetime(1, 1, 1, tzinfo=UTC), "")

Key = tuple[Any, ...]


@dataclass(slots=True)
class Collected:
    """What a collection did, or with `dry_run` would do."""

    dry_run: bool
    days: int
    jobs: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    #: Jobs old enough that stay, by reason: running, held, unsealed, broken, parent runs,
    #: not in the lake, signature fails.
    kept: Counter[str] = field(default_factory=Counter)
    vacuumed: bool = False
    #: A dry run without the key that seals are signed by: some of `jobs` may stay for their signature.
    signatures_unchecked: bool = False


class Collector:
    """Takes finished jobs older than `days` out of the store, whose lake is in the folder `lake`.

    Age is reckoned from `as_of`, or from now. With `signer`, a seal that is
    signed must be signed by that key: a job whose seal is not stays, and is counted.
    """

    def __init__(
        self,
        database: Database,
        lake: Path,
        *,
        days: int,
        batch: int = 1000,
        by: str,
        signer: Signer | None = None,
        as_of: datetime | None = None,
    ) -> None:
        if not 1 <= days <= DAYS_MOST:
            raise Refused(f"a retention of {days} days makes no sense: give 1 to {DAYS_MOST}")
        if not 1 <= batch <= 100_000:
            raise Refused(f"batches of {batch} jobs make no sense: give 1 to 100000")
        self._database, self._folder, self._by = database, lake, by
        self._days, self._batch, self._as_of = days, batch, as_of
        self._signer = signer.public if signer is not None else None
        self._hashed: set[str] = set()

    async def run(self, *, dry_run: bool = False) -> Collected:
        """Collect everything that is due, batch by batch, and return the counts.

        Errors: Conflict (another collection is under way), Unusable and Corrupt
        (the lake can't be read or is not this store's): nothing more is removed.
        """
        done = Collected(dry_run, self._days)
        async with await self._database.connect("keeper") as connection:
            if not dry_run and not await retention.alone(connection):
                raise Conflict("another collection is under way: let it end")
            before = await retention.cutoff(connection, self._days, self._as_of)
            for standing, (jobs, _) in (await retention.survey(connection, before)).items():
                if standing != "due":
                    done.kept[standing] += jobs
            for tenant in await retention.tenants(connection):
                await self._tenant(connection, tenant, before, done)
            if done.jobs and not dry_run:
                done.vacuumed = await retention.vacuum(connection)
        return done

    async def _tenant(self, connection: Connection, tenant: str, before: datetime, done: Collected) -> None:
        after = _START
        while batch := await retention.due(connection, tenant, before, after, self._batch):
            began = time.monotonic()
            after = (batch[-1].created_at, batch[-1].job)
            # The index is read anew for each batch: compaction goes on meanwhile.
            lake = await asyncio.to_thread(self._open, await retention.incarnation(connection))
            shown = await self._shown(connection, lake, batch, done)
            if done.dry_run:
                done.jobs += len(shown)
                continue
            if shown:
                await self._remove(connection, tenant, shown, lake, done)
                await asyncio.sleep(min(time.monotonic() - began, REST_SECONDS_MOST))

    def _open(self, store: str) -> OpenedLake:
        lake = open_lake(self._folder)
        if lake.index.cut is None or lake.index.cut.store != store:
            raise Refused(f"{self._folder} is the lake of another store: nothing is collected")
        return lake

    async def _shown(
        self, connection: Connection, lake: OpenedLake, batch: Sequence[Due], done: Collected
    ) -> list[JobKey]:
        """Return those jobs of which the lake holds every row."""
        keys = [job.key for job in batch]
        absent: set[JobKey] = set()
        for name in SHOWN:
            shape = lake.tables[name].shape
            columns, key_of = _compared(shape.key, name)
            rows = await retention.keys_of(connection, name, [*columns, "recorded_at"], keys)
            stored = [key_of(row[:-1]) for row in rows]
            days = {_micros(row[-1]) // DAY_MICROSECONDS for row in rows}
            found = await asyncio.to_thread(self._keys, lake, name, columns, batch, days)
            absent |= {(key[0], key[1]) for key in stored if key not in found}
            if name == "events":
                there = {(key[0], key[1]) for key in stored}
                absent |= {key for key in keys if key not in there}
        done.kept["not in the lake"] += len(absent)
        shown = [key for key in keys if key not in absent]
        forged = await self._forged(connection, shown)
        done.kept["signature fails"] += len(forged)
        return [key for key in shown if key not in forged]

    async def _forged(self, connection: Connection, keys: Sequence[JobKey]) -> set[JobKey]:
        """Return the jobs whose stored signature is not the signer's over their seal."""
        if self._signer is None or not keys:
            return set()
        rows = await retention.keys_of(connection, "seals", ["tenant_id", "job_id", "seal", "dsse"], keys)
        signed = [(t, j, seal.encode(), dsse.encode()) for t, j, seal, dsse in rows if dsse is not None]
        return {(t, j) for t, j, seal, dsse in signed if not signature_holds(self._signer, seal, dsse)}

    def _keys(
        self, lake: OpenedLake, name: str, columns: Sequence[str], batch: Sequence[Due], days: set[int]
    ) -> set[Key]:
        """Return the keys of the batch's rows in one table of the lake, from files that are what they were."""
        shape = lake.tables[name].shape
        _, key_of = _compared(shape.key, name)
        files = [
            f for f in lake.tables[name].files if layout.partition_of(f.path) in {(batch[0].tenant, d) for d in days}
        ]
        for file in files:
            if file.path not in self._hashed:
                check_bytes(lake.folder, file)
                self._hashed.add(file.path)
        # A day of a large tenant has many times the rows that a batch has.
        rows = read_files(lake.folder, shape, files, columns, tenant=batch[0].tenant, jobs=[job.job for job in batch])
        values = [_plain(rows[name]) for name in columns]
        return {key_of(row) for row in zip(*values, strict=True)}

    async def _remove(
        self, connection: Connection, tenant: str, keys: Sequence[JobKey], lake: OpenedLake, done: Collected
    ) -> None:
        reason = f"retention of {self._days} days"
        async with transaction(connection):
            locked = await retention.lock(connection, keys)
            if not locked:
                return
            removed = await retention.remove(
                connection, locked, by=self._by, reason=reason, days=self._days, archive=f"lake round {lake.round}"
            )
            data = {"days": self._days, "jobs": len(locked), "lake_round": lake.round, "rows": removed}
            told = entry("collect_jobs", by=self._by, resource_id=locked[0][1], data=data)
            await audit.append(connection, tenant, [told])
        done.jobs += len(locked)
        done.rows.update(removed)


def _compared(key: Sequence[str], table: str) -> tuple[list[str], Any]:
    """Return the columns that are compared, and what makes a comparable key of a row of them."""
    extra = {"events": ["leaf"], "cells": ["salt"]}.get(table, [])

    def key_of(row: Sequence[Any]) -> Key:
        values = [_micros(v) if isinstance(v, datetime) else v for v in row]
        if table == "cells":  # an erased cell has no salt on either side
            values[-1] = values[-1] is not None
        return tuple(bytes(v) if isinstance(v, memoryview) else v for v in values)

    return [*key, *extra], key_of


def _micros(at: datetime) -> int:
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _plain(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values
