"""What a killed server leaves behind: its pid file, and backends that still run."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def drop_foreign_pids(data: Path, socket: Path) -> None:
    """Remove lock files, of the data and of the socket, whose number now belongs to some other program.

    After a restart of a container numbers start over, and PostgreSQL, which
    asks only whether the number lives, would refuse for ever. The same goes for
    a postmaster that is dead and whose parent never asks how it ended (init of
    many a container). Left-over backends are still noticed, by the shared memory.
    """
    for file in (data / "postmaster.pid", socket.with_name(socket.name + ".lock")):
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(file.read_text().splitlines()[0])
            if Path(f"/proc/{pid}").exists() and not any_in(data):
                file.unlink()


def any_in(data: Path) -> bool:
    """True while a server process works in `data`: a postmaster, its logger, or an orphan."""
    return any(True for _ in _processes_in(data))


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
