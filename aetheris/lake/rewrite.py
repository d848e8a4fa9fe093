"""Rewrites of a table under the same watermark: fewer files, or rows without what must go.

A rewrite is one copy-on-write commit on the head that was read. It adds no row
and moves no watermark, so a mirror that commits meanwhile makes it `Overtaken`,
and one that began before it has to read the head again. Nothing is deleted
here: what no version names any more is `sweep.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile

from aetheris.domain.errors import Corrupt
from aetheris.lake import layout, tables
from aetheris.lake.catalog import Doubtful, Overtaken, relative
from aetheris.lake.opened import check_bytes, read_files
from aetheris.lake.parquet import Partition, TableWriter, WrittenFile
from aetheris.lake.tables import Head, files_at

#: Files of an open day are merged once so many small ones lie there; of a closed day, once there are two.
FILES_OF_AN_OPEN_DAY = 16
#: A file of at least this size is left as it is while its day is open: it would be written again and again.
LARGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What one rewrite did: the new head, paths that are no longer part of it, paths that are."""

    head: Head
    gone: tuple[str, ...]
    added: tuple[str, ...]
    rows: int


def worth_merging(head: Head, folder: Path, today: int) -> dict[Partition, list[str]]:
    """Return the files of each partition that compaction would make one of; days count from 1970 in UTC."""
    parts: dict[Partition, list[str]] = defaultdict(list)
    for file in files_at(head, folder, None, ()):
        partition = layout.partition_of(file.path)
        if partition is not None and (partition[1] < today or file.bytes < LARGE_BYTES):
            parts[partition].append(file.path)
    return {p: paths for p, paths in parts.items() if len(paths) >= (2 if p[1] < today else FILES_OF_AN_OPEN_DAY)}


def rewrite(
    head: Head, folder: Path, paths: Sequence[str], change: Callable[[pa.Table], pa.Table] | None = None
) -> Rewritten:
    """Write the rows of these files anew, sorted by key, after `change`; commit, and return what was done.

    Without `change` every row is kept, and the count is held to that.
    Errors: Overtaken (try again on a new head; nothing was committed), Doubtful,
    Corrupt (a file's bytes are not what they were: it is left as it is).
    """
    known = {f.path: f for f in files_at(head, folder, None, ())}
    if not known.keys() >= set(paths):
        raise Overtaken(f"lake table {head.shape.name}: its files are others by now")
    old = [known[path] for path in paths]
    for file in old:
        check_bytes(folder, file)
    rows = read_files(folder, head.shape, old)
    kept = rows if change is None else change(rows)
    if change is None and kept.num_rows != sum(file.rows for file in old):
        raise Corrupt(
            f"lake table {head.shape.name}: {kept.num_rows} rows where the index counts others", where=paths[0]
        )
    writer = TableWriter(head.shape, folder)
    try:
        for batch in kept.to_batches(max_chunksize=100_000):
            writer.add(batch)
        written = writer.finish()
        made = _commit(head, folder, set(paths), written)
    except BaseException as error:
        if not isinstance(error, Doubtful):  # then they may belong to the table
            for made_file in writer.files:
                (folder / made_file.path).unlink(missing_ok=True)
        raise
    return Rewritten(made, tuple(paths), tuple(f.path for f in written), kept.num_rows)


def _commit(head: Head, folder: Path, gone: set[str], written: Sequence[WrittenFile]) -> Head:
    live = live_files(head)
    old = [file for file in live if relative(folder, file.file_path) in gone]
    if len(old) != len(gone):
        raise Overtaken(f"lake table {head.shape.name}: its files are others by now")
    new = [tables.data_file(head, folder, file) for file in written]
    return tables.replace(head, old, new)


def live_files(head: Head) -> list[DataFile]:
    """Return Iceberg's entries of the files that the head holds."""
    snapshot = head.table.current_snapshot()
    manifests = snapshot.manifests(head.table.io) if snapshot else []
    return [e.data_file for m in manifests for e in m.fetch_manifest_entry(head.table.io, discard_deleted=True)]
