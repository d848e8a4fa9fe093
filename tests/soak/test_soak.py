"""A minute of the soak, and that each of its alarms can ring."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.crash.driver import ROOT
from tests.crash.world import World
from tests.soak import figures
from tests.soak.agents import shard
from tests.soak.faults import EVERY_SECONDS, Faults, Outage, plan
from tests.soak.load import Submitted
from tests.soak.processes import Fleet
from tests.soak.reckon import Told

EXPECTED = frozenset(EVERY_SECONDS)


@pytest.mark.timeout(180)
def test_a_minute_of_faults_breaks_nothing(tmp_path: Path) -> None:
    """Each kind of fault once, and every job ends; `make soak` is the same for as long as one likes."""
    report = tmp_path / "soak.json"
    words = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--seed", "7", "--report", str(report)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(report.read_text())
    assert told["broken"] == []
    assert {told[name] for name in ("crashes", "duplicates", "lost", "stuck")} == {0}
    small = told["disk"].startswith("tmpfs")
    assert set(told["faults"]) == (EXPECTED if small else EXPECTED - {"disk full"})
    if small:
        assert told["no_space_postgres"] + told["no_space_ours"] > 0, "the disk was never full"
    assert told["jobs"] > 150
    assert told["check_passes"] >= 2
    assert told["records_checked"] > 10
    assert told["approved"] > 0
    assert told["signalled"] > 0
    assert told["overhead_jobs"] > 0
    assert (told["p95_overhead_ms"] is None) == (told["overhead_jobs"] < figures.LEAST_JOBS)
    # A minute tells nothing of memory and growth, and says so.
    assert (told["rss_slope_mb_per_h"], told["gb_per_month_pg"], told["gb_per_month_lake"]) == (None, None, None)
    assert "every invariant held" in done.stdout


@pytest.mark.parametrize(
    ("code", "said", "crashes", "turned_away"),
    [
        (2, "aetheris: can't reach PostgreSQL at /run (refused)", 0, 1),  # begun and told to end while it was away
        (2, "worker w serves stream\naetheris: can't reach PostgreSQL at /run (refused)", 1, 0),
        (1, "aetheris: a bug", 1, 0),
        (-signal.SIGTERM, "", 0, 0),
        (0, "worker w serves stream\ndrained    3 handed over", 0, 0),
    ],
)
def test_who_was_told_to_end_is_a_crash_by_how_it_left(code: int, said: str, crashes: int, turned_away: int) -> None:
    """In an hour one was told to end two seconds after its start, while PostgreSQL was killed."""
    process = SimpleNamespace(wait_dead=lambda seconds: None, code=code, tail=lambda: said)
    fleet = SimpleNamespace(crashes=[], turned_away=0)
    Fleet.ended_well(cast(Fleet, fleet), cast(Any, SimpleNamespace(name="worker 1", process=process)))
    assert (len(fleet.crashes), fleet.turned_away) == (crashes, turned_away)


@pytest.mark.parametrize("seconds", [46.0, 600.0, 3600.0])
def test_a_plan_is_the_seeds_and_holds_every_kind_within_its_first_minute(seconds: float) -> None:
    """A run that can't be repeated proves little of what it found."""
    planned = plan(3, seconds)
    assert planned == plan(3, seconds) != plan(4, seconds)
    assert {p.kind for p in planned if p.at < 60} == EXPECTED
    assert all(0 < p.at < seconds for p in planned)
    if seconds > 300:
        assert max(p.at for p in planned if p.kind == "kill mirror") < seconds * 0.5


def test_overhead_is_told_of_untouched_jobs_alone() -> None:
    """A takeover, an outage before or during, a limit, another kind of job: none of them counts."""
    faults = Faults(None, None, [], random.Random(1))  # type: ignore[arg-type]
    faults.outages = [Outage("kill postgres", 100.0, 102.0)]
    jobs = [Submitted(n, "t", kind, at, 1000, f"j{n}") for n, (kind, at) in enumerate([
        ("stream", 50.0), ("stream", 99.5), ("stream", 104.0), ("stream", 120.0), ("limited", 50.0), ("crowd", 50.0),
    ])]  # fmt: skip
    told = {j.job: Told("job_completed", 2 if j.number == 3 else 1, int((j.at + 1.25) * 1e6), 9) for j in jobs}
    assert figures.overhead_ms(jobs, told, faults) == [250.0]
    assert figures.p95([250.0]) is None


def test_slopes_need_time_and_are_those_of_the_line() -> None:
    """A figure of a short run would be noise with a unit."""
    points = [(x / 100, 5.0 + 3 * x / 100) for x in range(100)]
    assert figures.slope(points, 0.5) == pytest.approx(3.0)
    assert figures.slope(points, 2.0) is None


def test_the_world_counts_what_is_done_twice(tmp_path: Path) -> None:
    """The shards of the world are counted as one."""
    key = "ab" * 32
    assert shard(tmp_path, key).path == World(tmp_path / "ab").path
    shard(tmp_path, key).effect(key)
    shard(tmp_path, key).effect(key)
    assert shard(tmp_path, key).duplicates == 1
