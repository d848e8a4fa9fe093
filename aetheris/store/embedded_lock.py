"""A lock on a file that the kernel takes back when its holder dies (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from aetheris.domain.errors import Refused
from aetheris.store import embedded_place as place

_POLL_SECONDS = 0.01


class Lock:
    """One hold on one file. Two `Lock`s exclude each other, also inside one process.

    No child that runs another program inherits it (the descriptor closes on exec).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        place.owned_file(path, path.parent)
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def exclusive(self, wait_seconds: float) -> None:
        """Hold it alone, and leave the own process id in the file. Errors: Refused after `wait_seconds`."""
        until = time.monotonic() + wait_seconds
        while not self.try_exclusive():
            if time.monotonic() > until:
                holder = os.pread(self._open(), 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise Refused(
                    f"embedded PostgreSQL: process {holder} has been starting or stopping the server of "
                    f"{self.path.parent} for {wait_seconds:.0f} s. See whether it hangs, end it, and try again."
                )
            time.sleep(_POLL_SECONDS)
        os.ftruncate(self._open(), 0)
        os.pwrite(self._open(), f"{os.getpid()}\n".encode(), 0)

    def shared(self) -> None:
        """Hold it beside other shared holders."""
        fcntl.flock(self._open(), fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Hold it alone if nobody else holds it. A shared hold is lost where this fails."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def close(self) -> None:
        """Let go. Safe twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
