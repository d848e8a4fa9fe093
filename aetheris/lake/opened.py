"""A lake as its readers see it: a folder with `lake.json`. No catalog, no database, no network.

Only what the index lists is read. Where the folder lies doesn't matter: a
copied lake opens like the one it was copied from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aetheris.domain.errors import Corrupt, Unusable
from aetheris.lake import index, layout
from aetheris.lake.index import Index, LakeFile
from aetheris.lake.schema import TABLES, TableShape

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OpenedTable:
    """One table of an opened lake: its shape and the files that hold its rows."""

    folder: Path
    shape: TableShape
    files: tuple[LakeFile, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; also of a table without rows."""
        return self.shape.arrow

    @property
    def paths(self) -> list[str]:
        """The files' places on this machine, in the index's order."""
        return [str(self.folder / file.path) for file in self.files]

    @property
    def rows(self) -> int:
        """How many rows the index counts."""
        return sum(file.rows for file in self.files)

    def read(self, columns: Sequence[str] | None = None, *, tenant: str | None = None) -> pa.Table:
        """Return the rows as one Arrow table, or those of one tenant. Errors: Corrupt, naming a file."""
        return read_files(self.folder, self.shape, self.files, columns, tenant=tenant)


@dataclass(frozen=True, slots=True)
class OpenedLake:
    """An opened lake: its index, and its tables by name."""

    folder: Path
    index: Index
    tables: dict[str, OpenedTable]

    @property
    def round(self) -> int:
        """The number of the round that wrote the index."""
        return self.index.round

    @property
    def files(self) -> list[LakeFile]:
        """All data files, of all tables."""
        return [file for table in self.tables.values() for file in table.files]

    def verify_files(self) -> int:
        """Return how many files were hashed, each with the very bytes that the index names.

        Errors: Corrupt for the first file, in the index's order, whose bytes differ.
        """
        files = self.files
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for file, found in zip(files, pool.map(lambda f: hashed(self.folder / f.path), files), strict=True):
                if found != file.sha256:
                    raise Corrupt(
                        f"{self.folder / file.path}: its bytes are not those the lake's index names; "
                        "keep it as evidence and don't trust its rows",
                        where=file.path,
                        expected=file.sha256,
                        found=found,
                    )
        return len(files)


def open_lake(folder: str | os.PathLike[str], verify: bool = False) -> OpenedLake:
    """Return the lake in `folder` at its last complete round; with `verify`, every byte checked.

    Errors: Unusable when there is no lake or its index can't be used; Corrupt
    when a listed file is missing, has another size or, with `verify`, other bytes.
    """
    place = Path(folder)
    if not place.is_dir():
        raise Unusable(f"{place}: no such folder; give the folder that holds {layout.INDEX}")
    found = index.read(place)
    if found is None:
        raise Unusable(f"{place}: no {layout.INDEX} in it, so no round was completed here; run `aetheris mirror`")
    lake = OpenedLake(
        place, found, {name: OpenedTable(place, TABLES[name], entry.files) for name, entry in found.tables.items()}
    )
    for file in lake.files:
        check_present(place, file)
    if verify:
        lake.verify_files()
    return lake


def check_present(folder: Path, file: LakeFile) -> None:
    """Return only if the file is there in its right size. Errors: Corrupt, naming it."""
    path = folder / file.path
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Corrupt(
            f"{path}: the lake's index lists it, but it can't be read ({error.strerror}); copy the lake again whole",
            where=file.path,
        ) from None
    if size != file.bytes:
        raise Corrupt(
            f"{path}: {size} bytes where the lake's index says {file.bytes}; copy the lake again whole",
            where=file.path,
            expected=str(file.bytes),
            found=str(size),
        )


def check_bytes(folder: Path, file: LakeFile) -> None:
    """Return only if the file's bytes are those that the index names. Errors: Corrupt, naming it."""
    if (found := hashed(folder / file.path)) != file.sha256:
        raise Corrupt(
            f"{folder / file.path}: its bytes are not those the lake's index names; "
            "keep it as evidence and don't trust its rows",
            where=file.path,
            expected=file.sha256,
            found=found,
        )


def read_files(
    folder: Path,
    shape: TableShape,
    files: Sequence[LakeFile],
    columns: Sequence[str] | None = None,
    *,
    tenant: str | None = None,
    jobs: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows of `files` in the table's schema, of one tenant, of these jobs, where they are given.

    What is not asked for is let go file by file. Errors: Corrupt, naming the file that can't be read.
    """
    names = list(columns or shape.arrow.names)
    schema = pa.schema([shape.arrow.field(name) for name in names])
    filters = None if tenant is None else pc.field("tenant_id") == tenant
    if jobs is not None:
        of_jobs = pc.field("job_id").isin(pa.array(jobs, pa.string()))
        filters = of_jobs if filters is None else filters & of_jobs
    read: list[pa.Table] = []
    for file in files:
        if tenant is None or layout.tenant_of(file.path) in (tenant, None):
            try:
                rows = pq.read_table(folder / file.path, columns=names, filters=filters, partitioning=None)
                read.append(rows.select(names).cast(schema))
            except (OSError, ValueError, KeyError) as error:
                text = f"{folder / file.path}: not this table's Parquet file ({_line(error)})"
                raise Corrupt(text, where=file.path) from None
    return pa.concat_tables(read) if read else schema.empty_table()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def hashed(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Errors: Corrupt when it can't be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise Corrupt(f"{path}: can't be read ({error.strerror})", where=str(path)) from None
    return digest.hexdigest()
