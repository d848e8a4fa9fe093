"""The mirror where transaction ids don't count: databases put back, lakes moved or thrown away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aetheris.domain.errors import Refused
from aetheris.lake import open_lake, tables, write_lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from tests.store.mirror_support import World, copy_of


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    """A store of its own and a lake beside it."""
    made = World(database, tmp_path / "lake")
    yield made
    made.close()


def restored(world: World) -> Callable[[], None]:
    """Take a backup of the store, catalog and all; return what puts it back in the store's place."""
    world.close()
    backup = copy_of(world.database)

    def put_back() -> None:
        world.close()
        world.database = Database(backup.admin_dsn)
        world.source = type(world.source)(world.database)

    return put_back


def keys(rows: list[tuple[str, str, int, bytes, str]]) -> list[tuple[str, str, int]]:
    """Which events these are."""
    return [row[:3] for row in rows]


def test_after_a_restore_the_mirror_goes_on_and_says_what_the_store_lost(world: World) -> None:
    """A backup is put back under a lake that is ahead: what is only in the lake must not vanish from it."""
    world.write("job-a", 4)
    world.mirror()
    put_back = restored(world)
    world.write("job-a", 3)
    world.write("job-lost", 2)
    world.mirror()
    before = world.mirrored()
    put_back()
    world.write("job-new", 2)

    found = world.mirror()

    lacking = {d.table: (d.count, d.first) for d in found.discrepancies if d.kind == "lacking"}
    assert lacking["events"] == (
        5,
        ("default job-a 5", "default job-a 6", "default job-a 7", "default job-lost 1", "default job-lost 2"),
    )
    assert lacking["cells"][0] == lacking["ledger"][0] == 5
    assert keys(world.mirrored()) == sorted([*keys(before), ("default", "job-new", 1), ("default", "job-new", 2)])
    assert world.mirror().discrepancies == ()
    world.write("job-new", 1)
    assert world.mirror().rows["events"] == 1
    assert keys(world.mirrored()).count(("default", "job-new", 3)) == 1


def test_xids_used_again_after_a_restore_hide_no_row(world: World) -> None:
    """The restored store counts its transactions from an earlier number: the old watermark calls them seen."""
    world.write("job-a", 2)
    world.mirror()
    put_back = restored(world)
    world.write("job-a", 1)
    world.mirror()
    put_back()
    world.write("job-new", 2, xid=5)
    world.mirror()
    assert [k for k in keys(world.mirrored()) if k[1] == "job-new"] == [
        ("default", "job-new", 1),
        ("default", "job-new", 2),
    ]


