"""Where a soak runs: a small disk with the embedded PostgreSQL and the lake on it, and a world beside it.

The disk is a tmpfs of its own, made by mounting one; who may not (anybody but
root) enters a user namespace of its own first (`entered`), where that is
allowed without rights. Where neither is, everything lies in a plain folder, the
disk is never full, and the report says so. Nothing on a tmpfs waits for a
device: what is measured has no time of a disk in it. It is filled by making it as
small as what is on it: each write that needs a block more then fails with ENOSPC.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from aetheris.domain.errors import AetherisError
from aetheris.store.embedded import ADMIN, Embedded, Running

_ENTERED = "SOAK_ENTERED"
#: Checkpoints and WAL as small as the disk; fsync and the rest stay as they are.
SETTINGS = {"max_wal_size": "256MB", "checkpoint_timeout": "60s"}
UP_SECONDS = 90.0


def entered() -> None:
    """Go on as the same user in a namespace in which disks can be mounted, unless they can be here or it is refused."""
    if os.geteuid() == 0 or os.environ.get(_ENTERED):
        return
    words = ["unshare", "--user", "--mount", "--map-current-user", "--keep-caps"]
    with suppress(OSError):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            os.environ[_ENTERED] = "1"
            os.execvp(words[0], [*words, *sys.orig_argv])


class Place:
    """The folders of one soak, and its server. Use as a context manager; `keep` leaves all of it there."""

    def __init__(self, minutes: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aetheris-soak-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.disk, self.world, self.logs = self.folder / "disk", self.folder / "world", self.folder / "logs"
        for each in (self.disk, self.world, self.logs):
            each.mkdir()
        self.megabytes = int(1024 + 40 * min(minutes, 120))
        self.mounted = self._mount("-t", "tmpfs", "-o", f"size={self.megabytes}m,mode=755", "tmpfs")
        self.home, self.lake = self.disk / "home", self.disk / "lake"
        self.keep = False
        self._server = Embedded(self.home)
        self._held: list[Running] = []
        self.start()
        self.dsn = self._held[0].dsn(ADMIN)
        self.version = self._held[0].version
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            for name, value in SETTINGS.items():
                admin.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            admin.execute("SELECT pg_reload_conf()")

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._held:
            with suppress(AetherisError):
                running.release()
        if self.mounted and self.keep:
            shutil.copytree(self.disk, self.folder / "disk-kept", symlinks=True, ignore_dangling_symlinks=True)
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server where it does not run, however long it takes to come back. Errors: Refused."""
        deadline = time.monotonic() + UP_SECONDS
        while True:
            try:
                self._held.append(self._server.start())
                return
            except AetherisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def kill(self) -> None:
        """Kill the server's first process, as the kernel does when memory is out."""
        with suppress(OSError, ValueError, StopIteration):
            pid = int((self._server_data() / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)

    def _server_data(self) -> Path:
        return self._server.status().folder / "data"

    def fill(self) -> None:
        """Leave no room on the disk."""
        used = shutil.disk_usage(self.disk).used
        for spare in range(64):  # more may be written between the look and the mount
            if self._mount("-o", f"remount,size={used + spare * 65536}"):
                return
        raise RuntimeError(f"{self.disk} could not be made full")

    def free(self) -> None:
        """Give the disk its room back."""
        if not self._mount("-o", f"remount,size={self.megabytes}m"):
            raise RuntimeError(f"{self.disk} could not be given its room back")

    def refusals(self) -> int:
        """How often PostgreSQL said that there was no space."""
        logs = self._server.status().folder.glob("log/*.log")
        return sum(path.read_text(errors="replace").count("No space left on device") for path in logs)

    def _mount(self, *words: str) -> bool:
        done = subprocess.run(["mount", *words, str(self.disk)], capture_output=True, check=False)
        return done.returncode == 0
