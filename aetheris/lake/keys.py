"""Rows told by key: what the lake has already, what it has and the store lacks.

For the rounds in which transaction ids mean nothing (see runtime/mirror_batch.py).
One tenant at a time, in memory: about 250 bytes per row that the lake holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from aetheris.lake.index import LakeFile
from aetheris.lake.opened import read_files
from aetheris.lake.schema import TableShape


class KnownKeys:
    """The keys of one tenant's rows in one table, struck off as the store shows them."""

    def __init__(self, folder: Path, shape: TableShape, files: Sequence[LakeFile], tenant: str) -> None:
        self.shape = shape
        self._leaf = ["leaf"] if "leaf" in shape.arrow.names else []
        rows = read_files(folder, shape, files, [*shape.key, *self._leaf], tenant=tenant)
        self._unmet: dict[tuple[Any, ...], bytes | None] = dict(self._pairs(rows))
        self._met: set[tuple[Any, ...]] = set()
        self.differing: list[tuple[Any, ...]] = []

    def new(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return those of the store's rows that the lake has not; a key with another leaf goes to `differing`."""
        return rows.filter(pa.array([not self._meet(key, leaf) for key, leaf in self._pairs(rows)], pa.bool_()))

    def lacking(self, collected: set[str]) -> list[tuple[Any, ...]]:
        """Return the keys that the store did not show, without those of jobs that left it on record."""
        job = self.shape.key.index("job_id") if "job_id" in self.shape.key else None
        return sorted(key for key in self._unmet if job is None or key[job] not in collected)

    def _meet(self, key: tuple[Any, ...], leaf: bytes | None) -> bool:
        if key in self._met:
            return True
        if key not in self._unmet:
            return False
        if self._unmet.pop(key) != leaf:
            self.differing.append(key)
        self._met.add(key)
        return True

    def _pairs(self, rows: pa.Table | pa.RecordBatch) -> list[tuple[tuple[Any, ...], bytes | None]]:
        columns = [rows[name] for name in self.shape.key]
        # Times as integers: pyarrow would make a datetime, with a time zone, of each.
        keys = zip(
            *(c.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(c.type) else c.to_pylist() for c in columns),
            strict=True,
        )
        leaves = rows["leaf"].to_pylist() if self._leaf else [None] * rows.num_rows
        return list(zip(keys, leaves, strict=True))
