"""Files that are on the disk before anyone is told of them.

The catalog's commit is durable in PostgreSQL; were a data or metadata file
still in the page cache when the power fails, the watermark would stand past
rows that no longer exist. So each file is synced before the commit, and its
folder too.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO


def write_new(path: Path, data: Any) -> None:
    """Write a file that did not exist, synced with its folder. `data` is any bytes-like object."""
    _make_folder(path.parent)
    with open(path, "xb") as file:
        file.write(data)
        _sync(file)
    sync_folder(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step: a reader sees the old bytes or the new ones, also after a crash."""
    _make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            _sync(file)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that `path` stands for, among all processes of this machine; a killed holder lets go."""
    _make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class DurableFileIO(PyArrowFileIO):
    """Iceberg's file access, with local files synced when they are closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """Return a file to write; a local one is durable once closed."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _DurableFile(location=location, path=path, fs=self.fs_by_scheme(scheme, netloc))


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(self._path)
        _make_folder(path.parent)
        return _SyncedStream(open(path, "wb" if overwrite else "xb"), path.parent)


class _SyncedStream:
    """What pyiceberg asks of a stream, and a sync at its end."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder

    def write(self, b: bytes) -> int:
        return self._file.write(b)

    def tell(self) -> int:
        return self._file.tell()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        if not self._file.closed:
            with self._file:
                _sync(self._file)
            sync_folder(self._folder)

    def __enter__(self) -> _SyncedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    # Each new folder's name is durable only once its parent is synced.
    missing = [folder, *folder.parents]
    missing = [f for f in missing if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)
