"""The mirror on a real PostgreSQL: no gap, nothing twice, whoever comes in between."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from pyiceberg.table import StaticTable
from sqlalchemy.exc import OperationalError

from aetheris.domain.errors import Conflict, Corrupt, Refused, Unusable
from aetheris.lake import Lake, open_lake, tables
from aetheris.runtime import mirror
from aetheris.runtime.mirror import Round, follow, mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from tests.store.mirror_support import World, copy_of

POINTS = [
    "cut",
    "written events",
    "committed events",
    "written cells",
    "committed cells",
    "committed ledger",
    "committed",
]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    """A store of its own and a lake beside it."""
    made = World(database, tmp_path / "lake")
    yield made
    made.close()


def at_point(name: str, act: Callable[[], Any]) -> Callable[[str], None]:
    """Return a hook that acts once, at the point of that name."""
    waiting = [act]

    def passed(point: str) -> None:
        if point == name and waiting:
            waiting.pop()()

    return passed


def orphans(world: World) -> set[str]:
    """Data files on the disk that the published lake doesn't list."""
    listed = {file.path for file in open_lake(world.folder).files}
    return {str(path.relative_to(world.folder)) for path in world.folder.rglob("*.parquet")} - listed


def test_rows_of_all_tenants_arrive_once(world: World) -> None:
    """The auditor's copy is the store's rows: all of them, none twice, round after round."""
    world.write("job-a", 5)
    world.write("job-b", 3, tenant="acme")
    first = world.mirror()
    assert (first.number, first.rows["events"], first.total) == (1, 8, 24)
    world.write("job-a", 2)
    second = world.mirror()
    assert (second.number, second.rows["events"], second.total) == (2, 2, 6)
    world.assert_equal()


def test_a_round_without_news_changes_nothing(world: World) -> None:
    """An idle system must not grow its metadata once a minute."""
    world.write("job-a")
    before = world.mirror().index
    files = sorted(world.folder.rglob("*"))
    assert world.mirror().index == before
    assert sorted(world.folder.rglob("*")) == files


def test_an_empty_store_gives_an_empty_lake_that_opens(world: World) -> None:
    """The first look at a new system is not an error."""
    assert world.mirror().number == 1
    assert open_lake(world.folder, verify=True).tables["events"].read().num_rows == 0


def test_an_old_transaction_that_commits_late_is_neither_lost_nor_doubled(world: World) -> None:
    """With an xid horizon its rows would be skipped for ever: a hole in the evidence that nobody sees."""
    old = world.connect()
    world.write("slow", 3, connection=old)
    world.write("quick-1", 2)
    world.mirror()
    assert {row[1] for row in world.mirrored()} == {"quick-1"}
    world.write("quick-2", 2)
    world.mirror()
    old.commit()
    old.close()
    world.write("quick-3", 2)
    assert world.mirror().rows["events"] == 5
    assert world.mirror().total == 0
    world.assert_equal()


def test_rows_rolled_back_never_arrive(world: World) -> None:
    """The lake shows what happened, not what was tried."""
    tried = world.connect()
    world.write("tried", 2, connection=tried)
    world.mirror()
    tried.rollback()
    tried.close()
    world.write("done", 2)
    world.mirror()
    assert {row[1] for row in world.mirrored()} == {"done"}


@pytest.mark.parametrize("point", POINTS)
def test_another_mirrors_whole_round_in_between_does_no_harm(world: World, point: str) -> None:
    """Two mirrors run whenever somebody types `aetheris mirror` beside a following one."""
    world.write("job-a", 4)
    world.mirror()
    world.write("job-a", 3)
    other = World(world.database, world.folder)

    def act() -> None:
        world.write("job-b", 2)
        other.mirror()

    done = asyncio.run(mirror_once(world.source, world.lake(), passed=at_point(point, act)))
    other.close()
    world.assert_equal()
    assert done.index == open_lake(world.folder).index
    assert orphans(world) == set()


