"""The operator at the terminal: what waits for a person is listed, answered and on record; bad input is one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aetheris.store.database import Database
from tests.acceptance.terminal import Terminal

AGENTS = """
import aetheris as ae

@ae.tool
async def refund(cents: int) -> str:
    raise ConnectionResetError("the line broke")

@ae.agent(version="4")
async def rebook(ctx: ae.Context, cents: int) -> str:
    note = await ctx.wait_signal("note")
    if not await ctx.approval(f"Refund {cents}?", role="operator"):
        return f"refused: {note}"
    return await ctx.call(refund, cents=cents)
"""


class Desk(Terminal):
    """A terminal whose agent waits for people."""

    def until(self, waits_for: str, job: str) -> None:
        """Wait until the job rests so."""
        for _ in range(200):
            row = next(r for r in self.json("jobs") if r["job"] == job)
            if row["waits_for"].startswith(waits_for) or row["status"] == waits_for:
                return
            time.sleep(0.1)
        raise AssertionError(f"the job never came to wait for {waits_for}: {row}")


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[Desk]:
    """A desk with its worker."""
    made = Desk(tmp_path, database, "desk.py", AGENTS)
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "aetheris", "worker", "desk:rebook", "--lease", "5"],
            cwd=tmp_path, env=made.env, stdout=log, stderr=log,
        )  # fmt: skip
        yield made
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


def test_a_job_is_brought_through_signal_approval_and_doubt_by_hand(desk: Desk) -> None:
    """What as_used shows: listed with the reason, answered, resolved, traced, replayed."""
    (desk.folder / "cents.json").write_text("4200")
    (desk.folder / "receipt.json").write_text('"R-17"')
    (desk.folder / "broken.json").write_text('{"a": ')
    job = desk.json("submit", "desk:rebook", "-i", "cents.json")["job"]
    desk.until("signal note", job)
    assert desk.json("jobs", "--parked") == []
    assert "sent" in desk.run("signal", job[:12], "note", "-i", "cents.json")
    desk.until("approval 2", job)
    parked = desk.run("jobs", "--parked")
    assert "asks: Refund 4200?" in parked
    assert "for the role operator, not user" in desk.run("approve", job, "2", "--role", "user", code=1)
    assert "no approval is open at step 9" in desk.run("approve", job, "9", code=2)
    assert "approved" in desk.run("approve", job, "2", "--why", "called")
    desk.until("doubt 3 refund", job)
    assert "ConnectionResetError" in desk.run("jobs", "--parked")
    head = desk.json("trace", job)["events"]
    assert "broken.json" in desk.run(
        "resolve", job, "3", "--as", "done", "--result", "broken.json", "--why", "x", code=2
    )
    assert "goes with --as done" in desk.run(
        "resolve", job, "3", "--as", "failed", "--result", "receipt.json", "--why", "x", code=2
    )
    assert "approved" not in desk.run("resolve", job, "2", "--as", "done", "--why", "x", code=2)
    assert "not known to be gone" in desk.run("resolve", job, "3", "--as", "not-done", "--why", "x", code=2)
    assert desk.json("trace", job)["events"] == head
    desk.run("resolve", job, "3", "--as", "done", "--result", "receipt.json", "--why", "bank statement, line 4")
    desk.until("completed", job)
    assert "completed: it takes no signal" in desk.run("signal", job, "late", code=2)
    assert "completed: it takes no cancel" in desk.run("cancel", job, code=2)
    assert "only a failed or cancelled job" in desk.run("retry", job, code=2)
    traced = desk.run("trace", job)
    assert "approved by user/" in traced
    assert "started, unknown, resolved" in traced
    assert "the same: " in desk.run("replay", job[:10], "desk:rebook")
    changed = AGENTS.replace('"note"', '"memo"')
    (desk.folder / "other.py").write_text(changed)
    differs = desk.run("replay", job, "other:rebook", code=1)
    assert "the code asks for signal memo at" in differs
    assert "version" not in differs
    # Whatever comes of it, other code is told from the recorded one by its version.
    for text, code in ((AGENTS, 0), (changed, 1)):
        (desk.folder / "other.py").write_text(text.replace('version="4"', 'version="5-b"'))
        assert "; version 4 of rebook is on record, this is 5-b" in desk.run("replay", job, "other:rebook", code=code)


def test_a_cancelled_job_is_retried_as_a_new_one(desk: Desk) -> None:
    """Pause, resume, cancel, retry: each a word on the record."""
    (desk.folder / "cents.json").write_text("1")
    job = desk.json("submit", "desk:rebook", "-i", "cents.json")["job"]
    desk.until("signal note", job)
    desk.run("pause", job, "--why", "audit")
    desk.until("paused", job)
    assert "paused by user/" in desk.run("jobs", "--parked")
    desk.run("resume", job)
    desk.until("signal note", job)
    desk.run("cancel", job, "--why", "customer left")
    desk.until("cancelled", job)
    again = desk.json("retry", job)
    assert again["retry_of"] == job
    desk.until("signal note", again["job"])
    desk.until("signal note", desk.json("submit", "desk:rebook", "-i", "cents.json")["job"])
    assert desk.run("jobs", "--parked", "--limit", "1") == (
        "no job waits for a person among the newest 1 that wait; --limit N shows more\n"
    )
