"""The embedded server's data directory and process: make, configure, start, stop, look.

A new data directory is made beside its place, synced to disk by initdb, and renamed into
place in one step, so that what is called `data` is whole. Callers hold the
home's pg.lock around everything here but `look`.

After a crash PostgreSQL itself refuses to start while an old backend still
has the shared memory, and while its pid file seems to name a living server.
Both are waited for; an orphan that does not end by itself within
ORPHAN_SECONDS is told to quit, as its postmaster would have done.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import psycopg

from aetheris.domain.errors import Refused
from aetheris.store import embedded_orphans as orphans
from aetheris.store import embedded_place as place
from aetheris.store.embedded_place import Place

MAJOR = "18"
DATABASE = "aetheris"
ADMIN = "aetheris_admin"
WAIT_SECONDS = 60
ORPHAN_SECONDS = 5
LOGGER_SECONDS = 10
_POLL_SECONDS = 0.05

# Durability is never traded for speed: fsync, synchronous_commit and full_page_writes stay on.
_SETTINGS = """\
# Written by Aetheris at every start; change postgresql.conf below its include line instead.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
wal_buffers = 16MB
max_wal_size = 2GB
checkpoint_timeout = 15min
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = on
jit = off
max_parallel_workers_per_gather = 0
timezone = 'UTC'
# Jobs are updated at every step: clean up soon and in small portions.
autovacuum_naptime = 15s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
autovacuum_max_workers = 2
# A week of logs, one file a day. Terse: a DETAIL line would show the values of a row.
logging_collector = on
log_directory = '../log'
log_filename = 'postgresql-%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_error_verbosity = terse
log_parameter_max_length_on_error = 0
"""

# Refusals of a start that pass by themselves: backends of a killed server, or a server coming or going.
_PASSING = re.compile(r"is still in use|lock file \".*\" (?:already exists|is empty)")
_GRAVE = re.compile(r"\b(?:FATAL|PANIC|ERROR|error): +(.*)")


def ensure_running(here: Place) -> str:
    """Return the version of a server that answers and has its database, made and started where it had to be.

    Errors: Refused, with the server's own last word.
    """
    started_at = time.monotonic()
    said = "it does not accept connections yet"
    while True:
        state, version = look(here)
        if state == "running":
            return version
        seconds = time.monotonic() - started_at
        if seconds > WAIT_SECONDS:
            raise Refused(
                f"embedded PostgreSQL: the server in {here.folder} is not up after {WAIT_SECONDS} s: {said}. "
                f"Try again in a moment; its log is in {here.log}."
            )
        if state == "bare":
            _make_database(here)
        elif state == "starting":
            time.sleep(_POLL_SECONDS)
        elif problem := _start(here, patient=seconds < ORPHAN_SECONDS):
            said = problem
            time.sleep(_POLL_SECONDS)


def stop(here: Place) -> None:
    """Stop the server, if one runs, letting it finish what is committed. Errors: Refused after a minute."""
    if not (here.data / "postmaster.pid").exists():
        return
    tool = place.binaries(here.account) / "pg_ctl"
    done = here.account.run([tool, "-w", "-s", "-t", WAIT_SECONDS, "-m", "fast", "-D", "data", "stop"], here.folder)
    if done.returncode != 0 and look(here)[0] != "stopped":
        raise Refused(
            f"embedded PostgreSQL: the server in {here.folder} does not stop: {_last(done.stdout)}. "
            f"Its log is in {here.log}."
        )


def look(here: Place) -> tuple[str, str]:
    """Return absent, stopped, starting, bare (it runs, its database isn't made yet) or running; and the version.

    Changes nothing. Errors: Refused when the server is another user's.
    """
    if not (here.data / "PG_VERSION").exists():
        return "absent", ""
    if not here.socket.exists():
        return "stopped", ""
    try:
        with _connect(here) as link:
            number = link.info.server_version
            found = link.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        return "running" if found else "bare", f"{number // 10000}.{number % 10000}"
    except psycopg.OperationalError as error:
        text = str(error)
        if "ermission denied" in text:
            raise Refused(
                f"embedded PostgreSQL: the server in {here.folder} belongs to user {here.account.name}, and its socket "
                f"is closed to you. Name another folder in AETHERIS_HOME, or a server in AETHERIS_DSN."
            ) from None
        return "starting" if "the database system is" in text else "stopped", ""


def _connect(here: Place) -> psycopg.Connection:
    return psycopg.connect(
        host=str(here.socket_dir), port=place.PORT, user=ADMIN, dbname="postgres", connect_timeout=10, autocommit=True
    )


def _make_database(here: Place) -> None:
    with _connect(here) as link:
        link.execute(f"CREATE DATABASE {DATABASE}")


def _start(here: Place, *, patient: bool) -> str:
    """Start the server; return why it did not come up, when that may pass. Errors: Refused."""
    programs = place.binaries(here.account)
    _make_folders(here)
    _make_data(here, programs)
    orphans.drop_foreign_pids(here.data, here.socket)
    if not patient:
        orphans.quit_orphans(here.data)
    settings = _SETTINGS.format(port=place.PORT, socket_dir=here.socket_dir)
    _write(here, here.data / "aetheris.conf", settings)
    before = _log_sizes(here.log)
    command = [programs / "pg_ctl", "-w", "-s", "-t", WAIT_SECONDS, "-D", "data", "-l", "log/start.log", "start"]
    # Relative paths: pg_ctl hands them to a shell inside double quotes.
    done = here.account.run(command, here.folder)
    if done.returncode == 0:
        return ""
    text = _words(here, before)
    said = _last(text or done.stdout)
    if _PASSING.search(text):
        return said
    raise Refused(
        f"embedded PostgreSQL: the server in {here.folder} won't start: {said}. {_hint(said)}Its log is in {here.log}."
    )


def _make_folders(here: Place) -> None:
    if here.folder.parent != here.home and not here.folder.parent.is_dir():
        here.folder.parent.mkdir(mode=0o755, parents=True)
        (here.folder.parent / "home").write_text(f"{here.home}\n")
    for folder in (here.folder, here.log):
        here.account.own(folder)
    place.make_socket_dir(here)


def _make_data(here: Place, programs: Path) -> None:
    version = here.data / "PG_VERSION"
    if version.exists():
        found = version.read_text("ascii", "replace").strip()
        if found != MAJOR:
            raise Refused(
                f"embedded PostgreSQL: {here.data} is of PostgreSQL {found}, and this is {MAJOR}. "
                f"Move it by pg_dump and restore, or name another folder in AETHERIS_HOME."
            )
        return
    if here.data.exists():
        raise Refused(
            f"embedded PostgreSQL: {here.data} is not a data directory of PostgreSQL (it has no PG_VERSION). "
            f"Move it away, or name another folder in AETHERIS_HOME."
        )
    for left in here.folder.glob("new-*"):  # of an initdb that was killed; pg.lock says it is nobody's
        shutil.rmtree(left)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=here.folder))
    try:
        here.account.own(fresh)
        _initdb(here, programs, fresh)
        fresh.rename(here.data)
        _sync(here.folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _initdb(here: Place, programs: Path, fresh: Path) -> None:
    done = here.account.run(
        [
            programs / "initdb", "-D", fresh.name, "-U", ADMIN, "--auth-local=trust", "--auth-host=reject",
            "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions",
        ],
        here.folder,
    )  # fmt: skip
    if done.returncode != 0:
        said = _last(done.stdout)
        raise Refused(f"embedded PostgreSQL: can't make {here.data}: {said}. {_hint(done.stdout)}".rstrip())
    _write(here, fresh / "pg_hba.conf", "local all all trust\n")
    with (fresh / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude_if_exists = 'aetheris.conf'\n")
        os.fsync(conf.fileno())


def _write(here: Place, path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text)
    if os.geteuid() == 0:
        os.chown(scratch, here.account.uid, here.account.gid, follow_symlinks=False)
    scratch.chmod(0o600)
    scratch.replace(path)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _log_sizes(log: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in log.glob("*.log")}


def _words(here: Place, before: dict[Path, int]) -> str:
    """Return what a server that did not come up said, waiting for its logger to have written it."""
    started_at = time.monotonic()
    while True:
        ended = not orphans.any_in(here.data)  # asked before reading: what was said before the end is in the files
        text = _log_since(here.log, before)
        if ended or _PASSING.search(text) or time.monotonic() - started_at > LOGGER_SECONDS:
            return text
        time.sleep(_POLL_SECONDS)


def _log_since(log: Path, before: dict[Path, int]) -> str:
    parts = []
    for path in sorted(log.glob("*.log"), key=lambda found: found.stat().st_mtime):
        with path.open("rb") as file:
            size = before.get(path, 0)
            file.seek(size if size <= path.stat().st_size else 0)
            parts.append(file.read().decode("utf-8", "replace"))
    return "\n".join(parts)


def _last(text: str) -> str:
    """Return the last grave line of a log, else its last line."""
    grave = _GRAVE.findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (grave or lines or ["it said nothing"])[-1].strip().rstrip(".")


def _hint(said: str) -> str:
    if "No space left" in said or "quota" in said:
        return "Free some space and try again. "
    return ""