@pytest.mark.parametrize("point", POINTS)
def test_two_first_rounds_at_once_make_one_lake(world: World, point: str) -> None:
    """On a new system both would create the tables."""
    world.write("job-a", 4)
    other = World(world.database, world.folder)
    asyncio.run(mirror_once(world.source, world.lake(), passed=at_point(point, other.mirror)))
    other.close()
    world.mirror()
    world.assert_equal()


def test_two_mirrors_at_full_speed_lose_and_double_nothing(world: World) -> None:
    """What a pause point can't order, chance does."""
    other = World(world.database, world.folder)
    rounds: dict[World, int] = {world: 0, other: 0}
    errors: list[BaseException] = []
    stop = threading.Event()

    def run(mine: World) -> None:
        try:
            lake = mine.lake()
            while not stop.is_set():
                asyncio.run(mirror_once(mine.source, lake))
                rounds[mine] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run, args=[mine]) for mine in rounds]
    for thread in threads:
        thread.start()
    number = 0
    while min(rounds.values()) < 3 and not errors:
        world.write(f"job-{number % 4}", 2, tenant=("default", "acme")[number % 2])
        number += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    world.mirror()
    other.close()
    world.assert_equal()


@pytest.mark.parametrize("landed", [True, False], ids=["it had landed", "it had not"])
def test_a_commit_whose_answer_is_lost_is_settled_by_the_watermark(world: World, landed: bool) -> None:
    """The connection breaks in COMMIT: trying the same batch again would double it, giving up would lose it."""
    world.write("job-a", 4)
    world.mirror()
    world.write("job-a", 3)
    lake = world.lake()
    real, left = lake.catalog.commit_table, [2]

    def commit(*args: Any) -> Any:
        if not left[0]:
            return real(*args)
        left[0] -= 1
        if landed:
            real(*args)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    lake.catalog.commit_table = commit  # type: ignore[method-assign]
    asyncio.run(mirror_once(world.source, lake))
    assert left == [0]
    world.assert_equal()


def test_a_mirror_that_is_always_overtaken_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless race must end in words, not in a hang."""
    monkeypatch.setattr(mirror, "TRIES", 3)
    world.write("job-a")
    other = World(world.database, world.folder)

    def passed(point: str) -> None:
        if point == "written events":
            world.write("job-b")
            other.mirror()

    with pytest.raises(Conflict, match="overtaken 3 times in a row"):
        asyncio.run(mirror_once(world.source, world.lake(), passed=passed))
    other.close()
    world.mirror()
    world.assert_equal()


def test_the_index_never_names_a_file_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrors that die before publishing go on committing; old metadata is deleted under the reader's feet."""
    monkeypatch.setattr(tables, "PREVIOUS_VERSIONS", 2)
    world.write("job-a")
    world.mirror()
    published = open_lake(world.folder).index
    for _ in range(6):
        world.write("job-a")
        with pytest.raises(Killed):
            asyncio.run(mirror_once(world.source, world.lake(), passed=at_point("committed", _die)))
    lake = open_lake(world.folder, verify=True)
    assert lake.index == published
    for name, entry in lake.index.tables.items():
        assert entry.metadata is not None
        assert (world.folder / entry.metadata).exists(), name
    kept = list((world.folder / "events/metadata").glob("*.metadata.json"))
    assert len(kept) == 4  # the newest, two before it, and the one that the index names
    world.mirror()
    world.assert_equal()


class Killed(Exception):
    """The process is gone: nothing after this line runs."""


def _die() -> None:
    raise Killed


