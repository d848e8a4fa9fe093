"""Somebody at the terminal: a folder, an agent in it, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from aetheris.store.database import Database


class Terminal:
    """A folder with an agent's file, and commands typed there against a database."""

    def __init__(self, folder: Path, database: Database, name: str, agents: str) -> None:
        self.folder, self.database = folder, database
        self.env = {**os.environ, "AETHERIS_DSN": database.admin_dsn, "AETHERIS_HOME": str(folder / "home")}
        (folder / name).write_text(agents)

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command; return what it prints, or its one line of complaint where `code` is not 0."""
        done = subprocess.run(
            [sys.executable, "-m", "aetheris", *words],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        if code:
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr if code else done.stdout

    def json(self, *words: str) -> Any:
        """Run a command with --json and return its document."""
        return json.loads(self.run(*words, "--json"))
