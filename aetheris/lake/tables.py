"""The lake's Iceberg tables: their heads, the one way rows are appended, and the files of a version.

A commit is compare-and-set on the table's head, and says in its summary up to
where the table now holds the store's rows. pyiceberg's own retry is off: it
would put the same batch on top of a head that already holds it. So a refused
commit (`Overtaken`) or one without an answer (`Doubtful`) is never repeated:
the caller takes a new cut, reads the watermark at the head, and reads the rows
again. Whoever rewrites a table (compaction, erasure, expiry) passes `carried`
on, and all tables are copy-on-write: a version with delete files is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from aetheris.domain.errors import Corrupt
from aetheris.lake import layout, watermark
from aetheris.lake.catalog import NAMESPACE, Doubtful, LakeCatalog, Overtaken, location, reached, relative
from aetheris.lake.index import LakeFile, TableEntry
from aetheris.lake.opened import hashed
from aetheris.lake.parquet import WrittenFile
from aetheris.lake.schema import TableShape
from aetheris.lake.watermark import Watermark

#: In the summary of a version that took over an index's files: the index's SHA-256.
REBUILT_FROM = "aetheris.rebuilt-from"
#: How many old metadata files a table keeps.
PREVIOUS_VERSIONS = 10
MANIFESTS_TO_MERGE = 50


@dataclass(frozen=True, slots=True)
class Head:
    """A table at one version: what a commit is compared with."""

    shape: TableShape
    table: Table
    watermark: Watermark | None

    @property
    def snapshot(self) -> int | None:
        """The version's id; None for a table that nothing was committed to."""
        found = self.table.current_snapshot()
        return None if found is None else int(found.snapshot_id)

    @property
    def uuid(self) -> str:
        """The table's own id, kept for life."""
        return str(self.table.metadata.table_uuid)

    def grew_from(self, entry: TableEntry, index_sha256: str) -> bool:
        """True when this version holds all that `entry`, of the index with that digest, holds."""
        if self.uuid != entry.uuid:
            summaries = [s.summary for s in self.table.metadata.snapshots]
            return any(s is not None and s.get(REBUILT_FROM) == index_sha256 for s in summaries)
        return entry.snapshot is None or self.table.metadata.snapshot_by_id(entry.snapshot) is not None


def load(catalog: LakeCatalog, shape: TableShape) -> Head | None:
    """Return the table's head, or None when the catalog has no such table.

    Errors: FileNotFoundError when the metadata file that the catalog names is gone.
    """
    try:
        with reached():
            table = catalog.load_table((NAMESPACE, shape.name))
    except NoSuchTableError:
        return None
    return head_of(shape, table)


def head_of(shape: TableShape, table: Table) -> Head:
    """Return a loaded table as a head. Errors: Corrupt when its version names no watermark."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return Head(shape, table, None)
    text = snapshot.summary.get(watermark.PROPERTY) if snapshot.summary else None
    return Head(shape, table, watermark.from_text(text, f"lake table {shape.name}"))


def make(catalog: LakeCatalog, shape: TableShape, *, instead: bool = False) -> Head:
    """Make the table and return its head; `instead` of the one that the catalog names now.

    Errors: Overtaken when another mirror has made it meanwhile.
    """
    name = (NAMESPACE, shape.name)
    with reached():
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(NAMESPACE)
        if instead:
            with suppress(NoSuchTableError):
                catalog.drop_table(name)
        try:
            place = location(catalog.folder, shape.name)
            table = catalog.create_table(name, shape.iceberg, place, shape.partitions, properties=properties_of(shape))
        except (TableAlreadyExistsError, IntegrityError):
            raise Overtaken(f"lake table {shape.name}: another mirror has made it meanwhile") from None
    return Head(shape, table, None)


def append(head: Head, files: Iterable[DataFile], mark: Watermark, notes: Mapping[str, str] | None = None) -> Head:
    """Commit `files` on top of `head`, with the new watermark, and return the new head.

    Errors: Overtaken (the head had moved; nothing was committed), Doubtful
    (the answer was lost; the files may belong to the table).
    """
    summary = {**(notes or {}), watermark.PROPERTY: mark.text()}
    return _committed(head, summary, mark, files, ())


def replace(head: Head, old: Iterable[DataFile], new: Iterable[DataFile]) -> Head:
    """Commit `new` files in place of `old` ones on top of `head`, under its own watermark. Errors as `append`."""
    return _committed(head, carried(head), head.watermark, new, tuple(old))


def _committed(
    head: Head, summary: dict[str, str], mark: Watermark | None, new: Iterable[DataFile], old: tuple[DataFile, ...]
) -> Head:
    # A copy: a commit changes pyiceberg's table object, and `head` must stay what it was.
    table = Table(
        head.table.name(), head.table.metadata, head.table.metadata_location, head.table.io, head.table.catalog
    )
    transaction = table.transaction()
    update = transaction.update_snapshot(snapshot_properties=summary)
    producer = update.overwrite() if old else update.merge_append()
    # pyiceberg's evaluator keeps the manifest at hand in itself and is shared by the threads that look through
    # manifests, so a file to be replaced may seem to be missing: one of its own for each look.
    build = producer._build_manifest_evaluator
    producer._build_manifest_evaluator = lambda spec_id: lambda manifest: build(spec_id)(manifest)  # type: ignore[method-assign]
    for file in old:
        producer.delete_data_file(file)
    for file in new:
        producer.append_data_file(file)
    try:
        producer.commit()
        transaction.commit_transaction()
    except (CommitFailedException, ValidationException):
        raise Overtaken(f"lake table {head.shape.name}: another mirror committed first") from None
    except SQLAlchemyError as error:
        raise Doubtful(f"lake table {head.shape.name}: the commit's answer was lost ({type(error).__name__})") from None
    return Head(head.shape, table, mark)


def carried(head: Head) -> dict[str, str]:
    """Return what a rewrite of this version must put into its own summary."""
    return {} if head.watermark is None else {watermark.PROPERTY: head.watermark.text()}


def data_file(head: Head, folder: Path, file: WrittenFile) -> DataFile:
    """Return Iceberg's description of a written file."""
    footer, day = file.footer, file.day
    return _described(head, location(folder, file.path), file.bytes, footer, Record(file.tenant, day))


