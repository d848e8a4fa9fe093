"""Compaction: fewer files, the same rows, whoever mirrors meanwhile and wherever it is stopped."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.expressions.visitors import _ManifestEvalVisitor, visit
from pyiceberg.manifest import ManifestFile

from aetheris.domain.errors import Corrupt, Unusable
from aetheris.lake import TABLES, index, open_lake, parquet, rewrite, tables
from aetheris.lake.catalog import LakeCatalog
from aetheris.lake.sweep import expire, orphans
from aetheris.lake.tables import load
from aetheris.runtime import archive
from aetheris.runtime.archive import compact
from aetheris.runtime.housekeeping import Duty, keep
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from tests.store.mirror_support import World

#: So far ahead that every day is closed.
LATER = 4e9


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    """A store of its own and a lake beside it."""
    made = World(database, tmp_path / "lake")
    yield made
    made.close()


def files(world: World, table: str = "events") -> list[str]:
    """The files that readers use."""
    return [file.path for file in open_lake(world.folder).tables[table].files]


def many_rounds(world: World, rounds: int = 6) -> None:
    """Leave one small file a round."""
    for n in range(rounds):
        world.write(f"job-{n % 2}", 3)
        world.write(f"job-{n % 3}", 2, tenant="acme")
        world.mirror()


def test_a_day_becomes_one_file_and_every_row_is_there(world: World) -> None:
    """Count and chain before are count and chain after."""
    many_rounds(world)
    before, rows = files(world), world.mirrored()
    done = asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert (len(before), len(files(world))) == (12, 2)
    assert (done.merges, done.files_before, done.files_after) == (6, 36, 6)
    assert world.mirrored() == rows
    world.assert_equal()


def test_versions_are_let_go_another_time_when_a_mirror_commits_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror goes first, here too: it ended with `a bug in Aetheris: CommitFailedException`."""
    many_rounds(world, 3)
    lake = world.lake()
    write, raced = LakeCatalog._write_metadata, []

    def while_another_mirrors(*given: Any, **named: Any) -> None:
        write(*given, **named)
        if not raced:
            raced.append(1)
            world.write("job-0", 3)
            world.mirror()

    with monkeypatch.context() as patch:
        patch.setattr(LakeCatalog, "_write_metadata", staticmethod(while_another_mirrors))
        first = expire(lake.heads(lake.published()), lake.catalog, older_than_seconds=0)
    assert raced
    assert 0 < first < first + expire(lake.heads(lake.published()), lake.catalog, older_than_seconds=0)
    world.assert_equal()


@pytest.mark.parametrize("error", [Unusable("away"), OSError(errno.ENOSPC, "No space left on device", "x.parquet")])
def test_a_duty_that_fails_is_said_and_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is the lake's everyday accident: it must end neither the mirror nor another duty."""
    tried: list[int] = []

    async def work() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise error
        stop.set()
        return "done"

    async def main() -> None:
        await keep([Duty("compacted", 0.01, work)], lambda *_: None, stop)

    stop = asyncio.Event()
    asyncio.run(main())
    assert len(tried) == 2
    assert [r.getMessage() for r in caplog.records] == [f"compacted: {error}"]


def test_a_compaction_that_is_told_to_stop_stops_between_two_partitions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that is to end has 90 s; with a busy machine and many tenants a whole compaction took minutes."""
    many_rounds(world)
    rows = world.mirrored()
    asked = iter([False, False, False, True])  # before anything, and before each partition
    done = asyncio.run(compact(world.source, world.lake(), now=LATER, stop=lambda: next(asked, True)))
    assert (done.merges, done.versions, done.swept.files) == (2, 0, 0)
    assert world.mirrored() == rows
    again = asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert again.merges == 4
    assert world.mirrored() == rows
    read: list[str] = []
    monkeypatch.setattr(tables, "load", lambda catalog, shape: read.append(shape.name) or load(catalog, shape))
    again = asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert again.merges == 0
    # Once to look for what is worth it, once to let go; not all of them for each.
    assert set(Counter(read).values()) == {2}
    world.write("job-0", 1)
    assert world.mirror().rows["events"] == 1
    world.assert_equal()


def test_a_compaction_that_is_always_cut_short_begins_where_most_files_are(world: World) -> None:
    """An hour's soak cut each pass short: the tables at its end came to 900 files and were never merged."""
    many_rounds(world, 3)
    for _ in range(4):
        world.write("job-z", 1, tenant="zeta")
        world.mirror()
    asked = iter([False, False, True, True])
    done = asyncio.run(compact(world.source, world.lake(), now=LATER, stop=lambda: next(asked)))
    assert (done.merges, done.files_before) == (1, 4)  # zeta's, whose name is last
    assert sum("zeta" in path for path in files(world)) == 1
    world.assert_equal()


def test_an_index_is_spelled_out_once_for_each_that_was_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names every file of the lake, and each commit looks at it: a third of a mirror's time at 1,700 files."""
    many_rounds(world)
    spelled: list[bytes] = []
    decode = index.decode
    monkeypatch.setattr(index, "decode", lambda data, folder: spelled.append(data) or decode(data, folder))
    lake = world.lake()
    assert asyncio.run(compact(world.source, lake, now=LATER)).merges == 6
    assert len(spelled) == len(set(spelled))
    assert lake.published() is lake.published()
    world.write("job-0", 1)
    world.mirror()  # another mirror's: seen at once
    assert lake.published().index == open_lake(world.folder).index
    world.assert_equal()


