"""The embedded PostgreSQL: who starts it, who stops it, and what it says when it can't."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from aetheris.cli import demo
from aetheris.domain.errors import Refused
from aetheris.store import embedded_cluster, embedded_place
from aetheris.store.embedded import ADMIN, Embedded
from aetheris.store.embedded_lock import Lock
from tests.store.home_support import AS_ROOT, leave, user


def test_two_processes_that_start_at_once_share_one_server_until_the_last_leaves(new_home: Path) -> None:
    """A worker and a notebook may open the same folder in the same second."""
    home = new_home
    users = [user(home), user(home)]
    pids = {each.stdout.readline() for each in users if each.stdout}
    assert len(pids) == 1
    leave(users[0])
    assert Embedded(home).status().state == "running"
    leave(users[1])
    assert Embedded(home).status().state == "stopped"


def test_a_killed_user_takes_the_server_from_nobody_and_keeps_it_from_nobody(home: Path) -> None:
    """kill -9 of a worker must neither end the others' server nor leave it running for ever."""
    killed, other = user(home), user(home)
    for each in (killed, other):
        assert each.stdout
        each.stdout.readline()
    killed.kill()
    killed.communicate()
    assert Embedded(home).status().in_use
    with Embedded(home).start() as running, psycopg.connect(running.dsn(ADMIN)) as link:
        assert link.execute("SELECT 1").fetchone() == (1,)
    leave(other)
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
