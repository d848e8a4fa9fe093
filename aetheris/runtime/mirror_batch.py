"""One table's part of a round of the mirror: what the cut sees and the table's watermark did not, in one commit.

BY KEY
  Where xids don't count (the store is another than the watermark's: restored,
  recovered, moved; or rows came with foreign xids) a row is told by its key:
  what the lake has is not written again. What the lake has and the store lacks
  is reported, and kept: the lake is then the only place where it still stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from aetheris.lake import Head, Lake, Overtaken, Watermark, layout, tables, watermark
from aetheris.lake.keys import KnownKeys
from aetheris.lake.parquet import TableWriter, WrittenFile
from aetheris.store.mirror_rows import Cut

EXAMPLES = 20
_LACKS = "aetheris.store-lacks"

Passed = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What lake and store don't agree on after a restore; nothing was changed on either side.

    `kind` is "lacking" (the lake has these rows, the store lacks them) or
    "differs" (both have the key, with another leaf). `first` shows some keys.
    """

    table: str
    kind: str
    count: int
    first: tuple[str, ...]


class PutBack(Exception):
    """The store has forgotten transactions that the lake's watermark names."""


class Batch:
    """One table's part of a round."""

    def __init__(self, lake: Lake, cut: Cut, head: Head, mark: Watermark) -> None:
        self.lake, self.cut, self.head, self.mark = lake, cut, head, mark
        self.discrepancies: list[Discrepancy] = []
        self.known = head.watermark
        self.moved = self.known is not None and not self.known.same_store(mark)
        #: Rows whose xid this cut can't have seen committed: they will turn up again.
        self.foreign = False

    def commit(self, passed: Passed) -> tuple[Head, Sequence[WrittenFile]]:
        """Bring the table to the cut; return its new head and the files that were added.

        A table without new rows stands at the cut already and gets no commit.
        """
        name, known = self.head.shape.name, self.known
        if known and not self.moved and not self.mark.covers(known):
            # The head was read before the cut, so no other mirror explains it.
            raise PutBack(name)
        files = self._write()
        passed(f"written {name}")
        if not files and not self.moved and self.foreign == bool(known and known.foreign):
            return self.head, ()
        described = [tables.data_file(self.head, self.lake.folder, file) for file in files]
        notes = {_LACKS: str(sum(d.count for d in self.discrepancies))} if self.moved else {}
        try:
            head = tables.append(self.head, described, self.mark.with_foreign(self.foreign), notes)
        except Overtaken:
            _discard(self.lake, files)
            raise
        passed(f"committed {name}")
        return head, files

    def _write(self) -> list[WrittenFile]:
        writer = TableWriter(self.head.shape, self.lake.folder)
        try:
            for batch in self._by_key() if self.moved or (self.known and self.known.foreign) else self._by_xid():
                writer.add(batch)
            return writer.finish()
        except BaseException:
            _discard(self.lake, writer.files)
            raise

    def _by_xid(self) -> Iterator[pa.RecordBatch]:
        yield from self._rows(self.known.snapshot if self.known else None, None)

    def _by_key(self) -> Iterator[pa.RecordBatch]:
        shape, since = self.head.shape, None if self.moved or not self.known else self.known.snapshot
        files = tables.files_at(self.head, self.lake.folder, None, ())
        missing: dict[str, list[tuple[object, ...]]] = {"lacking": [], "differs": []}
        for tenant in sorted({*self.cut.tenants(), *filter(None, (layout.tenant_of(f.path) for f in files))}):
            keys = KnownKeys(self.lake.folder, shape, files, tenant)
            for batch in self._rows(since, tenant):
                yield keys.new(batch)
            if self.moved:
                missing["lacking"] += keys.lacking(self.cut.collected(tenant))
            missing["differs"] += keys.differing
        for kind, found in missing.items():
            if found:
                first = tuple(" ".join(map(str, key)) for key in found[:EXAMPLES])
                self.discrepancies.append(Discrepancy(shape.name, kind, len(found), first))

    def _rows(self, since: str | None, tenant: str | None) -> Iterator[pa.RecordBatch]:
        shape = self.head.shape
        _, top, under_way = watermark.parse(self.mark.snapshot)
        running = pa.array(sorted(under_way), pa.int64())
        for columns in self.cut.rows(shape.name, shape.source, since=since, tenant=tenant):
            batch = shape.batch(columns)
            above = pc.max(batch["xid"]).as_py() >= top
            self.foreign = self.foreign or above or pc.any(pc.is_in(batch["xid"], running)).as_py()
            yield batch


def _discard(lake: Lake, files: Sequence[WrittenFile]) -> None:
    # Only where it is certain that no table names them.
    for file in files:
        (lake.folder / file.path).unlink(missing_ok=True)