def test_a_store_that_counts_backwards_is_told_by_key(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its numbers were reset: going on by them would skip every row until they catch up."""
    world.write("job-a", 2)
    world.mirror()
    lake = world.lake()
    head = lake.heads(lake.published())["events"]
    assert head.watermark is not None
    tables.append(head, [], replace(head.watermark, snapshot="999999:999999:"))
    world.write("job-a", 2)
    assert world.mirror().discrepancies == ()
    assert "the store counts from before its watermark; rows are told by key" in caplog.text
    world.assert_equal()
    world.write("job-a", 1)
    assert world.mirror().rows["events"] == 1
    world.assert_equal()


def test_a_job_that_went_another_way_after_a_restore_is_reported(world: World) -> None:
    """Two histories of one job exist: the lake keeps the one it had, and nobody is told that all is well."""
    world.write("job-a", 2)
    world.mirror()
    put_back = restored(world)
    world.write("job-a", 2)
    world.mirror()
    first = world.mirrored()
    put_back()
    world.forget("job-a", 2)
    world.write("job-a", 3)
    found = {(d.table, d.kind): d for d in world.mirror().discrepancies}
    assert found["events", "differs"].first == ("default job-a 3", "default job-a 4")
    assert ("events", "lacking") not in found
    assert world.mirrored()[:4] == first
    assert keys(world.mirrored()) == [("default", "job-a", n) for n in range(1, 6)]


def test_collected_jobs_are_not_reported_as_lost(world: World) -> None:
    """Retention took their rows on record: an alarm for each would bury the true ones."""
    world.write("job-a", 2)
    world.write("job-b", 2)
    world.mirror()
    world.forget("job-a", 0)
    world.forget("job-b", 0)
    with world.connect() as connection:
        connection.execute(
            "INSERT INTO job_tombstones (tenant_id, job_id, agent, event_count, head_leaf, deleted_by, reason,"
            " retention_days, archive_ref) VALUES ('default', 'job-a', 'a', 2, '', 'gc', 'old', 90, 'lake')"
        )
    world.source.renew()
    found = world.mirror()
    assert {(d.table, d.count) for d in found.discrepancies} == {("events", 2), ("cells", 2), ("ledger", 2)}
    assert all("job-b" in key for d in found.discrepancies for key in d.first)


def test_rows_with_another_clusters_xids_arrive_once(world: World) -> None:
    """A restored dump brings its old xids along: too high ones look new in every later round."""
    world.write("job-a", 2)
    world.mirror()
    with world.connect() as connection:
        row = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    ahead = int(str(row[0])) + 12
    world.write("job-dump", 3, xid=ahead)
    assert world.mirror().rows["events"] == 3
    assert world.mirror().total == 0
    for _ in range(20):  # the cluster's own numbering passes the foreign xid
        world.write("job-a", 1)
    assert world.mirror().rows["events"] == 20
    assert world.mirror().total == 0
    world.write("job-a", 1)
    assert world.mirror().rows["events"] == 1
    world.assert_equal()
    assert not any(head.watermark.foreign for head in _heads(world) if head.watermark)


def _heads(world: World) -> list[object]:
    lake = world.lake()
    return list(lake.heads(lake.published()).values())


def test_a_moved_lake_goes_on_in_its_new_place(world: World) -> None:
    """A project's folder is renamed; Iceberg's metadata holds absolute paths."""
    world.write("job-a", 3)
    world.mirror()
    moved = world.folder.with_name("elsewhere")
    shutil.move(world.folder, moved)
    world.folder = moved
    world.write("job-a", 2)
    found = world.mirror()
    assert (found.rows["events"], found.discrepancies) == (2, ())
    world.assert_equal()
    world.write("job-a", 1)
    assert world.mirror().rows["events"] == 1
    world.assert_equal()
    assert not world.folder.with_name("lake").exists()


def test_a_second_lake_for_the_same_store_is_refused(world: World, tmp_path: Path) -> None:
    """One watermark can't stand for two folders: each would miss what the other got."""
    world.write("job-a")
    world.mirror()
    with pytest.raises(Refused, match=str(world.folder)):
        world.mirror(tmp_path / "second")
    world.write("job-a")
    world.mirror()
    world.assert_equal()


def test_a_lake_that_was_thrown_away_is_made_anew(world: World) -> None:
    """The lake is derived: deleting it must not need a repair of the database."""
    world.write("job-a", 3)
    world.mirror()
    shutil.rmtree(world.folder)
    world.write("job-a", 1)
    assert world.mirror().rows["events"] == 4
    world.assert_equal()


def test_another_stores_lake_is_refused_and_left_alone(new_database: Callable[[], Database], world: World) -> None:
    """A wrong --lake would mix two companies' evidence in one table."""
    world.write("job-a", 3)
    world.mirror()
    before = (world.folder / "lake.json").read_bytes()
    # A store made by its own migration: its identity is its own.
    stranger = World(new_database(), world.folder)
    with stranger.connect() as connection:
        connection.execute("UPDATE store_identity SET incarnation = gen_random_uuid()")
    stranger.write("job-x", 2)
    with pytest.raises(Refused, match="another store"):
        stranger.mirror()
    assert (world.folder / "lake.json").read_bytes() == before
    with stranger.connect() as connection:
        assert connection.execute("SELECT count(*) FROM aetheris_lake.iceberg_tables").fetchone() == (0,)
    stranger.close()


def test_a_fixtures_lake_is_refused(world: World) -> None:
    """A lake that no store feeds must not grow by accident."""
    write_lake(world.folder, {})
    with pytest.raises(Refused, match="another store"):
        world.mirror()


class Killed(Exception):
    """The process is gone: nothing after this line runs."""


@pytest.mark.parametrize("point", ["renewed", "rebuilt", "cut", "committed events", "committed"])
def test_a_rebuild_cut_short_is_taken_up_again(world: World, point: str) -> None:
    """The machine that was just restored fails again: the second try must not believe half a rebuild."""
    world.write("job-a", 2)
    world.mirror()
    put_back = restored(world)
    world.write("job-a", 2)
    world.mirror()
    put_back()
    world.write("job-new", 1)

    def passed(name: str) -> None:
        if name == point:
            raise Killed

    with pytest.raises(Killed):
        asyncio.run(mirror_once(world.source, world.lake(), passed=passed))
    world.mirror()
    want = [("default", "job-a", n) for n in range(1, 5)] + [("default", "job-new", 1)]
    assert keys(world.mirrored()) == want
    assert open_lake(world.folder).tables["cells"].read().num_rows == 5


def test_half_a_rebuild_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between making the table and adopting its files: an empty table that claims to be whole."""
    world.write("job-a", 2)
    world.mirror()
    put_back = restored(world)
    world.write("job-a", 2)
    world.mirror()
    put_back()
    real, calls = tables.append, []

    def append(head: tables.Head, *rest: object) -> tables.Head:
        calls.append(head.shape.name)
        if len(calls) == 2:
            raise Killed
        return real(head, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "append", append)
    with pytest.raises(Killed):
        world.mirror()
    monkeypatch.undo()
    world.mirror()
    assert keys(world.mirrored()) == [("default", "job-a", n) for n in range(1, 5)]
    assert open_lake(world.folder).tables["cells"].read().num_rows == 4
