"""The Iceberg catalog: its tables in the store's PostgreSQL, its words turned into ours.

`LakeCatalog` is pyiceberg's SqlCatalog over psycopg 3, with one difference:
an old metadata file that `lake.json` still names is not deleted. Commits go on
while a round is not yet published (a mirror died, or two run), and a reader of
the last published round must find what its index names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyiceberg.catalog import METADATA, delete_files
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aetheris.domain.errors import Conflict, Unknown, Unusable
from aetheris.lake import durable, layout
from aetheris.lake.index import Remembered

NAME = "aetheris"
NAMESPACE = "aetheris"


class Overtaken(Conflict):
    """Another mirror committed first. Nothing of this commit was written: take a new cut."""


class Doubtful(Unknown):
    """A commit's answer was lost: read the watermark at the table's head before anything else."""


class Unreached(Unusable):
    """The catalog's database can't be reached. Nothing is known of a commit in flight."""


class LakeCatalog(SqlCatalog):
    """SqlCatalog for the lake in `folder`; spares the metadata that `lake.json` names."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.remembered = folder, Remembered(folder)
        properties = {
            "uri": uri,
            "init_catalog_tables": "false",
            "pool_pre_ping": "true",
            "py-io-impl": "aetheris.lake.durable.DurableFileIO",
        }
        with reached():
            super().__init__(NAME, **properties)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    # pyiceberg calls it after each commit; tests hold us to the name.
    def _delete_old_metadata(self, io: FileIO, base: TableMetadata, metadata: TableMetadata) -> None:  # type: ignore[override]
        kept = {log.metadata_file for log in metadata.metadata_log}
        dropped = {log.metadata_file for log in base.metadata_log} - kept
        if dropped:
            with durable.locked(self.folder / layout.LOCK):
                named = self.remembered.read()
                entries = named.tables.values() if named else ()
                spared = {location(self.folder, e.metadata) for e in entries if e.metadata}
                delete_files(io, dropped - spared, METADATA)


def location(folder: Path, path: str = "") -> str:
    """Return how Iceberg spells the place of `path` in the lake: absolute, as Spark and Trino want it."""
    place = str(folder.resolve() / path)
    # pyiceberg reads a URL without undoing escapes, so a folder with URL marks goes as a plain path.
    return place if set(place) & set("#?%") else f"file://{place}"


def relative(folder: Path, place: str) -> str | None:
    """Return the path in the lake that Iceberg's `place` means, or None when it lies elsewhere."""
    start = location(folder) + "/"
    return place.removeprefix(start) if place.startswith(start) else None


@contextmanager
def reached() -> Iterator[None]:
    """Turn a catalog that can't be reached or isn't there into one line."""
    try:
        yield
    except SQLAlchemyError as error:
        raise unreached(error) from None


def unreached(error: SQLAlchemyError) -> Unusable:
    """Return what a failed look at the catalog means."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = " ".join(str(cause).split())[:200]
    if getattr(cause, "sqlstate", None) in ("42P01", "42501", "3F000"):
        return Unusable(f"the database has no lake catalog of this version ({text}): run `aetheris init`")
    return Unreached(f"can't reach the lake's catalog in PostgreSQL: {text}")
