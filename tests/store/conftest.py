"""Homes of an embedded PostgreSQL: to be made, made once and copied, and left clean."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aetheris.store.embedded import Embedded
from tests.store.home_support import clean


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
    clean(path)


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
    clean(path)