def test_old_versions_go_also_where_no_merge_comes_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full again and again would leave a version for each round, and every commit copies them all."""
    many_rounds(world)

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive, "rewrite", full)
    lake = world.lake()
    assert len(lake.head("events").table.metadata.snapshots) == 6
    with pytest.raises(OSError, match="No space"):
        asyncio.run(compact(world.source, lake, now=LATER, grace_seconds=0))
    assert len(lake.head("events").table.metadata.snapshots) == 1
    world.assert_equal()


def test_an_open_day_waits_until_it_is_worth_it(world: World) -> None:
    """Merging two files at a time would write every row again and again."""
    many_rounds(world, 3)
    assert asyncio.run(compact(world.source, world.lake())).merges == 0


def test_a_merge_takes_a_part_of_a_large_day_and_comes_to_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a merge holds in memory has a bound; a day that is larger is left as several files, not merged for ever."""
    many_rounds(world)
    before = {path: (world.folder / path).stat().st_size for path in files(world)}
    most = 3 * max(before.values())
    monkeypatch.setattr(rewrite, "MERGE_BYTES", most)
    monkeypatch.setattr(parquet, "BUFFER_BYTES", 1)  # a row is more than the mirror would hold: not a file each
    taken = []
    merge = rewrite.rewrite
    monkeypatch.setattr(
        archive, "rewrite", lambda head, folder, paths: taken.append(paths) or merge(head, folder, paths)
    )
    rows = world.mirrored()
    left = [len(before)]
    while asyncio.run(compact(world.source, world.lake(), now=LATER)).merges:
        left.append(len(files(world)))
        assert len(left) < 6, left
    assert 2 < left[1] < left[0] == 12
    assert all(len(paths) > 1 for paths in taken)
    assert max(sum(before[p] for p in paths) for paths in taken if before.keys() >= set(paths)) <= most
    assert world.mirrored() == rows
    world.assert_equal()


def test_an_open_day_keeps_what_has_grown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some size is not written again with every sixteen small ones that come."""
    many_rounds(world)
    monkeypatch.setattr(rewrite, "FILES_OF_AN_OPEN_DAY", 3)
    assert asyncio.run(compact(world.source, world.lake())).merges == 6
    grown = set(files(world))
    monkeypatch.setattr(rewrite, "LARGE_BYTES", min((world.folder / path).stat().st_size for path in grown))
    many_rounds(world)
    asyncio.run(compact(world.source, world.lake()))
    assert grown < set(files(world))
    world.assert_equal()


def test_a_reader_of_before_goes_on_until_the_grace_is_over(world: World) -> None:
    """What was replaced is deleted later, and then nothing is left but what the index names."""
    many_rounds(world, 3)
    old = open_lake(world.folder)
    asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert old.tables["events"].read().num_rows == open_lake(world.folder).tables["events"].rows
    done = asyncio.run(compact(world.source, world.lake(), now=LATER, grace_seconds=0))
    assert done.swept.files > 0
    lake = world.lake()
    assert list(orphans(world.folder, lake.catalog)) == []
    listed = {world.folder / file.path for file in open_lake(world.folder).files}
    assert {p for t in TABLES for p in (world.folder / t).rglob("*.parquet")} == listed
    heads = lake.heads(lake.published())
    assert all(len(head.table.metadata.snapshots) <= 1 for head in heads.values())
    world.assert_equal()
    world.write("job-9", 1)
    world.mirror()
    world.assert_equal()


def test_a_mirror_that_goes_on_meanwhile_loses_nothing(world: World) -> None:
    """Rounds and merges at once, over the same tables: whoever comes second begins again."""
    many_rounds(world, 4)

    async def both() -> None:
        stop = time.monotonic() + 3

        async def mirrors() -> None:
            lake, n = world.lake(), 0
            while time.monotonic() < stop:
                world.write(f"job-{n % 5}", 2)
                await mirror_once(world.source, lake)
                n += 1

        async def merges() -> None:
            lake = world.lake()
            while time.monotonic() < stop:
                await compact(world.source, lake, now=LATER, grace_seconds=0.5)

        await asyncio.gather(mirrors(), merges())

    asyncio.run(both())
    world.mirror()
    world.assert_equal()


def test_a_damaged_file_is_left_as_it_is(world: World) -> None:
    """Rewritten, its rows would stand under a new and true digest: quietly repaired. It holds no others up."""
    many_rounds(world, 3)
    path = world.folder / files(world)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="bytes are not those"):
        asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert path.read_bytes() == data
    assert (len(files(world)), len(files(world, "cells"))) == (3 + 1, 2)


def test_killed_anywhere_nothing_is_lost(world: World, tmp_path: Path) -> None:
    """SIGKILL at many moments of a merge; a copy of the lake after each opens, and the next one goes on."""
    many_rounds(world, 5)
    for n in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.compact_once", world.database.admin_dsn, str(world.folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.06 * n)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        shutil.copytree(world.folder, tmp_path / f"copy-{n}")
        open_lake(tmp_path / f"copy-{n}", verify=True)
        world.write(f"job-{n % 2}", 1)
        world.mirror()
        world.assert_equal()
    asyncio.run(compact(world.source, world.lake(), now=LATER, grace_seconds=0))
    world.assert_equal()
    assert list(orphans(world.folder, world.lake().catalog)) == []


def test_many_manifests_are_looked_through_by_threads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread has the manifest that it looks at: with one for all, a file to replace seems to be missing."""

    def slow(self: _ManifestEvalVisitor, manifest: ManifestFile) -> bool:
        self.partition_fields = manifest.partitions or []
        time.sleep(0.005)
        return bool(visit(self.partition_filter, self))

    for n in range(12):  # a manifest a round, with another tenant's rows than the one before
        world.write("job-0", 2, tenant=f"tenant-{n % 3}")
        world.mirror()
    monkeypatch.setattr(_ManifestEvalVisitor, "eval", slow)
    done = asyncio.run(compact(world.source, world.lake(), now=LATER))
    assert done.later == 0
    world.assert_equal()
