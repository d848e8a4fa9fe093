"""What the tests of the embedded PostgreSQL share: a user of it in a process of its own, and cleaning up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aetheris.store import embedded_place
from aetheris.store.embedded import Embedded

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


def clean(home: Path) -> None:
    """Stop what runs in `home`, and remove what is elsewhere for it."""
    if home.is_dir():
        Embedded(home).down()
    outside = embedded_place.SYSTEM_ROOT / embedded_place.digest(home)
    shutil.rmtree(outside, ignore_errors=True)


def user(home: Path) -> subprocess.Popen[str]:
    """Start a user of the server of `home`."""
    command = [sys.executable, "-c", USER, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def leave(user: subprocess.Popen[str]) -> None:
    """Let a user go, and see it end well."""
    user.communicate("leave\n", timeout=60)
    assert user.returncode == 0
