"""The demo's agent served by a worker of its own: it runs jobs, and leaves when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aetheris.store.database import Database

WORDS = [sys.executable, "-m", "aetheris"]


def test_an_airline_worker_that_ran_jobs_leaves_on_sigterm(tmp_path: Path, database: Database) -> None:
    """The desk opens a pool at its first call: left open, its tasks kept the process from ever ending."""
    env = {**os.environ, "AETHERIS_DSN": database.admin_dsn, "AETHERIS_HOME": str(tmp_path / "home")}
    script = {"world": "nowhere/1", "task_id": 1, "trial": 0, "turns": [
        {"said": "Let me look.", "tool": "calculate", "arguments": json.dumps({"expression": "1 + 1"})},
        {"tool": "list_all_airports"},
    ]}  # fmt: skip
    (tmp_path / "script.json").write_text(json.dumps(script))

    def run(*words: str) -> Any:
        # Never --wait: that would run the job in the submitter where the worker isn't there yet.
        done = subprocess.run(
            [*WORDS, *words, "--json"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [*WORDS, "worker", "aetheris.demo.airline:airline"], cwd=tmp_path, env=env, stdout=log, stderr=log
        )
        try:
            run("submit", "aetheris.demo.airline:airline", "-i", "script.json")
            deadline = time.monotonic() + 60
            while run("jobs")[0]["status"] != "completed":
                assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
                time.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0, (tmp_path / "worker.log").read_text()
        finally:
            worker.kill()
    told = (tmp_path / "worker.log").read_text()
    assert "1 completed" in told
    assert "Traceback" not in told
    assert "never retrieved" not in told
    assert "was destroyed" not in told
