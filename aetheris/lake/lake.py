"""The lake of one store: its folder and its catalog, held to each other.

The catalog lives in the store's PostgreSQL, the index in the folder, and
either can be put back to an earlier time without the other: a database is
restored, a folder is moved or thrown away. `heads` finds out before anything
is committed:

    the table's head grew from what the index lists    go on
    it did not (a restored database, a moved lake)     `Stale`: rebuild from the index
    there is no index and the metadata is gone         the lake was thrown away: begin anew

A rebuild makes the Iceberg table anew over the very files that the index
lists, so no data is written or lost. The index's cut becomes its watermark,
under a catalog id that is no longer the store's: the next round goes by key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aetheris.domain.errors import AetherisError, Refused
from aetheris.lake import durable, layout, tables
from aetheris.lake.catalog import LakeCatalog, Overtaken, relative
from aetheris.lake.index import Index
from aetheris.lake.opened import check_present
from aetheris.lake.parquet import WrittenFile
from aetheris.lake.schema import TABLES, TableShape
from aetheris.lake.tables import Head
from aetheris.lake.watermark import Watermark


class Stale(AetherisError):
    """The catalog does not know what the index lists: these tables must be rebuilt before anything is committed."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"the catalog is older than the lake: {', '.join(names)}")
        self.names = tuple(names)


@dataclass(frozen=True, slots=True)
class Published:
    """The index as it stood, and the SHA-256 of its bytes."""

    index: Index | None
    sha256: str


class Lake:
    """The lake in `folder`, with its catalog at `uri` (SQLAlchemy's spelling)."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder.absolute()
        self.catalog = LakeCatalog(self.folder, uri)
        self._published: Published | None = None

    def close(self) -> None:
        """Let go of the catalog."""
        self.catalog.close()

    def published(self) -> Published:
        """Return the index as it stands. Errors: Unusable."""
        found, last = self.catalog.remembered.read(), self._published
        if last is None or last.index is not found:
            last = Published(found, "" if found is None else hashlib.sha256(found.encode()).hexdigest())
            self._published = last
        return last

    def head(self, name: str) -> Head:
        """Return one table's head over the index as it stands. Errors: as `heads`."""
        return self._heads(self.published(), {name: TABLES[name]})[name]

    def heads(self, published: Published) -> dict[str, Head]:
        """Return every table's head, making those that are new.

        Read the index first, the heads next, and take the store's cut last:
        then whatever another mirror does in between makes a commit of ours
        fail, and never lets it pass on stale knowledge.

        Errors: Stale, Refused (this store's lake is elsewhere), Overtaken.
        """
        return self._heads(published, TABLES)

    def _heads(self, published: Published, shapes: Mapping[str, TableShape]) -> dict[str, Head]:
        found: dict[str, Head] = {}
        stale: list[str] = []
        for name, shape in shapes.items():
            head, gone = self._load(shape)
            if published.index is None:
                found[name] = head or tables.make(self.catalog, shape, instead=gone)
            elif head is not None and head.grew_from(published.index.tables[name], published.sha256):
                found[name] = head
            else:
                stale.append(name)
        if stale:
            raise Stale(stale)
        return found

    def rebuild(self, names: Sequence[str], published: Published) -> None:
        """Make these tables anew in the catalog, over the files that the index lists.

        Errors: Corrupt (a listed file can't be read), Overtaken, Doubtful.
        """
        assert published.index is not None
        assert published.index.cut is not None
        for name in names:
            entry = published.index.tables[name]
            for file in entry.files:
                check_present(self.folder, file)
            head = tables.make(self.catalog, TABLES[name], instead=True)
            files = [tables.adopted_file(head, self.folder, file) for file in entry.files]
            # The mark stands in the commit, not on the table: killed before it, the table is still stale.
            tables.append(head, files, published.index.cut, {tables.REBUILT_FROM: published.sha256})

    def publish(
        self, heads: Mapping[str, Head], added: Mapping[str, Sequence[WrittenFile]], cut: Watermark, at: int
    ) -> Index:
        """Put the index over these heads in place, and return it; the last act of a round.

        The index only ever moves forward: another mirror's newer one stays,
        and with the same versions nothing is written.

        Errors: Overtaken (another mirror published what these heads don't
        hold), Corrupt (a file is missing).
        """
        with durable.locked(self.folder / layout.LOCK):
            published = self.published()
            before = published.index
            known = before.tables if before else {}
            for name, entry in known.items():
                if not heads[name].grew_from(entry, published.sha256):
                    raise Overtaken(f"lake table {name}: another mirror published a newer version")
            entries = {
                name: tables.entry_of(
                    head, self.folder, tables.files_at(head, self.folder, known.get(name), added.get(name, ()))
                )
                for name, head in heads.items()
            }
            if before and all((known[n].uuid, known[n].snapshot) == (e.uuid, e.snapshot) for n, e in entries.items()):
                return before
            written = Index(before.round + 1 if before else 1, at, cut, entries)
            self._require_files(written)
            written.write(self.folder)
            return written

    def _load(self, shape: TableShape) -> tuple[Head | None, bool]:
        """Return the table's head in this folder, and whether the catalog names one that is not there (any more)."""
        try:
            head = tables.load(self.catalog, shape)
        except FileNotFoundError:
            return None, True
        if head is None or relative(self.folder, head.table.location()) == shape.name:
            return head, False
        self._refuse_second(head)
        return None, True

    def _refuse_second(self, head: Head) -> None:
        # One store feeds one lake: two would each miss what the other's watermark covers.
        elsewhere = Path(head.table.location().removeprefix("file://")).parent
        if (elsewhere / layout.INDEX).exists():
            raise Refused(
                f"this store's lake is in {elsewhere}, not in {self.folder}; mirror there, or move that one here first"
            )

    def _require_files(self, written: Index) -> None:
        for name, entry in written.tables.items():
            for file in entry.files:
                check_present(self.folder, file)
            if entry.metadata and not (self.folder / entry.metadata).exists():
                raise Overtaken(f"lake table {name}: its metadata file was replaced meanwhile")