def test_other_engines_read_the_same_rows(world: World) -> None:
    """Polars and DuckDB by the file list, Polars and pyiceberg by the metadata that the index names."""
    world.write("job-a", 5)
    world.write("job-b", 3, tenant="acme")
    world.mirror()
    world.write("job-a", 2)
    world.mirror()
    lake = open_lake(world.folder)
    table, want = lake.tables["events"], world.stored()
    names = '"tenant_id", "job_id", "seq", "leaf", "line"'
    assert duckdb.sql(f"SELECT {names} FROM read_parquet({table.paths!r}) ORDER BY 1, 2, 3").fetchall() == want
    columns = ["tenant_id", "job_id", "seq", "leaf", "line"]
    assert pl.read_parquet(table.paths).sort(columns[:3]).select(columns).rows() == want
    metadata = str(world.folder / (lake.index.tables["events"].metadata or ""))
    static = StaticTable.from_metadata(metadata)
    assert sorted(tuple(r[c] for c in columns) for r in static.scan().to_arrow().to_pylist()) == want
    assert pl.scan_iceberg(static).sort(columns[:3]).select(columns).collect().rows() == want
    assert static.scan("tenant_id == 'acme'").to_arrow().num_rows == 3


def test_content_leaves_no_trace_in_metadata(world: World) -> None:
    """Erasure rewrites data files; a bound kept in a manifest would outlive it."""
    world.write("job-a", 4)
    world.mirror()
    lake = world.lake()
    head = lake.heads(lake.published())["cells"]
    snapshot = head.table.current_snapshot()
    assert snapshot is not None
    private = {i for i, c in enumerate(head.shape.columns, 1) if c.name in ("salt", "body")}
    [manifest] = snapshot.manifests(head.table.io)
    for entry in manifest.fetch_manifest_entry(head.table.io):
        file = entry.data_file
        for kept in (file.lower_bounds, file.upper_bounds, file.value_counts, file.null_value_counts):
            assert not private & set(kept)
        assert {1, 2, 3, 4} <= set(file.lower_bounds)
        assert b"MARK" not in b"".join([*file.lower_bounds.values(), *file.upper_bounds.values()])
    for path in (world.folder / "cells/metadata").glob("*.json"):
        assert b"MARK" not in path.read_bytes()


def test_a_version_with_delete_files_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading past a delete file would bring deleted rows back to life."""
    from pyiceberg.manifest import ManifestContent, ManifestFile

    world.write("job-a")
    world.mirror()
    (world.folder / "lake.json").unlink()
    monkeypatch.setattr(ManifestFile, "content", property(lambda _: ManifestContent.DELETES))
    with pytest.raises(Corrupt, match="delete files"):
        world.mirror()


def test_a_lost_index_is_made_again_from_the_tables(world: World) -> None:
    """lake.json is derived: file digests come from the files' names, not from trusting the disk again."""
    world.write("job-a", 3)
    before = world.mirror().index
    (world.folder / "lake.json").unlink()
    assert world.mirror().index.tables == before.tables


def test_the_walls_are_checked_before_a_row_is_read(world: World) -> None:
    """A mirror that runs as superuser reads what no policy allows."""
    source = MirrorSource(world.database)
    source._dsn = world.database.admin_dsn
    with pytest.raises(Refused, match="walls"), source.cut():
        pass
    with world.connect() as connection:
        connection.execute("DROP SCHEMA aetheris_lake CASCADE")
    with pytest.raises(Unusable, match="aetheris init"), MirrorSource(world.database).cut():
        pass
    with pytest.raises(Unusable, match="aetheris init"):
        world.mirror()


