"""Old versions let go, and files that nothing names deleted. pyiceberg deletes none itself.

What `lake.json` names stays, and whatever the tables' current metadata can
still reach. A file that neither names is an orphan: replaced by a rewrite, of
an expired version, or left by a mirror that died. Orphans younger than
`GRACE_SECONDS` stay: a mirror may be about to commit them, a reader may still
hold the index of before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.table import StaticTable
from pyiceberg.table.snapshots import Snapshot

from aetheris.lake.catalog import NAMESPACE, LakeCatalog, location, reached, relative
from aetheris.lake.schema import TABLES
from aetheris.lake.tables import Head

GRACE_SECONDS = 3600.0
#: Versions that stay, besides the one that `lake.json` names: readers by other tools may be at one.
KEPT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What was let go: versions of tables, files, and their bytes."""

    versions: int
    files: int
    bytes: int


def expire(heads: Mapping[str, Head], catalog: LakeCatalog, *, older_than_seconds: float = KEPT_SECONDS) -> int:
    """Let go of old versions, and return how many.

    The current version and the one that `lake.json` names always stay.
    """
    published = catalog.remembered.read()
    before_ms = int((time.time() - older_than_seconds) * 1000)
    count = 0
    for name, head in heads.items():
        named = published.tables[name].snapshot if published else None
        kept = {head.snapshot, named}
        old = [
            s.snapshot_id
            for s in head.table.metadata.snapshots
            if s.snapshot_id not in kept and s.timestamp_ms <= before_ms
        ]
        if old:
            with reached(), suppress(CommitFailedException):  # a mirror committed meanwhile: they go another time
                head.table.maintenance.expire_snapshots().by_ids(old).commit()
                count += len(old)
    return count


def orphans(folder: Path, catalog: LakeCatalog) -> Iterator[Path]:
    """Yield the data and metadata files that neither `lake.json` nor a table's metadata names."""
    there = [path for name in TABLES for path in (folder / name).rglob("*") if path.is_file()]
    named = _named(folder, catalog)
    yield from (path for path in there if path.relative_to(folder).as_posix() not in named)


def sweep(folder: Path, catalog: LakeCatalog, *, grace_seconds: float = GRACE_SECONDS) -> Swept:
    """Delete orphans older than the grace, and return what was deleted."""
    before = time.time() - grace_seconds
    files = size = 0
    for path in list(orphans(folder, catalog)):
        try:
            found = path.stat()
            if found.st_mtime <= before:
                path.unlink()
                files, size = files + 1, size + found.st_size
        except FileNotFoundError:
            continue  # another sweep was faster
    return Swept(0, files, size)


def _named(folder: Path, catalog: LakeCatalog) -> set[str]:
    # The index is read before the tables: what a round publishes meanwhile, their newer metadata names too.
    published = catalog.remembered.read()
    named: set[str] = set()
    for entry in published.tables.values() if published else ():
        named |= {file.path for file in entry.files}
        if entry.metadata:
            table = StaticTable.from_metadata(location(folder, entry.metadata))
            # Of its versions only the one that readers use: older ones in that file are let go already.
            own = [s for s in table.metadata.snapshots if s.snapshot_id == entry.snapshot]
            named |= {entry.metadata} | _reachable(folder, own, table.io)
    for name in TABLES:
        with reached():
            if not catalog.table_exists((NAMESPACE, name)):
                continue
            current = catalog.load_table((NAMESPACE, name))
        place = relative(folder, current.metadata_location)
        named |= {place} if place else set()
        logged = (relative(folder, log.metadata_file) for log in current.metadata.metadata_log)
        named |= {path for path in logged if path}
        named |= _reachable(folder, current.metadata.snapshots, current.io)
    return named


def _reachable(folder: Path, snapshots: Sequence[Snapshot], io: FileIO) -> set[str]:
    places: list[str] = []
    seen: set[str] = set()
    for snapshot in snapshots:
        places.append(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            places.append(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(io, discard_deleted=True)
            places += [entry.data_file.file_path for entry in entries]
    return {path for place in places if (path := relative(folder, place)) is not None}
