"""What an output may overwrite: nothing, an empty file, or an earlier output of its own kind.

A mistyped `-o agents.py` must cost nobody a file. A device or pipe is written
to as ever; a folder is refused by whoever writes. Where a signature goes beside
an output, nothing else may stand.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from aetheris.domain import audit, canonical, events
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.plain import printable
from aetheris.evidence import audit_statement, format


def keep_other_than_package(path: Path) -> None:
    """Refuse a path where a file stands that is no evidence zip, whatever the zip's state. Errors: Refused."""
    if _is_file(path) and not _is_package(path):
        raise _kept(path, "no evidence zip")


def keep_other_than_chain(path: Path) -> None:
    """Refuse a path where a file stands that opens no audit chain, or beside it what is no signature of one.

    Errors: Refused.
    """
    if _is_file(path) and not _opens_chain(path):
        raise _kept(path, "no exported audit chain")
    beside = audit_statement.signature_path(path)
    if os.path.lexists(beside) and not (beside.is_file() and (not beside.stat().st_size or _signs_chain(beside))):
        raise _kept(beside, "no signature over an audit chain")


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


def _signs_chain(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            audit_statement.of_envelope(file.read(format.LIMITS.document_bytes + 1))
    except (OSError, Corrupt):
        return False
    return True
