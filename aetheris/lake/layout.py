"""Where everything in a lake lies. Paths only: writer, reader and checker agree by construction.

    lake.json                                       what readers use; written last
    <table>/metadata/*                              Iceberg's
    <table>/data/<tenant>/<day>/<id>-<sha256>.parquet

The folders are not spelled `name=value`: readers that guess Hive partitions
would let the path overrule the column. A tenant's rows lie in folders of its
own, so that a session can be held to them. A data file carries the SHA-256 of
its bytes in its name: whoever finds it later, in Iceberg's manifests alone,
knows what it must hold.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

from aetheris.domain import ids
from aetheris.domain.errors import Unusable

INDEX = "lake.json"
LOCK = ".lake.lock"
_NAME = re.compile(r"[0-9a-f]{1,32}-([0-9a-f]{64})\.parquet\Z")
_PARTITION = re.compile(rf"[a-z_]+/data/({ids.TENANT_PATTERN})/(\d{{4}}-\d\d-\d\d)/[^/]+\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9_.=-]+\Z")


def data_file(table: str, tenant: str, day: int, file_id: str, sha256: str) -> str:
    """Return the path of a data file relative to the lake; `day` counts from 1970 in UTC."""
    written = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
    return f"{table}/data/{tenant}/{written}/{file_id}-{sha256}.parquet"


def sha256_of(path: str) -> str | None:
    """Return the SHA-256 that a data file's name claims, or None for a file named by others."""
    found = _NAME.search(PurePosixPath(path).name)
    return found[1] if found else None


def tenant_of(path: str) -> str | None:
    """Return whose rows a data file holds, or None when its path doesn't say."""
    partition = partition_of(path)
    return partition[0] if partition else None


def partition_of(path: str) -> tuple[str, int] | None:
    """Return tenant and day (from 1970, UTC) of a data file, or None when its path doesn't say."""
    found = _PARTITION.match(path)
    if not found or not sha256_of(path):
        return None
    try:
        return found[1], (date.fromisoformat(found[2]) - date(1970, 1, 1)).days
    except ValueError:
        return None


class Bounds:
    """A lake's folder as it stands now, and what paths stay inside it.

    Its folders are resolved once: an index names thousands of files in a few
    of them, and each resolution asks the file system for every name on the way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._root = folder, folder.resolve()
        self._within: dict[Path, bool] = {}

    def inside(self, path: object) -> Path:
        """Return where `path`, as an index spells it, lies: always inside the folder.

        Errors: Unusable for anything absolute, climbing, oddly spelled, or led
        outside by a symbolic link.
        """
        if type(path) is not str or len(path) > 1024:
            raise Unusable(f"{self._folder / INDEX}: a file's path is not a text of up to 1024 characters")
        parts = path.split("/")
        if not all(_SEGMENT.match(part) and part not in (".", "..") for part in parts):
            raise Unusable(f"{self._folder / INDEX}: path {path[:80]!r} does not stay inside the lake")
        found = self._folder.joinpath(*parts)
        if not (self._resolves(found) if found.is_symlink() else self._resolves(found.parent)):
            raise Unusable(f"{self._folder / INDEX}: path {path[:80]!r} leads outside the lake by a link")
        return found

    def _resolves(self, place: Path) -> bool:
        if place not in self._within:
            self._within[place] = place.resolve().is_relative_to(self._root)
        return self._within[place]
