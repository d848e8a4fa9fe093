"""A lake written straight from rows: no store, no catalog, no clock. For fixtures and for imports.

The same rows give the same bytes (with the same pyarrow): files are numbered
and named by digest, and what time or chance would decide is given or left
out. Such a lake has no Iceberg metadata, because Iceberg's holds absolute
paths and random ids; its readers are those that go by `lake.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from aetheris.domain.errors import Refused
from aetheris.lake import layout
from aetheris.lake.index import Index, LakeFile, TableEntry
from aetheris.lake.parquet import TableWriter
from aetheris.lake.schema import TABLES, TableShape


def write_lake(folder: Path, tables: Mapping[str, pa.Table], *, at: int = 0, round: int = 1) -> Index:
    """Write a whole lake into an empty or new folder and return its index.

    Each table holds at least the columns that come from the store; those
    derived from the line are made here. A table that isn't given is empty.
    `at` is the time that the index shows, microseconds since 1970 in UTC.

    Errors: Refused when there is a lake already, for a table or column that
    isn't one of the lake's, or a value that doesn't fit.
    """
    if (folder / layout.INDEX).exists():
        raise Refused(f"{folder}: there is a lake already; give a new folder")
    if odd := sorted(tables.keys() - TABLES.keys()):
        raise Refused(f"{odd[0]!r} is not a table of the lake ({', '.join(TABLES)})")
    entries = {name: _write_table(folder, shape, tables.get(name)) for name, shape in TABLES.items()}
    written = Index(round, at, None, entries)
    written.write(folder)
    return written


def _write_table(folder: Path, shape: TableShape, rows: pa.Table | None) -> TableEntry:
    writer = TableWriter(shape, folder, numbered=True)
    if rows is not None and rows.num_rows:
        for batch in rows.to_batches():
            writer.add(_shaped(shape, batch))
    return TableEntry(tuple(LakeFile(f.path, f.sha256, f.bytes, f.rows) for f in writer.finish()))


def _shaped(shape: TableShape, batch: pa.RecordBatch) -> pa.RecordBatch:
    missing = [name for name in shape.source if name not in batch.schema.names]
    if missing or (odd := sorted(set(batch.schema.names) - set(shape.arrow.names))):
        raise Refused(
            f"table {shape.name}: column {(missing or odd)[0]!r} is {'missing' if missing else 'not its own'}"
        )
    times = {c.name for c in shape.columns if c.kind == "time"}
    columns = [
        batch[name].cast(shape.arrow.field(name).type).cast(pa.int64()) if name in times else batch[name]
        for name in shape.source
    ]
    try:
        return shape.batch([column.to_pylist() for column in columns])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise Refused(f"table {shape.name}: {' '.join(str(error).split())[:200]}") from None
