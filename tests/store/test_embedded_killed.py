"""The embedded PostgreSQL after a crash: what a killed server leaves, and what a start says that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from aetheris.domain.errors import Refused
from aetheris.store import embedded_cluster, embedded_place
from aetheris.store.embedded import ADMIN, Embedded
from tests.store.home_support import AS_ROOT


def _postmaster(home: Path) -> int:
    return int((home / "pg" / "data" / "postmaster.pid").read_text().split()[0])


def _wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.01)


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


@pytest.mark.parametrize("dead", [False, True])
def test_a_socket_lock_whose_number_is_now_another_programs_does_not_block_the_start(home: Path, dead: bool) -> None:
    """The socket's lock outlives its server as the pid file does; a dead program nobody reaps counts as gone, too."""
    account = embedded_place.locate(home).account
    become = {"user": account.uid} if AS_ROOT else {}  # another user's program PostgreSQL takes for none of ours
    other = subprocess.Popen(["true" if dead else "cat"], stdin=subprocess.PIPE, **become)  # type: ignore[call-overload]
    if dead:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    data, socket = home / "pg" / "data", embedded_place.locate(home).socket
    for file in (data / "postmaster.pid", socket.with_name(socket.name + ".lock")):
        file.write_text(f"{other.pid}\n{data}\n1\n5432\n\n\n\nready\n")
        os.chown(file, account.uid, account.gid)
    Embedded(home).start().release()
    other.communicate()


def test_a_server_whose_log_was_lost_is_refused_at_once_with_its_last_word(home: Path) -> None:
    """Its words pass through the logger, which may write after pg_ctl gave up; nothing here passes by itself."""
    for segment in (home / "pg" / "data" / "pg_wal").glob("0*"):
        segment.unlink()
    began = time.monotonic()
    with pytest.raises(Refused, match=r"won't start: could not locate a valid checkpoint record"):
        Embedded(home).start()
    assert time.monotonic() - began < embedded_cluster.WAIT_SECONDS / 2


def test_the_words_of_a_server_are_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a busy machine: pg_ctl gave up before the logger had written why, and a refusal that passes was final."""
    here = embedded_place.locate(home)
    log = here.log / "postgresql-Mon.log"
    asked: list[int] = []

    def any_in(data: Path) -> bool:  # the logger still runs when it is asked first, and has written and ended after
        asked.append(len(asked))
        if len(asked) == 3:
            log.write_text('FATAL:  lock file "x.lock" already exists\n')
        return len(asked) < 4

    monkeypatch.setattr(embedded_cluster.orphans, "any_in", any_in)
    assert "already exists" in embedded_cluster._words(here, {})
    assert asked == [0, 1, 2], "words that pass by themselves are not waited over"
    assert "already exists" not in embedded_cluster._words(here, embedded_cluster._log_sizes(here.log))
