"""A lake's folder: the index read strictly, files held to it, other engines reading the same rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aetheris.domain import encode, events
from aetheris.domain.errors import Corrupt, Refused, Unusable
from aetheris.lake import TABLES, open_lake, write_lake

DAY = 86_400_000_000
AT = 20_000 * DAY


def event_rows(count: int, tenant: str = "acme", days: int = 1) -> pa.Table:
    """Event rows as the store would give them, spread over `days`."""
    rows = [
        {
            "tenant_id": tenant,
            "job_id": f"job-{n % 3}",
            "seq": n // 3 + 1,
            "leaf": bytes([n % 256]) * 32,
            "line": encode.line_bytes(
                events.build(
                    at=AT + n, by="worker/w1", cells={}, data={"reason": "é"}, epoch=n, prev="0" * 64, seq=n // 3 + 1,
                    step=n, type="job_failed",
                )
            ).decode(),
            "xid": 700 + n,
            "recorded_at": AT + (n % days) * DAY + n,
        }
        for n in range(count)
    ]  # fmt: skip
    types = {"leaf": pa.binary(), "recorded_at": pa.int64()}
    return pa.table({name: pa.array([r[name] for r in rows], types.get(name)) for name in rows[0]}).set_column(
        6, "recorded_at", pa.array([r["recorded_at"] for r in rows], pa.timestamp("us", "UTC"))
    )


def quoted(name: str) -> str:
    """Quoted: `at` is a word of DuckDB's own."""
    return f'"{name}"'


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A small lake of two tenants and three days."""
    rows = pa.concat_tables([event_rows(30, days=3), event_rows(5, "bolt")])
    write_lake(tmp_path / "lake", {"events": rows}, at=AT)
    return tmp_path / "lake"


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    """Fixtures are made again in CI and compared: chance or the clock would make them differ."""
    rows = event_rows(500, days=2)
    shuffled = rows.take(pa.array(list(reversed(range(500)))))
    for folder, given in (("a", rows), ("b", shuffled)):
        write_lake(tmp_path / folder, {"events": given}, at=5)
    files = [
        sorted((p.relative_to(tmp_path / f), p.read_bytes()) for p in (tmp_path / f).rglob("*") if p.is_file())
        for f in "ab"
    ]
    assert len(files[0]) == 3
    assert files[0] == files[1]


def test_each_tenant_and_day_has_files_of_its_own(lake: Path) -> None:
    """A tenant's session is held to folders, and a closed day never changes."""
    assert sorted("/".join(f.path.split("/")[:4]) for f in open_lake(lake).files) == [
        "events/data/acme/2024-10-04",
        "events/data/acme/2024-10-05",
        "events/data/acme/2024-10-06",
        "events/data/bolt/2024-10-04",
    ]


def test_a_copied_lake_opens_elsewhere(lake: Path, tmp_path: Path) -> None:
    """An auditor gets a folder on a stick, not our disk."""
    before = open_lake(lake).tables["events"].read()
    shutil.move(lake, tmp_path / "stick")
    moved = open_lake(tmp_path / "stick", verify=True)
    assert moved.tables["events"].read().equals(before)
    assert all(path.startswith(str(tmp_path / "stick")) for path in moved.tables["events"].paths)


def test_a_table_without_rows_has_its_columns(lake: Path) -> None:
    """A query over a young lake finds every column, and no rows."""
    cells = open_lake(lake).tables["cells"]
    assert cells.files == ()
    assert cells.read().schema.equals(TABLES["cells"].arrow)
    assert cells.read(["seq", "name"]).column_names == ["seq", "name"]


def test_duckdb_and_polars_read_the_same_rows(lake: Path) -> None:
    """The lake is open: who doesn't trust us reads it with tools of their own."""
    table = open_lake(lake).tables["events"]
    columns = [
        "tenant_id",
        "job_id",
        "seq",
        "type",
        "step",
        "epoch",
        "happened_at",
        "leaf",
        "line",
        "xid",
        "recorded_at",
    ]
    want = [
        tuple(row[c] for c in columns)
        for row in table.read().sort_by([(k, "ascending") for k in table.shape.key]).to_pylist()
    ]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found = connection.execute(
        f"SELECT {', '.join(map(quoted, columns))} FROM read_parquet($1) ORDER BY 1, 2, 3", [table.paths]
    ).fetchall()
    assert len(found) == 35
    assert [tuple(r) for r in found] == want
    assert pl.read_parquet(table.paths).sort("tenant_id", "job_id", "seq").select(columns).rows() == want


