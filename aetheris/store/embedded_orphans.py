"""What a killed server leaves behind: its pid file, and backends that still run."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def drop_foreign_pid(data: Path) -> None:
    """Remove a pid file whose number now belongs to some other program.

    After a restart of a container numbers start over, and PostgreSQL, which
    asks only whether the number lives, would refuse for ever. Left-over
    backends are still noticed, by the shared memory.
    """
    file = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(file.read_text().splitlines()[0])
        if Path(f"/proc/{pid}").exists() and not list(_processes_in(data)):
            file.unlink()


def quit_orphans(data: Path) -> None:
    """Tell backends to quit whose postmaster is gone. Never touches a living server's."""
    found = dict(_processes_in(data))
    if any(parent not in found and _is_postmaster(data, pid) for pid, parent in found.items()):
        return
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)


def _is_postmaster(data: Path, pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (data / "postmaster.pid").read_text().startswith(f"{pid}\n")
    return False


def _processes_in(data: Path) -> Iterator[tuple[int, int]]:
    """Yield (pid, parent's pid) of every server process that works in `data`."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if (folder / "cwd").samefile(data) and (folder / "comm").read_text().startswith("postgres"):
                yield int(folder.name), int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
