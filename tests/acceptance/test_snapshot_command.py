"""`aetheris snapshot` and what `doctor` says of snapshots, as an operator meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg

from aetheris.store.database import Database
from tests.acceptance.test_operate import Desk, desk

__all__ = ["desk"]


def test_a_snapshot_is_taken_by_hand_and_a_tampered_one_is_reported(
    desk: Desk, database: Database, tmp_path: Path
) -> None:
    """Taken at rest, said to be there already, reported once someone wrote into it, refused of an ended job."""
    (tmp_path / "cents.json").write_text("4200")
    job = desk.json("submit", "desk:rebook", "-i", "cents.json")["job"]
    desk.until("signal note", job)
    assert "snapshot at event 3, 3 events since the last" in desk.run("snapshot", job[:10])
    assert "has a snapshot at its event 3 already" in desk.run("snapshot", job)
    assert _snapshots(desk)["state"] == "ok"
    with psycopg.connect(database.admin_dsn, autocommit=True) as superuser:
        superuser.execute("UPDATE aetheris.job_snapshots SET body = convert_to('{}', 'UTF8')")
    told = _snapshots(desk, code=1)
    assert told["state"] == "bad"
    assert f"job {job[:8]} at event 3" in told["text"]
    taken = desk.json("snapshot", job)
    assert taken == {"job": job, "taken": True, "seq": 3}
    assert _snapshots(desk)["state"] == "ok"
    desk.run("cancel", job)
    desk.until("cancelled", job)
    assert "has ended: nothing will replay it" in desk.run("snapshot", job, code=2)
    assert "no job starts with" in desk.run("snapshot", "nosuchjob", code=2)


def _snapshots(desk: Desk, code: int = 0) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "aetheris", "doctor", "--json"],
        cwd=desk.folder, env=desk.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, str] = next(f for f in json.loads(done.stdout) if f["what"] == "snapshots")
    return found