def test_a_tenant_reads_its_rows_alone(lake: Path) -> None:
    """Reading one tenant must neither miss rows nor show another's."""
    table = open_lake(lake).tables["events"]
    assert table.read(tenant="bolt").num_rows == 5
    assert set(table.read(["tenant_id"], tenant="acme")["tenant_id"].to_pylist()) == {"acme"}
    assert table.read(tenant="nobody").num_rows == 0


def test_one_flipped_byte_names_its_file(lake: Path) -> None:
    """Verification is worth something only when it fails."""
    file = open_lake(lake).files[2]
    path = lake / file.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    open_lake(lake)
    with pytest.raises(Corrupt) as error:
        open_lake(lake, verify=True)
    assert error.value.where == file.path
    assert error.value.expected == file.sha256
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_missing_or_cut_file_is_said_on_opening(lake: Path, how: str) -> None:
    """A copy that stopped half way must not look like a smaller lake."""
    file = open_lake(lake).files[0]
    path = lake / file.path
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="copy the lake again") as error:
        open_lake(lake)
    assert error.value.where == file.path


def _set(path: list[Any], value: Any) -> Any:
    def change(index: dict[str, Any]) -> None:
        place: Any = index
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


FILE = ["tables", "events", "files", 0]
BAD = {
    "newer format": _set(["format"], "aetheris/lake/2"),
    "round as text": _set(["round"], "1"),
    "round as truth": _set(["round"], True),
    "negative time": _set(["at"], -1),
    "cut of another shape": _set(["cut"], {"snapshot": "1:1:"}),
    "unknown field": _set(["more"], 1),
    "table missing": lambda index: index["tables"].pop("audit"),
    "table unknown": _set(["tables", "jobs"], {}),
    "delete files": _set(["tables", "events", "deletes"], []),
    "rows that don't add up": _set(["tables", "events", "rows"], 34),
    "snapshot as number": _set(["tables", "events", "snapshot"], 5),
    "snapshot without a table": _set(["tables", "events", "snapshot"], "5"),
    "climbing path": _set([*FILE, "path"], "../secret.parquet"),
    "climbing inside": _set([*FILE, "path"], "events/../../secret.parquet"),
    "absolute path": _set([*FILE, "path"], "/etc/passwd"),
    "url": _set([*FILE, "path"], "https://example.org/x.parquet"),
    "backslash": _set([*FILE, "path"], "..\\secret"),
    "pattern": _set([*FILE, "path"], "events/data/*.parquet"),
    "empty path": _set([*FILE, "path"], ""),
    "path as list": _set([*FILE, "path"], ["a"]),
    "digest in capitals": _set([*FILE, "sha256"], "A" * 64),
    "size as float": _set([*FILE, "bytes"], 1.0),
    "same file twice": lambda index: index["tables"]["events"]["files"].append(index["tables"]["events"]["files"][0]),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_an_index_that_is_not_ours_is_refused_in_one_line(lake: Path, change: Any) -> None:
    """The index says which files are opened: whoever edits it must not lead us out of the folder."""
    index = json.loads((lake / "lake.json").read_text())
    change(index)
    (lake / "lake.json").write_text(json.dumps(index))
    with pytest.raises(Unusable) as error:
        open_lake(lake)
    assert "\n" not in str(error.value)
    assert str(lake / "lake.json") in str(error.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format":"aetheris/lake/1","format":"x"}', b"[" * 5000]
)
def test_an_index_that_is_no_json_object_is_refused_in_one_line(lake: Path, data: bytes) -> None:
    """A torn or foreign file is an everyday accident, not a traceback."""
    (lake / "lake.json").write_bytes(data)
    with pytest.raises(Unusable) as error:
        open_lake(lake)
    assert "\n" not in str(error.value)


def test_a_link_that_leads_outside_is_refused(lake: Path, tmp_path: Path) -> None:
    """A path may look tame and still point elsewhere."""
    file = open_lake(lake).files[0]
    shutil.copy(lake / file.path, tmp_path / "outside")
    (lake / file.path).unlink()
    (lake / file.path).symlink_to(tmp_path / "outside")
    with pytest.raises(Unusable, match="outside the lake"):
        open_lake(lake)


def test_a_folder_that_is_a_link_to_the_outside_is_refused(lake: Path, tmp_path: Path) -> None:
    """The file itself is none, but something on the way to it is."""
    folder = (lake / open_lake(lake).files[0].path).parent
    shutil.move(folder, tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(Unusable, match="outside the lake"):
        open_lake(lake)


def test_a_link_that_stays_inside_is_followed(lake: Path) -> None:
    """Whoever moves a file within the lake leads nobody out of it."""
    file = open_lake(lake).files[0]
    (lake / file.path).rename(lake / "moved")
    (lake / file.path).symlink_to(lake / "moved")
    assert open_lake(lake).files[0] == file


def test_a_folder_without_a_lake_is_said_so(tmp_path: Path) -> None:
    """The first thing people get wrong is the folder."""
    with pytest.raises(Unusable, match="aetheris mirror"):
        open_lake(tmp_path)
    with pytest.raises(Unusable, match="no such folder"):
        open_lake(tmp_path / "nowhere")


def test_content_leaves_no_trace_in_a_files_footer(tmp_path: Path) -> None:
    """A minimum in a footer is a value: it would outlive the erasure of its row."""
    rows = pa.table(
        {
            "tenant_id": ["acme"], "job_id": ["j"], "seq": [1], "name": ["args"], "salt": [b"S" * 32],
            "body": ['{"secret":"MARK"}'], "xid": [7], "recorded_at": pa.array([AT], pa.timestamp("us", "UTC")),
        }
    )  # fmt: skip
    write_lake(tmp_path / "lake", {"cells": rows})
    [path] = open_lake(tmp_path / "lake").tables["cells"].paths
    group = pq.read_metadata(path).row_group(0)
    bounded = {group.column(i).path_in_schema for i in range(group.num_columns) if group.column(i).is_stats_set}
    assert bounded == {"tenant_id", "job_id", "seq", "name", "xid", "recorded_at"}
    assert b"MARK" not in Path(path).read_bytes()[-pq.read_metadata(path).serialized_size - 8 :]


def test_a_damaged_line_is_kept_as_it_stands() -> None:
    """The lake shows what the store holds, broken or not: repairing it would hide the break."""
    lines = ["no json", "[]", '{"type":5,"step":"x","epoch":99999999999999999999,"at":true}', '{"type":"a","step":1}']
    columns = [["t"] * 4, ["j"] * 4, [1, 2, 3, 4], [b""] * 4, lines, [1] * 4, [AT] * 4]
    rows = TABLES["events"].batch(columns)
    assert rows["line"].to_pylist() == lines
    assert rows["type"].to_pylist() == [None, None, None, "a"]
    assert rows["step"].to_pylist() == [None, None, None, 1]
    assert rows["epoch"].to_pylist() == rows["happened_at"].to_pylist() == [None] * 4


def test_rows_that_are_not_a_tables_own_are_refused(tmp_path: Path) -> None:
    """Importers and fixtures learn of a wrong column at once, by name."""
    rows = event_rows(2)
    for given, said in ({"jobs": rows}, "jobs"), ({"events": rows.drop_columns("leaf")}, "leaf"):
        with pytest.raises(Refused, match=said):
            write_lake(tmp_path / said, given)
    with pytest.raises(Refused, match="color"):
        write_lake(tmp_path / "color", {"events": rows.append_column("color", pa.array(["red", "red"]))})
    write_lake(tmp_path / "twice", {"events": rows})
    with pytest.raises(Refused, match="new folder"):
        write_lake(tmp_path / "twice", {"events": rows})
