"""The operator keeps a store small: seals, holds, collects, erases, compacts; every refusal has words."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from aetheris.store.database import Database
from tests.acceptance.terminal import Terminal

AGENT = """
import aetheris as ae

@ae.tool
async def refund(cents: int) -> str:
    return f"paid {cents}"

@ae.agent(version="1")
async def desk(ctx: ae.Context, cents: int) -> str:
    return await ctx.call(refund, cents=cents)
"""


class Keeper(Terminal):
    """A terminal whose agent ends at once, in a store that can be made older."""

    def ran(self, cents: int) -> str:
        """Run a job to its end; return its id."""
        (self.folder / "in.json").write_text(str(cents))
        return str(self.json("submit", "agents:desk", "-i", "in.json", "--wait")["job"])

    def aged(self) -> None:
        """Make what there is a hundred days older."""
        with psycopg.connect(self.database.admin_dsn) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "UPDATE aetheris.jobs SET created_at = created_at - interval '100 days',"
                " updated_at = updated_at - interval '100 days'"
            )


@pytest.fixture
def terminal(tmp_path: Path, database: Database) -> Keeper:
    """A terminal."""
    return Keeper(tmp_path, database, "agents.py", AGENT)


def test_from_end_to_archive(terminal: Keeper) -> None:
    """Sealed, mirrored, held, collected; traced and exported from the lake to the byte; erased there too."""
    job = terminal.ran(700)
    assert terminal.json("seal")["sealed"] == 1
    terminal.run("mirror")
    before = terminal.run("trace", job[:8])
    assert before.endswith('\nresult     "paid 700"\n')
    told = terminal.json("trace", job[:8])
    assert told["result"] == "paid 700"
    terminal.run("export", job[:8], "-o", "before.zip")
    terminal.aged()
    terminal.run("hold", job[:8], "--why", "case 7")
    assert "case 7" in terminal.run("hold")
    assert terminal.json("gc")["kept"] == {"held": 1}
    assert "legal hold" in terminal.run("erase", job[:8], "--all", "--why", "x", code=2)
    terminal.run("hold", job[:8], "--release", "--why", "settled")
    assert "1 job" in terminal.run("gc", "--dry-run")
    assert terminal.json("gc")["jobs"] == 1
    assert job[:8] not in terminal.run("jobs")
    assert terminal.run("trace", job[:8]) == before
    terminal.run("export", job[:8], "-o", "after.zip")
    assert (terminal.folder / "before.zip").read_bytes() == (terminal.folder / "after.zip").read_bytes()
    assert "collected" in terminal.run("jobs", "--collected")
    done = terminal.json("erase", job[:8], "1/input", "--why", "request of today")
    assert done["cells"] == [[1, "input"]]
    terminal.run("erase", job[:8], f"{told['events']}/result", "--why", "request of today")
    assert terminal.run("trace", job[:8]).endswith("\nresult     (erased)\n")
    assert terminal.json("trace", job[:8])["result"] is None
    terminal.run("export", job[:8], "-o", "erased.zip")
    assert "2 erased on record" in subprocess.run(
        [sys.executable, "-m", "aetheris", "verify", "erased.zip"],
        cwd=terminal.folder, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    terminal.run("check")
    assert "1 collected" in terminal.run("doctor")
    # Without its lake the job is known, and where it should be is said.
    (terminal.folder / "home" / "lake").rename(terminal.folder / "elsewhere")
    assert "was collected and is in the lake only" in terminal.run("trace", job[:8], code=2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gc", "--older-than", "0"), "makes no sense"),
        (("gc", "--older-than", "-90"), "makes no sense"),
        (("gc", "--lake", "nowhere"), "no such folder"),
        (("hold", "zzz", "--why", "x"), "no job starts with"),
        (("erase", "zzz", "--all", "--why", "x"), "no job starts with"),
        (("erase", "zzz", "--why", "x"), "name cells as EVENT/NAME"),
        (("erase", "zzz", "args", "--why", "x"), "names no cell"),
    ],
)
def test_bad_input_is_one_line(terminal: Keeper, words: tuple[str, ...], says: str) -> None:
    """What, where, what to do; nothing is lost."""
    if words[:2] == ("gc", "--lake"):
        terminal.ran(1)
        terminal.run("seal")
        terminal.aged()
        assert says in terminal.run(*words, code=2)
        return
    assert says in terminal.run(*words, code=2)


def test_a_mirror_that_follows_keeps_the_house(terminal: Keeper) -> None:
    """Nobody has to think of seals, collections and erasures: they happen beside the rounds."""
    job = terminal.ran(5)
    terminal.run("seal")
    terminal.run("mirror")
    terminal.aged()
    late = terminal.ran(6)
    (terminal.folder / "aetheris.yaml").write_text("runtime:\n  gc:\n    interval: 1s\n")
    with (terminal.folder / "log").open("w") as log:
        mirror = subprocess.Popen(
            [sys.executable, "-m", "aetheris", "mirror", "--follow"],
            cwd=terminal.folder, env=terminal.env, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            rows = [r["job"] for r in terminal.json("jobs")]
            told = (terminal.folder / "log").read_text()
            if rows == [late] and "sealed" in told and "collected" in told:
                break
            time.sleep(0.3)
        else:
            raise AssertionError((terminal.folder / "log").read_text())
    finally:
        mirror.send_signal(signal.SIGTERM)
        assert mirror.wait(30) == 0
    assert terminal.json("trace", job[:8])["status"] == "completed"