def adopted_file(head: Head, folder: Path, file: LakeFile) -> DataFile:
    """Return Iceberg's description of a file that an index lists. Errors: Corrupt when it can't be read."""
    path = folder / file.path
    try:
        footer = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        text = f"{path}: not a Parquet file ({' '.join(str(error).split())[:120]})"
        raise Corrupt(text, where=file.path) from None
    partition = layout.partition_of(file.path)
    if partition is None:
        raise Corrupt(f"{path}: its path names no tenant and day", where=file.path)
    return _described(head, location(folder, file.path), file.bytes, footer, Record(*partition))


def files_at(head: Head, folder: Path, known: TableEntry | None, added: Iterable[WrittenFile]) -> tuple[LakeFile, ...]:
    """Return all data files of the head's version, with size and SHA-256.

    `known` is the table in the last index and `added` what this round wrote:
    when the head is the next version after `known`, no manifest is read.
    Errors: Corrupt for a version with delete files or files outside the lake.
    """
    snapshot = head.table.current_snapshot()
    if snapshot is None:
        return ()
    if known is not None and known.uuid == head.uuid:
        if known.snapshot == snapshot.snapshot_id:
            return known.files
        if known.snapshot == snapshot.parent_snapshot_id and (new := tuple(added)):
            return known.files + tuple(LakeFile(f.path, f.sha256, f.bytes, f.rows) for f in new)
    return _planned(head, folder)


def entry_of(head: Head, folder: Path, files: tuple[LakeFile, ...]) -> TableEntry:
    """Return the table as an index lists it."""
    path = relative(folder, head.table.metadata_location)
    if path is None:
        raise Corrupt(
            f"lake table {head.shape.name}: its metadata lies outside the lake ({head.table.metadata_location})"
        )
    return TableEntry(files, head.uuid, path, head.snapshot)


def properties_of(shape: TableShape) -> dict[str, str]:
    """Return the Iceberg properties: what every writer of this table has to keep to."""
    bounds = {f"write.metadata.metrics.column.{c.name}": "truncate(64)" for c in shape.columns if c.bounded}
    return {
        "format-version": "2",
        "commit.retry.num-retries": "0",
        "commit.manifest-merge.enabled": "true",
        "commit.manifest.min-count-to-merge": str(MANIFESTS_TO_MERGE),
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": str(PREVIOUS_VERSIONS),
        "write.parquet.compression-codec": "zstd",
        "write.delete.mode": "copy-on-write",
        "write.update.mode": "copy-on-write",
        "write.merge.mode": "copy-on-write",
        # What is not named has no metrics at all: a new column is private until it is said otherwise.
        "write.metadata.metrics.default": "none",
        **bounds,
    }


def _planned(head: Head, folder: Path) -> tuple[LakeFile, ...]:
    snapshot, name = head.table.current_snapshot(), head.shape.name
    files: list[LakeFile] = []
    for manifest in snapshot.manifests(head.table.io) if snapshot else ():
        if manifest.content != ManifestContent.DATA:
            raise Corrupt(f"lake table {name}: this version has delete files; ours are copy-on-write, so it isn't read")
        for entry in manifest.fetch_manifest_entry(head.table.io, discard_deleted=True):
            file = entry.data_file
            path = relative(folder, file.file_path)
            if file.content != DataFileContent.DATA or path is None:
                raise Corrupt(f"lake table {name}: {file.file_path} is a delete file or lies outside the lake")
            digest = layout.sha256_of(path) or hashed(folder / path)
            files.append(LakeFile(path, digest, file.file_size_in_bytes, file.record_count))
    return tuple(files)


def _described(head: Head, place: str, size: int, footer: pq.FileMetaData, partition: Record) -> DataFile:
    schema = head.table.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=footer,
        stats_columns=compute_statistics_plan(schema, head.table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=place,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=size,
        sort_order_id=None,
        spec_id=head.table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
