"""The lake kept in order while the mirror goes on: small files merged, old versions let go, erased cells rewritten.

Every change to a table is one commit on the head that was read; a mirror that
commits at the same moment makes it start again, and readers see it with the
next round, which is run at the end. Nothing is lost by stopping anywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aetheris.domain.errors import Conflict, Corrupt
from aetheris.lake import Doubtful, Index, Lake, Overtaken, erase, sweep
from aetheris.lake.rewrite import rewrite, worth_merging
from aetheris.lake.sweep import GRACE_SECONDS, Swept
from aetheris.runtime.mirror import mirror_once
from aetheris.store import erasing
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

TRIES = 25
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was merged: how often, files before and after; what was let go; merges left for a later time."""

    merges: int
    files_before: int
    files_after: int
    rows: int
    later: int
    versions: int
    swept: Swept
    seconds: float


async def compact(
    source: MirrorSource,
    lake: Lake,
    *,
    grace_seconds: float = GRACE_SECONDS,
    now: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Compacted:
    """Merge the small files of each tenant and day, let old versions go, delete what nothing names.

    Files that were replaced stay for `grace_seconds`, for readers that hold the
    index of before. Once `stop` says so, no further merge is begun and
    nothing is let go: another time. Errors: Corrupt (a file is not what it was: it is left,
    and all the others are merged), Unreachable, Conflict.
    """
    began = time.monotonic()
    today = int((time.time() if now is None else now) // DAY_SECONDS)
    if lake.published().index is None:
        await mirror_once(source, lake)
    merged = await asyncio.to_thread(_merge, lake, today, grace_seconds, stop)
    if merged.merges:
        await mirror_once(source, lake)
    versions, swept = (0, Swept(0, 0, 0)) if stop() else await asyncio.to_thread(_let_go, lake, grace_seconds)
    if merged.damaged is not None:
        raise merged.damaged
    return Compacted(
        merged.merges, merged.before, merged.after, merged.rows, merged.later, merged.versions + versions, swept,
        time.monotonic() - began,
    )  # fmt: skip


@dataclass(slots=True)
class _Merged:
    merges: int = 0
    before: int = 0
    after: int = 0
    rows: int = 0
    later: int = 0
    versions: int = 0
    #: The first file that was not what it was; whoever would stop here would never come to what lies behind it.
    damaged: Corrupt | None = None


def _merge(lake: Lake, today: int, grace_seconds: float, stop: Callable[[], bool]) -> _Merged:
    done = _Merged()
    heads = lake.heads(lake.published())  # none is stale, or nothing is begun
    if stop():
        return done
    # Versions go first: each commit copies them all, and passes that are cut short would leave ever more.
    done.versions = sweep.expire(heads, lake.catalog, older_than_seconds=grace_seconds)
    # Most files first, whatever their table: so such passes get to all of them in time.
    waiting = [(name, p) for name, head in heads.items() for p in worth_merging(head, lake.folder, today)]
    waiting.sort(key=lambda each: len(each[1]), reverse=True)
    for name, paths in waiting:
        if stop():
            return done
        try:
            made = rewrite(lake.head(name), lake.folder, paths)  # as it is now: the mirror went on meanwhile
        except (Overtaken, Doubtful):
            # The mirror goes first; what is left is merged the next time.
            done.later += 1
            continue
        except Corrupt as error:
            done.damaged = done.damaged or error
            continue
        done.merges += 1
        done.before += len(paths)
        done.after += len(made.added)
        done.rows += made.rows
    return done


def _let_go(lake: Lake, grace_seconds: float) -> tuple[int, Swept]:
    versions = sweep.expire(lake.heads(lake.published()), lake.catalog, older_than_seconds=grace_seconds)
    return versions, sweep.sweep(lake.folder, lake.catalog, grace_seconds=grace_seconds)


@dataclass(frozen=True, slots=True)
class LakeErased:
    """What an erasure did in the lake."""

    jobs: int
    cells: int
    files: int
    seconds: float


async def erase_in_lake(database: Database, source: MirrorSource, lake: Lake) -> LakeErased:
    """Take every cell that is erased in the store out of the lake, to the last file, and note it.

    The first round makes every row known to the lake as it is now, erased; from
    then on no mirror that began before can commit, so nothing brings a body
    back. Errors: Conflict (something is still there after many tries; it stays
    on the list), Corrupt (a file that can't be read), Unreachable.
    """
    began = time.monotonic()
    async with await database.connect("keeper") as connection:
        wanted = await erasing.waiting_in_lake(connection)
        if not wanted:
            return LakeErased(0, 0, 0, 0.0)
        await mirror_once(source, lake)
        files = await asyncio.to_thread(_erase, lake, wanted)
        await mirror_once(source, lake)
        deleted = await asyncio.to_thread(_delete, lake, wanted)
        await erasing.gone_from_lake(connection, wanted)
    cells = sum(len(names) for names in wanted.values())
    return LakeErased(len(wanted), cells, files + deleted, time.monotonic() - began)


def _erase(lake: Lake, wanted: erase.Wanted) -> int:
    files = 0
    for name in erase.HOLDERS:
        for attempt in range(TRIES):
            try:
                made = erase.erase_from(lake.head(name), lake.folder, wanted)
            except (Overtaken, Doubtful):
                time.sleep(0.02 * (attempt + 1))
                continue
            files += len(made.added) if made else 0
            if made is None:
                break
        else:
            raise Conflict(f"lake table {name}: overtaken {TRIES} times in a row; the erasure stays on the list")
    return files


def _delete(lake: Lake, wanted: erase.Wanted) -> int:
    """Let every older version go, delete each file that still holds a cell, and look again."""
    sweep.expire(lake.heads(lake.published()), lake.catalog, older_than_seconds=0)
    named = {lake.folder / file.path for t in _index(lake).tables.values() for file in t.files}
    deleted = 0
    for name in erase.HOLDERS:
        for path in erase.holding(lake.folder, name, wanted):
            if path in named:
                raise Conflict(f"{path}: came back while it was erased; the erasure stays on the list, try again")
            path.unlink(missing_ok=True)
            deleted += 1
        if left := erase.holding(lake.folder, name, wanted):
            raise Conflict(f"{left[0]}: still holds an erased cell; the erasure stays on the list, try again")
    return deleted


def _index(lake: Lake) -> Index:
    found = lake.published().index
    assert found is not None  # a round was just run
    return found
