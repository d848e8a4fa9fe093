"""The lake as tenants see it through the API: a forensics session for each, over its own files alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from aetheris.api.problems import Answered
from aetheris.forensics.session import Answer, Session
from aetheris.lake import layout, open_lake

#: Sessions kept open; the least recently used is closed first.
SESSIONS = 32


class Lakes:
    """Sessions over the lake in `folder`, opened when asked for and anew after each round. Call from threads."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._sessions: OrderedDict[str, tuple[object, Session]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path | None:
        """Where the lake is, or None as long as there is none."""
        return self._folder if self._folder is not None and (self._folder / layout.INDEX).exists() else None

    def query(self, tenant: str, name: str, /, **parameters: Any) -> Answer:
        """Run a named query over this tenant's files. Errors: Answered (no lake yet), Refused, Corrupt."""
        # One query at a time: a session may be closed by the next, and DuckDB uses every core for each.
        with self._lock:
            return self._session(tenant).query(name, **parameters)

    def close(self) -> None:
        """Let go of the lake."""
        with self._lock:
            while self._sessions:
                self._sessions.popitem()[1][1].close()

    def _session(self, tenant: str) -> Session:
        if (folder := self.folder) is None:
            raise Answered(503, "there is no lake yet: `aetheris mirror` makes one")
        at = (folder / layout.INDEX).stat()
        stamp = (at.st_mtime_ns, at.st_ino)
        known = self._sessions.get(tenant)
        if known is None or known[0] != stamp:
            if known is not None:
                known[1].close()
            self._sessions[tenant] = stamp, Session.over_lake(open_lake(folder), tenant=tenant, threads=1)
        self._sessions.move_to_end(tenant)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)[1][1].close()
        return self._sessions[tenant][1]
