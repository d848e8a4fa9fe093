"""A following mirror while PostgreSQL is away, or the disk is full: it says so, waits, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aetheris.lake import open_lake
from aetheris.store.embedded import ADMIN, Embedded
from tests.crash.app import keeper
from tests.crash.driver import Crash, Process


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of its own, since the server in it is killed."""
    folder = Path(tempfile.mkdtemp(prefix="aetheris-away-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def follow(crash: Crash, lake: Path) -> Process:
    """A mirror that follows, as a soak has it: a round every few seconds."""
    timing = {"SOAK_RETENTION_SECONDS": "3600", "SOAK_GRACE_SECONDS": "60"}
    return crash.start([sys.executable, "-m", "tests.soak.mirror", str(lake)], timing)


def fill(ballast: Path) -> None:
    """Leave no room on the disk that this file is on."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def until_said(process: Process, words: str, seconds: float = 60.0) -> None:
    """Return once the process has said so."""
    deadline = time.monotonic() + seconds
    while words not in process.tail():
        assert process.alive, f"it ended with {process.code}: {process.tail()}"
        assert time.monotonic() < deadline, process.tail()
        time.sleep(0.05)


def test_a_following_mirror_outlives_a_restart_of_postgresql(place: Path) -> None:
    """A patch of the database must not need somebody who starts the mirror again."""
    server = Embedded(place / "home").start()
    try:
        with Crash(server.dsn(ADMIN), place) as crash:
            mirror = follow(crash, place / "lake")
            until_said(mirror, "mirrored")
            pid = int(next((place / "home").rglob("postmaster.pid")).read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)
            until_said(mirror, "can't reach")
            again = Embedded(place / "home").start()
            job = crash.system.submit(keeper, 1)
            time.sleep(1.5)
            mirror.send(signal.SIGTERM)  # its last round, if no other did
            mirror.wait_dead()
            assert mirror.code == 0, mirror.tail()
            assert "Traceback" not in mirror.tail()
            assert job.id in open_lake(place / "lake").tables["events"].read(["job_id"])["job_id"].to_pylist()
            again.release()
    finally:
        server.release()


def test_a_following_mirror_outlives_a_full_disk(place: Path) -> None:
    """The last round stands; once there is room the next one brings the rest."""
    disk = place / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    server = Embedded(place / "home").start()
    try:
        with Crash(server.dsn(ADMIN), place) as crash:
            mirror = follow(crash, disk / "lake")
            until_said(mirror, "mirrored")
            before = open_lake(disk / "lake").round
            fill(disk / "ballast")
            crash.system.submit(keeper, 1)
            until_said(mirror, "can't write")
            assert open_lake(disk / "lake").round == before
            (disk / "ballast").unlink()
            mirror.send(signal.SIGTERM)
            mirror.wait_dead()
            assert mirror.code == 0, mirror.tail()
            assert open_lake(disk / "lake").round > before
    finally:
        server.release()
        subprocess.run(["umount", "-l", str(disk)], check=False)
