"""What an output may overwrite: nothing, an empty file, or an earlier output of its own kind.

A mistyped `-o agents.py` must cost nobody a file. A device or pipe is written
to as ever; a folder is refused by whoever writes.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from aetheris.domain import audit, canonical, events
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.plain import printable
from aetheris.evidence import format


def keep_other_than_package(path: Path) -> None:
    """Refuse a path where a file stands that is no evidence zip, whatever the zip's state. Errors: Refused."""
    if _is_file(path) and not _is_package(path):
        raise _kept(path, "no evidence zip")


def keep_other_than_chain(path: Path) -> None:
    """Refuse a path where a file stands whose first line opens no audit chain. Errors: Refused."""
    if _is_file(path) and not _opens_chain(path):
        raise _kept(path, "no exported audit chain")


def _kept(path: Path, what: str) -> Refused:
    return Refused(f"{printable(str(path))} is there and is {what}: it is not overwritten; name another file")


def _is_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _is_package(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return format.MANIFEST in archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _opens_chain(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return events.read(file.readline(canonical.LINE_BYTES_LIMIT + 2).rstrip(b"\n")).type == audit.OPENED
    except (OSError, Corrupt):
        return False
