"""Whatever an auditor points at, lake folder or evidence zip, as a session."""

from __future__ import annotations

from pathlib import Path

from aetheris.domain.errors import Unusable
from aetheris.forensics.package import open_zip
from aetheris.forensics.session import Session
from aetheris.lake import open_lake


def open_source(path: Path, *, tenant: str | None = None, verify: bool = True) -> Session:
    """Return a session over the lake in the folder `path`, or over the evidence zip `path`.

    With `verify`, every file's SHA-256 is held against the lake's index first.
    Errors: Unusable when it is neither; Corrupt when bytes are not what they were.
    """
    if path.is_dir():
        return Session.over_lake(open_lake(path, verify=verify), tenant=tenant)
    if path.is_file():
        return open_zip(path)
    raise Unusable(f"{path}: no lake and no evidence zip there; `aetheris mirror` makes a lake")
