"""`make` on a machine where the environment can't be made whole: by a Python that says what happens."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
#: Asked for its version it is content; asked for an environment it begins one, and ends otherwise.
PYTHON = """#!/bin/sh
test "$1" = -c && exit 0
mkdir -p .venv/bin && ln -s /bin/true .venv/bin/python
echo "{said}" >&2
{end}
"""


@pytest.mark.parametrize(
    ("said", "end", "shown"),
    [
        ("ensurepip is not available", "exit 1", "ensurepip is not available\n"),
        ("Traceback (most recent call last)", "kill -INT 0; sleep 9", ""),
    ],
    ids=["failed", "Ctrl-C"],
)
def test_half_an_environment_is_not_taken_for_one(tmp_path: Path, said: str, end: str, shown: str) -> None:
    """It is begun again, and what was interrupted shows no traceback. Twice, as people type it again."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    python = tmp_path / "python"
    python.write_text(PYTHON.format(said=said, end=end))
    python.chmod(0o755)
    environ = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")} | {"LC_ALL": "C"}
    for _ in range(2):
        done = subprocess.run(
            ["make", "demo", f"PYTHON={python}"],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, start_new_session=True, timeout=30,
        )  # fmt: skip
        lines = done.stderr.splitlines(keepends=True)
        assert "".join(line for line in lines if not line.startswith("make")) == shown
        assert not done.stdout  # nothing was installed into it
        assert not (tmp_path / ".venv/bin/python").exists()
