"""Rows to Parquet files: one partition per file, sorted by key, the same rows always the same bytes.

A file is made in memory, named by its SHA-256, then written and synced. So
its name, size and digest are facts about what was meant, not about what the
disk gave back.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aetheris.lake import durable, layout
from aetheris.lake.schema import DAY_MICROSECONDS, TableShape

#: Rows per row group: DuckDB gives each row group to one thread.
ROW_GROUP_ROWS = 122_880
#: What may wait in memory before the fullest partition is written out.
BUFFER_ROWS = 500_000
BUFFER_BYTES = 128 * 1024 * 1024

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that is on the disk, and that no table names yet. `path` is relative to the lake."""

    path: str
    sha256: str
    bytes: int
    rows: int
    tenant: str
    day: int
    footer: pq.FileMetaData


class TableWriter:
    """Takes a table's rows in any order and leaves one or more files per tenant and day.

    Holds up to BUFFER_ROWS rows; when `whole`, all of them, for one file each.
    `files` lists what it has written so far.
    """

    def __init__(self, shape: TableShape, folder: Path, *, numbered: bool = False, whole: bool = False) -> None:
        self.shape = shape
        self.folder = folder
        self.files: list[WrittenFile] = []
        self._numbered, self._whole = numbered, whole
        self._waiting: dict[Partition, list[pa.Table]] = {}
        self._rows: dict[Partition, int] = {}
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows in the table's Arrow schema."""
        for partition, rows in partitioned(pa.Table.from_batches([batch])):
            self._waiting.setdefault(partition, []).append(rows)
            self._rows[partition] = self._rows.get(partition, 0) + rows.num_rows
            self._bytes += rows.nbytes
        while self._full():
            self._write(max(self._rows, key=lambda p: self._rows[p]))

    def finish(self) -> list[WrittenFile]:
        """Write what waits and return all files, in order of tenant and day."""
        for partition in sorted(self._waiting):
            self._write(partition)
        return self.files

    def _full(self) -> bool:
        if self._whole or not self._rows:
            return False
        return sum(self._rows.values()) >= BUFFER_ROWS or self._bytes >= BUFFER_BYTES

    def _write(self, partition: Partition) -> None:
        tables = self._waiting.pop(partition)
        del self._rows[partition]
        self._bytes -= min(self._bytes, sum(t.nbytes for t in tables))
        tenant, day = partition
        data = encode(self.shape, pa.concat_tables(tables))
        digest = hashlib.sha256(data).hexdigest()
        # Without a number, an id of chance: two mirrors may write the same rows, and the
        # one that loses deletes its file.
        file_id = f"{len(self.files):06}" if self._numbered else uuid.uuid4().hex[:16]
        path = layout.data_file(self.shape.name, tenant, day, file_id, digest)
        durable.write_new(self.folder / path, data)
        footer = pq.read_metadata(pa.BufferReader(data))
        self.files.append(WrittenFile(path, digest, data.size, footer.num_rows, tenant, day, footer))


def encode(shape: TableShape, rows: pa.Table) -> pa.Buffer:
    """Return the rows, sorted by the table's key, as the bytes of a Parquet file."""
    rows = rows.sort_by([(name, "ascending") for name in shape.key]).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        use_dictionary=[c.name for c in shape.columns if c.repeated],
        column_encoding={c.name: "DELTA_BINARY_PACKED" for c in shape.columns if c.kind in ("long", "int", "time")},
        write_statistics=[c.name for c in shape.columns if c.bounded],
    )
    return sink.getvalue()


def partitioned(rows: pa.Table) -> Iterator[tuple[Partition, pa.Table]]:
    """Split rows by tenant and day of `recorded_at`."""
    if rows.num_rows == 0:
        return
    midnight = pc.floor_temporal(rows["recorded_at"], unit="day").cast(pa.int64())
    keys = pa.table({"tenant": rows["tenant_id"], "day": pc.divide(midnight, DAY_MICROSECONDS)})
    order = pc.sort_indices(keys, [("tenant", "ascending"), ("day", "ascending")])
    keys, rows = keys.take(order).combine_chunks(), rows.take(order)
    tenant, day = keys["tenant"], keys["day"]
    changed = pc.or_(pc.not_equal(tenant[1:], tenant[:-1]), pc.not_equal(day[1:], day[:-1]))
    starts = [0, *(i + 1 for i in pc.indices_nonzero(changed).to_pylist()), rows.num_rows]
    for start, end in pairwise(starts):
        yield (tenant[start].as_py(), day[start].as_py()), rows.slice(start, end - start)
