"""A hundred kills at every boundary, in the order of a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aetheris.store.database import Database
from tests.crash.campaign import POINTS, campaign


@pytest.mark.timeout(900)  # two hundred workers are started: a busy machine takes over three minutes
def test_a_hundred_kills_duplicate_nothing_lose_nothing_and_leave_nothing_stuck(
    database: Database, tmp_path: Path
) -> None:
    """`make crash SEEDS=1000` is the same for longer."""
    verdict, made = campaign(database.admin_dsn, tmp_path, seed=1, kills=100)
    verdict.assert_clean()
    assert verdict.completed == len(made.jobs)
    struck = {name.partition(":")[0] for name in made.kills}
    assert verdict.snapshots > 20
    assert len(struck & set(POINTS)) >= 10, made.kills
