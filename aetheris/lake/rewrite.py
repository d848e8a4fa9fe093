"""Rewrites of a table under the same watermark: fewer files, or rows without what must go.

A rewrite is one copy-on-write commit on the head that was read. It adds no row
and moves no watermark, so a mirror that commits meanwhile makes it `Overtaken`,
and one that began before it has to read the head again. Nothing is deleted
here: what no version names any more is `sweep.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile

from aetheris.domain.errors import Corrupt
from aetheris.lake import layout, tables
from aetheris.lake.catalog import Doubtful, Overtaken, relative
from aetheris.lake.index import LakeFile
from aetheris.lake.opened import check_bytes, read_files
from aetheris.lake.parquet import Partition, TableWriter, WrittenFile
from aetheris.lake.tables import Head, files_at

#: Files of an open day are merged once so many small ones lie there; of a closed day, once there are two.
FILES_OF_AN_OPEN_DAY = 16
#: A file of at least this size is left as it is while its day is open: it would be written again and again.
LARGE_BYTES = 1024 * 1024
#: What one merge takes at most, as it lies on the disk: its rows are in memory, several times over.
MERGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What one rewrite did: the new head, paths that are no longer part of it, paths that are."""

    head: Head
    gone: tuple[str, ...]
    added: tuple[str, ...]
    rows: int


def worth_merging(head: Head, folder: Path, today: int) -> list[list[str]]:
    """Return the groups of files that compaction would make one file of each; days count from 1970 in UTC.

    A group is of one tenant and day and holds at most MERGE_BYTES. Once each
    is merged, and nothing is added, there is no group left.
    """
    parts: dict[Partition, list[LakeFile]] = defaultdict(list)
    for file in files_at(head, folder, None, ()):
        partition = layout.partition_of(file.path)
        if partition is not None and (partition[1] < today or file.bytes < LARGE_BYTES):
            parts[partition].append(file)
    least = {partition: 2 if partition[1] < today else FILES_OF_AN_OPEN_DAY for partition in parts}
    return [group for p, files in parts.items() if len(files) >= least[p] for group in _groups(files)]


def _groups(files: Sequence[LakeFile]) -> Iterator[list[str]]:
    """Yield the files, smallest first, in groups of at least two that hold at most MERGE_BYTES."""
    group: list[str] = []
    size = 0
    for file in sorted(files, key=lambda f: f.bytes):
        if group and size + file.bytes > MERGE_BYTES:
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(file.path)
        size += file.bytes
    if len(group) > 1:
        yield group


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
    writer = TableWriter(head.shape, folder, whole=True)  # they are in memory already
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
