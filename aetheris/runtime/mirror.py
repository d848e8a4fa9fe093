"""The mirror: rows from the store to the lake, without a gap and exactly once.

A ROUND
 1. Read the index (`lake.json`), then the head of every lake table.
 2. Take one cut of the store: a REPEATABLE READ transaction, whose pg_snapshot
    is the new watermark.
 3. Table by table: read what this cut sees and the head's watermark did not,
    write it to files, sync them, commit them with the new watermark.
 4. Put the index over all tables in place, in one step.

WHY THIS ORDER HOLDS
  A commit is compare-and-set on the head that was read in 1. Killed anywhere,
  a mirror leaves tables at one watermark or the next, each right in itself,
  and the index at the last whole round; the next round reads from each table's
  own watermark. Two mirrors at once: one commits, the other is overtaken,
  drops its files and begins again at 1, so it reads the rows again under the
  watermark that it finds. The same after a commit whose answer was lost, but
  the files stay: they may belong to the table.
  Heads before cut: a catalog that is renewed in between fails our commit.

BY KEY
  Where xids don't count (the store is another than the watermark's: restored,
  recovered, moved; or rows came with foreign xids) a row is told by its key:
  what the lake has is not written again. What the lake has and the store lacks
  is reported, and kept: the lake is then the only place where it still stands.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from aetheris.domain.errors import Conflict, Refused
from aetheris.lake import Doubtful, Head, Index, Lake, Overtaken, Stale, Unreached, Watermark, layout, tables, watermark
from aetheris.lake.keys import KnownKeys
from aetheris.lake.memory import give_back
from aetheris.lake.parquet import TableWriter, WrittenFile
from aetheris.store.errors import Full, Unreachable
from aetheris.store.mirror_rows import Cut, MirrorSource

ROUND_ROWS = 50_000
ROUND_SECONDS = 60.0
LOOK_SECONDS = 1.0
#: After a round that could not be made.
AGAIN_SECONDS = 2.0
#: Each lost race means that another mirror got on; so many in a row mean something else.
TRIES = 25
EXAMPLES = 20
_LACKS = "aetheris.store-lacks"

log = logging.getLogger(__name__)
Passed = Callable[[str], None]


class CantWrite(Refused):
    """The lake's folder can't be written. The last round stands."""


#: What passes by itself or is mended elsewhere: a following mirror waits for that.
PASSING = (Unreachable, Unreached, Full, CantWrite, Conflict)


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


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did. `rows` by table; `number` is the index's round that holds them."""

    number: int
    rows: dict[str, int]
    seconds: float
    discrepancies: tuple[Discrepancy, ...]
    index: Index

    @property
    def total(self) -> int:
        """Rows that this round brought, over all tables."""
        return sum(self.rows.values())


async def mirror_once(source: MirrorSource, lake: Lake, *, passed: Passed | None = None) -> Round:
    """Bring the lake up to this moment's cut and return what was done.

    Afterwards the index holds every row committed before the call, once.
    `passed` is told the name of each point that is passed (tests stop there).
    Runs in a thread; a cancelled call ends when its round does.

    Errors: Unreachable, Refused (another store's lake), Corrupt, Conflict
    (overtaken TRIES times in a row).
    """
    return await asyncio.to_thread(_mirror_once, source, lake, passed or (lambda _: None))


async def follow(
    source: MirrorSource,
    lake: Lake,
    done: Callable[[Round], None],
    *,
    asked: asyncio.Event | None = None,
    stop: asyncio.Event,
    rows: int = ROUND_ROWS,
    seconds: float = ROUND_SECONDS,
) -> None:
    """Mirror until `stop` is set: at once, then at `rows` waiting rows, after `seconds`, or when `asked` is set.

    `asked` is cleared when its round begins. `done` gets each round. The last
    round runs after `stop`, so that what was committed before it is in the lake.
    While the database is away or a disk is full this says so once, and tries
    again; only for the last round that is an error. Errors: as `mirror_once`.
    """
    asked = asked or asyncio.Event()
    said = ""
    while not stop.is_set():
        asked.clear()
        try:
            latest = await mirror_once(source, lake)
            give_back()
            done(latest)
            said, due = "", time.monotonic() + seconds
            while not (stop.is_set() or asked.is_set()) and (left := due - time.monotonic()) > 0:
                await _first_set(min(LOOK_SECONDS, left), asked, stop)
                if await _waiting(source, latest, rows) >= rows:
                    break
        except PASSING as error:
            if str(error) != said:
                log.warning("%s", error)
            said = str(error)
            await _first_set(AGAIN_SECONDS, stop)
    done(await mirror_once(source, lake))


async def _waiting(source: MirrorSource, latest: Round, limit: int) -> int:
    since = latest.index.cut.snapshot if latest.index.cut else None
    return await asyncio.to_thread(source.waiting, since, limit)


def _mirror_once(source: MirrorSource, lake: Lake, passed: Passed) -> Round:
    start = time.monotonic()
    counted: dict[str, int] = {}
    told: list[Discrepancy] = []
    for attempt in range(TRIES):
        try:
            index = _round(source, lake, passed, counted, told)
            return Round(index.round, counted, time.monotonic() - start, tuple(told), index)
        except _PutBack as table:
            log.warning("lake table %s: the store counts from before its watermark; rows are told by key", table)
            source.renew()
        except OSError as error:
            raise CantWrite(
                f"lake {lake.folder}: can't write {error.filename or 'a file'} ({error.strerror or error}); "
                "the last round stands, mirror again when that is mended"
            ) from None
        except (Overtaken, Doubtful) as error:
            log.info("%s; reading its watermark again", error)
            # The jitter lets two mirrors in step fall out of it.
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
    raise Conflict(f"lake {lake.folder}: overtaken {TRIES} times in a row; are many mirrors running? Try again")


def _round(source: MirrorSource, lake: Lake, passed: Passed, counted: dict[str, int], told: list[Discrepancy]) -> Index:
    published = lake.published()
    try:
        heads = lake.heads(published)
    except Stale as stale:
        with source.cut() as cut:
            _require_own(lake, published.index, cut)
        log.warning("%s; it is rebuilt from round %d", stale, published.index.round if published.index else 0)
        source.renew()
        passed("renewed")
        lake.rebuild(stale.names, published)
        passed("rebuilt")
        heads = lake.heads(published)
    with source.cut() as cut:
        passed("cut")
        mark = _watermark(cut)
        _require_own(lake, published.index, cut)
        added: dict[str, Sequence[WrittenFile]] = {}
        for name, head in heads.items():
            batch = _Batch(lake, cut, head, mark)
            heads[name], added[name] = batch.commit(passed)
            counted[name] = counted.get(name, 0) + sum(file.rows for file in added[name])
            told += batch.discrepancies
        passed("committed")
        index = lake.publish(heads, added, mark, cut.identity.at)
    passed("published")
    return index


def _require_own(lake: Lake, index: Index | None, cut: Cut) -> None:
    if index and (index.cut is None or index.cut.store != cut.identity.store):
        raise Refused(f"{lake.folder} is the lake of another store; give this one a folder of its own")


class _PutBack(Exception):
    """The store has forgotten transactions that the lake's watermark names."""


class _Batch:
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
            raise _PutBack(name)
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


def _watermark(cut: Cut) -> Watermark:
    at = cut.identity
    return Watermark(at.snapshot, at.store, at.lake, at.system, at.timeline)


async def _first_set(seconds: float, *events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