def test_a_folder_that_cannot_be_written_is_one_line(world: World, tmp_path: Path) -> None:
    """A full or read-only disk is an everyday accident."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="the last round stands, mirror again when that is mended") as error:
        world.mirror(tmp_path / "file" / "lake")
    assert "\n" not in str(error.value)


def test_a_catalog_that_cannot_be_reached_is_one_line(world: World, tmp_path: Path) -> None:
    """The database is away: say so, in one line."""
    lake = Lake(tmp_path / "lake", "postgresql+psycopg:///?host=/nowhere&dbname=x")
    with pytest.raises(Unusable, match="catalog") as error:
        lake.heads(lake.published())
    assert "\n" not in str(error.value)


def test_a_following_mirror_commits_when_asked_when_full_and_when_stopped(world: World) -> None:
    """An operator's limit on how old the lake may be, and no round for nothing in between."""

    async def main() -> list[int]:
        rounds: asyncio.Queue[Round] = asyncio.Queue()
        asked, stop = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(
            follow(world.source, world.lake(), rounds.put_nowait, asked=asked, stop=stop, rows=30, seconds=60)
        )

        async def brought() -> int:
            # A mirror that fails must fail the test, not keep it waiting.
            getting = asyncio.ensure_future(rounds.get())
            await asyncio.wait([getting, running], return_when=asyncio.FIRST_COMPLETED)
            return getting.result().total if getting.done() else await running or -1

        found = [await brought()]
        world.write("job-a", 2)
        asked.set()
        found.append(await brought())
        world.write("job-a", 10)
        found.append(await brought())
        world.write("job-a", 1)
        stop.set()
        await running
        return [*found, rounds.get_nowait().total]

    assert asyncio.run(main()) == [0, 6, 30, 3]
    world.assert_equal()


def test_every_table_of_the_lake_is_read_from_the_store(world: World) -> None:
    """A column that was renamed on one side only must not wait for its first row to be noticed."""
    world.write("job-a", 1)
    with world.connect() as connection:
        for statement in ROWS:
            connection.execute(statement.encode())
    found = world.mirror()
    assert all(found.rows.values()), found.rows
    lake = open_lake(world.folder, verify=True)
    assert lake.tables["lease_changes"].read()["lease_until"].to_pylist() == [None]
    assert lake.tables["audit"].read()["type"].to_pylist() == ["export"]


ROWS = [
    "INSERT INTO lease_changes (tenant_id, job_id, epoch, change, worker_id, lease_until)"
    " VALUES ('default', 'job-a', 1, 'claimed', 'w1', 'infinity')",
    "INSERT INTO limit_waits (tenant_id, job_id, step, attempt, kind, name, asked_at, slot_at, outcome)"
    " VALUES ('default', 'job-a', 1, 1, 'tool', 'book', now(), now(), 'granted')",
    "INSERT INTO job_snapshots (tenant_id, job_id, seq, kind, version, leaf, body, mac)"
    " VALUES ('default', 'job-a', 1, 'timer', 1, '\\x00', '{}', '\\x01')",
    "INSERT INTO seals (tenant_id, job_id, seal) VALUES ('default', 'job-a', '{}')",
    "INSERT INTO job_tombstones (tenant_id, job_id, agent, event_count, head_leaf, deleted_by, reason, retention_days,"
    " archive_ref) VALUES ('default', 'job-z', 'a', 1, '\\x00', 'gc', 'old', 90, 'lake')",
    "INSERT INTO erasures (tenant_id, job_id, seq, name, audit_seq, erased_by, reason)"
    " VALUES ('default', 'job-a', 1, 'args', 1, 'desk', 'asked')",
    "INSERT INTO audit_log (tenant_id, seq, leaf, line)"
    " SELECT 'default', 1, sha256('\\x00'::bytea || convert_to(l, 'UTF8')), l"
    ' FROM (VALUES (\'{"type":"export","at":5}\')) AS v (l)',
]


def test_odd_names_of_databases_and_folders_are_reached(database: Database, tmp_path: Path) -> None:
    """Addresses are built from DSN and path: quoting goes wrong where nobody looks."""
    odd = copy_of(database, f"odd name & more=1 {tmp_path.name}")
    for folder in ("a lake, 100% odd #1", "plain & spaced"):
        made = World(odd, tmp_path / folder)
        made.write(folder)
        made.mirror()
        made.close()
        rows = open_lake(made.folder, verify=True).tables["events"].read()
        assert folder in rows["job_id"].to_pylist()
        shutil.rmtree(made.folder)
