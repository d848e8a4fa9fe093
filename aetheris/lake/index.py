"""`lake.json`: the one set of files that readers use, over all tables at one cut.

    format   "aetheris/lake/1"
    round    1, 2, 3, ...
    at       the database's time of the cut, microseconds since 1970 in UTC
    cut      the watermark of the cut; null for a lake that no store feeds
    tables   every table: uuid, metadata file, snapshot, rows, and its data
             files with path, sha256, bytes, rows

A round commits table by table and puts this file in place last, in one step:
whoever reads it sees all tables at the same cut, or at the one before. Paths
are relative to the lake, so a copied folder opens. Snapshot ids are decimal
strings: they pass 2**53.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aetheris.domain.canonical import strict_json
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.lake import durable, layout, watermark
from aetheris.lake.schema import TABLES
from aetheris.lake.watermark import Watermark

FORMAT = "aetheris/lake/1"
_BYTES_LIMIT = 256 * 1024 * 1024
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_DECIMAL = re.compile(r"[1-9]\d{0,18}\Z")


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A data file: its path relative to the lake, and what its bytes must be."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table at the cut. Without Iceberg metadata when no catalog made it."""

    files: tuple[LakeFile, ...]
    uuid: str | None = None
    metadata: str | None = None
    snapshot: int | None = None

    @property
    def rows(self) -> int:
        """How many rows the files hold."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Index:
    """What `lake.json` says."""

    round: int
    at: int
    cut: Watermark | None
    tables: dict[str, TableEntry]

    def encode(self) -> bytes:
        """Return the bytes of `lake.json`: the same index, the same bytes."""
        value = {
            "format": FORMAT,
            "round": self.round,
            "at": self.at,
            "cut": json.loads(self.cut.text()) if self.cut else None,
            "tables": {name: _table_value(entry) for name, entry in self.tables.items()},
        }
        return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"

    def write(self, folder: Path) -> None:
        """Put it in place in one step, durably."""
        durable.replace(folder / layout.INDEX, self.encode())


def read(folder: Path) -> Index | None:
    """Return the folder's index as it stands, or None where there is none yet.

    Errors: Unusable (not an index, a newer version, a path that leaves the
    folder), each in one line.
    """
    data = _bytes(folder)
    return None if data is None else decode(data, folder)


class Remembered:
    """The index of a lake that this process writes: read at every commit, spelled out when its bytes are others.

    Not for a lake that others may have made: that no path leaves the folder is
    looked at when it is spelled out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[bytes, Index] | None = None

    def read(self) -> Index | None:
        """Return the index as it stands, the same object while it is the same. Errors: as `read`."""
        data, last = _bytes(self._folder), self._last
        if data is None:
            return None
        if last is not None and last[0] == data:
            return last[1]
        found = decode(data, self._folder)
        self._last = (data, found)
        return found


def _bytes(folder: Path) -> bytes | None:
    path = folder / layout.INDEX
    try:
        if path.stat().st_size > _BYTES_LIMIT:
            raise Unusable(f"{path}: longer than {_BYTES_LIMIT} bytes, so it is no lake's index")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unusable(f"{path}: can't be read ({error.strerror})") from None


def decode(data: bytes, folder: Path) -> Index:
    """Return the index that `data` spells, for a lake in `folder`. Errors: Unusable."""
    path = folder / layout.INDEX
    try:
        value = strict_json(data)
    except Corrupt as error:
        raise Unusable(f"{path}: {error}; mirror again, or take it from the lake it was copied from") from None
    _want(type(value) is dict and type(value.get("format")) is str, path, "not an index of a lake")
    _want(value["format"] == FORMAT, path, f"format {value['format'][:40]!r} is not {FORMAT}; use the newer release")
    _want(value.keys() == {"format", "round", "at", "cut", "tables"}, path, "its fields are not those of an index")
    _want(_natural(value["round"]) and _natural(value["at"]), path, "round or time is not a natural number")
    tables, bounds = value["tables"], layout.Bounds(folder)
    _want(type(tables) is dict and tables.keys() == TABLES.keys(), path, "its tables are not those of a lake")
    return Index(
        value["round"],
        value["at"],
        _cut(value["cut"], path),
        {name: _entry(name, tables[name], path, bounds) for name in TABLES},
    )


def _cut(value: Any, path: Path) -> Watermark | None:
    try:
        return None if value is None else watermark.from_value(value)
    except ValueError:
        raise Unusable(f"{path}: its cut is no watermark") from None


def _entry(table: str, value: Any, path: Path, bounds: layout.Bounds) -> TableEntry:
    _want(
        type(value) is dict and value.keys() == {"uuid", "metadata", "snapshot", "rows", "files"},
        path,
        f"table {table}: its fields are not those of a table",
    )
    uuid, metadata, snapshot = value["uuid"], value["metadata"], value["snapshot"]
    _want((uuid is None) == (metadata is None), path, f"table {table}: uuid and metadata go together")
    _want(uuid is None or type(uuid) is str, path, f"table {table}: uuid is not a text")
    _want(
        snapshot is None or (type(snapshot) is str and bool(_DECIMAL.match(snapshot)) and uuid is not None),
        path,
        f"table {table}: snapshot is not a number in quotes",
    )
    _want(type(value["files"]) is list, path, f"table {table}: files is not a list")
    files = tuple(_file(table, file, path, bounds) for file in value["files"])
    _want(len({f.path for f in files}) == len(files), path, f"table {table}: a file stands there twice")
    if metadata is not None:
        bounds.inside(metadata)
    entry = TableEntry(files, uuid, metadata, int(snapshot) if snapshot else None)
    _want(value["rows"] == entry.rows, path, f"table {table}: rows is not the sum of its files' rows")
    return entry


def _file(table: str, value: Any, path: Path, bounds: layout.Bounds) -> LakeFile:
    fields = {"path", "sha256", "bytes", "rows"}
    _want(type(value) is dict and value.keys() == fields, path, f"table {table}: a file lacks one of {sorted(fields)}")
    bounds.inside(value["path"])
    digest = value["sha256"]
    _want(type(digest) is str and bool(_HEX64.match(digest)), path, f"table {table}: a sha256 is not 64 hex digits")
    _want(_natural(value["bytes"]) and _natural(value["rows"]), path, f"table {table}: a file's size is no number")
    return LakeFile(**value)


def _table_value(entry: TableEntry) -> dict[str, Any]:
    return {
        "uuid": entry.uuid,
        "metadata": entry.metadata,
        "snapshot": None if entry.snapshot is None else str(entry.snapshot),
        "rows": entry.rows,
        "files": [
            {"path": f.path, "sha256": f.sha256, "bytes": f.bytes, "rows": f.rows}
            for f in sorted(entry.files, key=lambda f: f.path)
        ],
    }


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _want(holds: bool, path: Path, wrong: str) -> None:
    if not holds:
        raise Unusable(f"{path}: {wrong}")
