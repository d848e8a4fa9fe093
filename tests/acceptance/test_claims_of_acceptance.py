"""The notebook of all claims (07) stops in each section that is broken, and at its closing table.

One run with everything broken, each section by something of its own. What a
section claims besides still holds there, so a stop is the breakage's doing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aetheris.demo import long_jobs, neighbours, retired, rush, tampering
from aetheris.demo.tampering import Tampered
from aetheris.lake import parquet
from aetheris.runtime.config import Snapshots
from aetheris.runtime.system import AsyncSystem
from aetheris.workbench import desk

from .notebook_cells import NOTEBOOKS, flip, in_subprocesses, run
from .test_claims_of_runs import LIMITER_OFF, NOTHING_ON_RECORD, as_superuser, slow_and_without_snapshots


@pytest.fixture(autouse=True)
def in_the_notebooks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the cells are relative to it."""
    monkeypatch.chdir(NOTEBOOKS)


def test_07_everything_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Section by section, and all of it at the closing table."""
    in_subprocesses(monkeypatch, tmp_path / "broken", LIMITER_OFF + NOTHING_ON_RECORD)
    slow_and_without_snapshots(monkeypatch)
    walls, rushed, export = neighbours._walls, rush.run, desk.Job.export
    compacted, write_table = retired._compacted, parquet.pq.write_table

    def forced_no_more(folder: Path) -> str:
        as_superuser(folder / "home", "ALTER TABLE cells NO FORCE ROW LEVEL SECURITY")
        return walls(folder)

    def spoilt(self: desk.Job, path: Path) -> None:
        export(self, path)
        flip(path, 2_000)

    async def with_copies(system: AsyncSystem) -> int:
        as_superuser(
            system.lake.parent,
            "ALTER TABLE job_tombstones ADD COLUMN copy text DEFAULT repeat('x', 20000)",
            "ALTER TABLE job_tombstones ALTER COLUMN copy SET STORAGE EXTERNAL",
        )
        return await compacted(system)

    def as_it_is(rows: object, sink: object, **given: object) -> None:
        write_table(rows, sink, **{**given, "compression": "none", "use_dictionary": False})

    monkeypatch.setattr(neighbours, "_walls", forced_no_more)
    monkeypatch.setattr(retired, "_compacted", with_copies)
    monkeypatch.setattr(parquet.pq, "write_table", as_it_is)
    monkeypatch.setattr(long_jobs, "Snapshots", lambda **given: Snapshots(**{**given, "enabled": False}))
    monkeypatch.setattr(long_jobs, "TIMER_SECONDS_MOST", 1.0)
    monkeypatch.setattr(rush, "CALLS", 12)
    monkeypatch.setattr(rush, "run", lambda folder: rushed(folder, lanes=2, seconds=0.0, concurrency=1))
    monkeypatch.setattr(retired, "RETENTION_DAYS", 80)
    monkeypatch.setattr(desk.Job, "export", spoilt)
    monkeypatch.setattr(
        tampering, "tampered", lambda path: [Tampered("integrity", "nothing was done", path.read_bytes())]
    )
    rate, tenants, replay, timer, many, gone, month, evidence, table = run("07_acceptance")
    broken = {
        "rate.hold": (rate, ["starts a second: asked 10 ± 0.2", "starts in any one second: asked at most 11"]),
        "tenants.hold": (
            tenants,
            [
                "walls in PostgreSQL: asked up, measured the walls are not up: row-level security is not forced",
                "of these tries, on the audit record: asked 160, measured 0",
            ],
        ),
        "replay.hold": (replay, ["10,000 events, from a snapshot: asked less than 1 s", "read of these 10,000"]),
        "snapshots.hold": (timer, ["of a job of 1,100 events: asked ['timer'], measured []"]),
        "many.hold": (
            many,
            [
                "at the same instant: asked at least 100, measured 1",
                "submit to finish, P95: asked less than 5 s",
                "of that not the tools', P95: asked at most 500 ms",
                "jobs a minute: asked at least 60",
            ],
        ),
        "gone.hold": (gone, ["after 89 days: asked 0, measured 100", "after 100 days: asked 100, measured 0"]),
        "month.hold": (
            month,
            ["the lake grows by: asked less than 10 GB", "PostgreSQL grows by: asked less than 10 GB"],
        ),
        "evidence.hold": (
            evidence,
            [
                "unsigned: asked self-consistent, measured failed",
                "refused in the layer that was spoilt: asked 1, measured 0",
            ],
        ),
    }
    for asserted, (stopped, told) in broken.items():
        assert stopped.statement.startswith(f"assert {asserted}")
        assert all(text in stopped.said for text in told), stopped.said
    assert table.statement == "assert claims.hold, claims.broken"
    assert all(text in table.said for _, told in broken.values() for text in told)
