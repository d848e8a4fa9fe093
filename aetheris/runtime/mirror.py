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

Where xids don't count, a table's rows go by key (mirror_batch.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aetheris.domain.errors import Conflict, Refused
from aetheris.lake import Doubtful, Index, Lake, Overtaken, Stale, Unreached, Watermark
from aetheris.lake.memory import give_back
from aetheris.lake.parquet import WrittenFile
from aetheris.runtime.mirror_batch import Batch, Discrepancy, Passed, PutBack
from aetheris.store.errors import Full, Unreachable
from aetheris.store.mirror_rows import Cut, MirrorSource

ROUND_ROWS = 50_000
ROUND_SECONDS = 60.0
LOOK_SECONDS = 1.0
#: After a round that could not be made.
AGAIN_SECONDS = 2.0
#: Each lost race means that another mirror got on; so many in a row mean something else.
TRIES = 25

log = logging.getLogger(__name__)


class CantWrite(Refused):
    """The lake's folder can't be written. The last round stands."""


#: What passes by itself or is mended elsewhere: a following mirror waits for that.
PASSING = (Unreachable, Unreached, Full, CantWrite, Conflict)


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
        except PutBack as table:
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
            batch = Batch(lake, cut, head, mark)
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
