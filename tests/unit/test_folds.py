"""The desk's view of snapshots: it must say which one differs."""

from __future__ import annotations

from pathlib import Path

import aetheris.workbench as wb
from aetheris.demo.fixtures_jobs import rebooked, taken_over

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"


def test_folds_tell_sound_snapshots_from_wrong_ones() -> None:
    """Three are folds of their own events; one holds another job's."""
    folds = wb.open(FIXTURES / "snapshot_of_another_job").folds()
    one, two = rebooked(), taken_over()
    assert {(f.job, f.seq): f.same for f in folds.snapshots} == {
        (one.job, 5): True,
        (one.job, len(one.specs)): True,
        (two.job, 4): False,
        (two.job, 5): True,
    }
    assert not folds.all_same
    assert "DIFFERENT" in str(folds.table)


def test_a_lake_without_snapshots_claims_nothing() -> None:
    """No snapshot is no proof that snapshots are right."""
    folds = wb.open(FIXTURES / "clean").folds()
    assert len(folds) == 0
    assert not folds.all_same
