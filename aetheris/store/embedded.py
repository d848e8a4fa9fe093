"""The embedded PostgreSQL: a real server in the project's folder, with no set-up and no port.

Any process may start it, or start it again after a crash. Two locks of the
kernel in the home folder, so that a killed process's hold is gone with it:

    pg.lock   held exclusively while somebody starts or stops the server
    pg.use    held shared by every process that uses the server

Entering: take pg.lock, take pg.use shared, see that the server answers (else
start it), let pg.lock go. Leaving: take pg.lock, and whoever can turn its
share of pg.use into an exclusive hold was the last, and stops the server,
unless `pg.up` says that a person wants it kept (`aetheris up`, until `down`).
A killed last user leaves the server running; the next one to leave stops it.

A process that forks must not use its parent's `Running` in the child.
`embedded_place` decides where data, sockets and binaries are and as whom the
server runs; `embedded_cluster` makes the data and starts and stops the server.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from aetheris.domain.errors import AetherisError, Refused
from aetheris.store import embedded_cluster as cluster
from aetheris.store import embedded_place as place
from aetheris.store.embedded_lock import Lock

DATABASE = cluster.DATABASE
ADMIN = cluster.ADMIN


@dataclass(frozen=True, slots=True)
class Status:
    """What can be said of the embedded server without starting it."""

    home: Path
    folder: Path  # where data, logs and (mostly) the socket are
    socket_dir: Path
    user: str  # the system user that the server runs as
    state: str  # absent (never started), stopped, starting, bare (its database isn't made yet) or running
    version: str  # "18.4" when running
    kept: bool  # `aetheris up` holds it until `aetheris down`
    in_use: bool  # some process uses it now
    note: str  # why data or binaries are elsewhere than one would look, or empty


class Embedded:
    """The embedded PostgreSQL of one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = Path(os.path.realpath(home))

    def start(self) -> Running:
        """Return a hold on a server that answers, starting it where none does.

        The server stays up at least until `release`, whoever else comes and
        goes. Takes well under a second; the first time about one.

        Errors: Refused, saying in one line what stands in the way.
        """
        with _one_line(self.home):
            place.make_home(self.home)
            with self._starting():
                use = Lock(self.home / "pg.use")
                use.shared()
                try:
                    here = place.locate(self.home)
                    version = cluster.ensure_running(here)
                except BaseException:
                    use.close()
                    raise
        return Running(self, here, version, use)

    def keep(self) -> Running:
        """Like `start`, and the server outlives its users until `down`."""
        running = self.start()
        with _one_line(self.home):
            place.owned_file(self._kept, self.home)
        return running

    def down(self) -> bool:
        """End `keep`. True when the server is stopped now, False while others still use it."""
        if not self.home.is_dir():
            return True
        with _one_line(self.home), self._starting():
            self._kept.unlink(missing_ok=True)
            return self._stop_if_unused(Lock(self.home / "pg.use"))

    def status(self) -> Status:
        """Say where the server is and how it is, changing nothing."""
        with _one_line(self.home):
            here = place.locate(self.home, make=False)
            state, version = cluster.look(here)
            return Status(
                home=self.home,
                folder=here.folder,
                socket_dir=here.socket_dir,
                user=here.account.name,
                state=state,
                version=version,
                kept=self._kept.exists(),
                in_use=self._in_use(),
                note=here.note,
            )

    def _starting(self) -> Lock:
        lock = Lock(self.home / "pg.lock")
        lock.exclusive(cluster.WAIT_SECONDS + 30)
        return lock

    def _leave(self, use: Lock) -> None:
        with _one_line(self.home), self._starting():
            if self._kept.exists():
                use.close()
            else:
                self._stop_if_unused(use)

    def _stop_if_unused(self, use: Lock) -> bool:
        with use:
            if not use.try_exclusive():
                return False
            cluster.stop(place.locate(self.home, make=False))
            return True

    def _in_use(self) -> bool:
        if not (self.home / "pg.use").exists():
            return False
        # Asked under pg.lock: a test hold on pg.use must not look like a user to whoever is leaving.
        with Lock(self.home / "pg.lock") as starting, Lock(self.home / "pg.use") as use:
            return not (starting.try_exclusive() and use.try_exclusive())

    @property
    def _kept(self) -> Path:
        return self.home / "pg.up"


class Running:
    """A hold on a running server. Ends with `release`, the `with` block, or the process."""

    def __init__(self, server: Embedded, here: place.Place, version: str, use: Lock) -> None:
        self.version = version
        self.note = here.note
        self._server = server
        self._socket_dir = here.socket_dir
        self._use: Lock | None = use
        self._pid = os.getpid()
        self._releasing = threading.Lock()
        atexit.register(self._at_exit)

    def dsn(self, user: str, database: str = DATABASE) -> str:
        """Return the URI for `user`: libpq, psycopg and (its scheme changed) SQLAlchemy take it."""
        return uri(self._socket_dir, user, database)

    def release(self) -> None:
        """Let go. The last to leave stops the server, unless it is kept up. Safe twice."""
        with self._releasing:
            use, self._use = self._use, None
        if use is None:
            return
        atexit.unregister(self._at_exit)
        if os.getpid() != self._pid:
            return  # a forked child: the hold is its parent's
        self._server._leave(use)

    def _at_exit(self) -> None:
        try:
            self.release()
        except AetherisError:
            return  # nobody is left to tell; the next start sees what is wrong

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def uri(socket_dir: Path, user: str, database: str) -> str:
    """Return the connection URI; the port stands in it so that no PGPORT of the caller's gets in the way."""
    host = quote(str(socket_dir), safe="")
    return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}&port={place.PORT}"


@contextmanager
def _one_line(home: Path) -> Iterator[None]:
    """Turn what the system refuses into one line that says what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or home
        raise Refused(f"embedded PostgreSQL: {where}: {error.strerror or error}. {place.advice(error)}") from error
