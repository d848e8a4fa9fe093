"""The notebooks over records (00, 01, 05) stop when their claim is broken, at the assert that makes it.

The same harness runs each of them whole and unbroken, so a stop is the
breakage's doing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

import aetheris as ae
import aetheris.evidence
import aetheris.workbench as wb
from aetheris.demo import first, tampering
from aetheris.evidence import Summary
from aetheris.runtime.submit import Submitter
from aetheris.workbench import desk

from .notebook_cells import FIXTURES, NOTEBOOKS, Names, flip, run


@pytest.fixture(autouse=True)
def in_the_notebooks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the cells are relative to it; the demo's bank is empty, as in a new kernel."""
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(first, "BANK", [])


@pytest.fixture
def fixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures that the notebooks open, where they find it."""
    copy = tmp_path / "data" / "fixtures"
    for name in ("clean", "ended_in_doubt", "evidence"):
        shutil.copytree(FIXTURES / name, copy / name)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return copy


def edited_line(names: Names) -> None:
    """Exchange the lake for one in which somebody edited a line."""
    names["lake"] = wb.open(FIXTURES / "edited_line")


def edit_event_two(names: Names) -> None:
    """Change the job's second event in the store, as whoever owns the machine may."""
    with psycopg.connect(names["system"]._core.database.admin_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        done = connection.execute(
            """UPDATE aetheris.job_events SET line = replace(line, '"by":"', '"by":"x') WHERE seq = 2"""
        )
        assert done.rowcount == 1


@pytest.mark.parametrize("name", ["00_start_here", "01_trace", "05_evidence"])
def test_unbroken_they_run_through(name: str) -> None:
    """What stops below stops because of what was broken."""
    assert run(name) == []


def test_00_a_key_that_is_not_kept_and_an_approval_that_nobody_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key twice is the same job; nothing is paid before a person said yes."""
    prepare: Callable[..., Any] = Submitter.prepare
    monkeypatch.setattr(Submitter, "prepare", lambda self, *a, **k: prepare(self, *a, **{**k, "key": None}))

    async def yes(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(ae.Context, "approval", yes)
    twice, unasked = run("00_start_here", until="assert BANK == []")
    assert twice.statement == "assert again.id == job.id"
    assert unasked.statement == "assert BANK == []"


def test_00_an_event_edited_in_the_store() -> None:
    """It is not sealed, the checks find it, and it is not exported as sound."""
    unsealed, found, kept = run(
        "00_start_here", before={"first = system.mirror()": edit_event_two}, until="lake.jobs[0].export"
    )
    assert (unsealed.statement.partition(",")[0], unsealed.said) == (
        "assert sealed == 1",
        "AssertionError: the job was not sealed",
    )
    assert found.statement == "assert checks.passed"
    assert isinstance(kept.error, ae.Corrupt)


def test_00_a_changed_byte_of_the_lake_and_of_the_package() -> None:
    """Opening a lake and verifying a package are worth something because these stop."""

    def spoil_lake(names: Names) -> None:
        flip(next((names["system"].lake / "events").rglob("*.parquet")))

    (refused,) = run("00_start_here", before={"lake = wb.open(system.lake)": spoil_lake}, until="lake = wb.open")
    assert refused.statement == "lake = wb.open(system.lake)"
    assert isinstance(refused.error, ae.Corrupt)
    first.BANK.clear()
    spoil_zip = {'wb.verify(folder / "e.zip")': lambda names: flip(names["folder"] / "e.zip", 2_000)}
    (failed,) = run("00_start_here", before=spoil_zip)
    assert failed.statement == "assert verdict.exit_code == 3"


def test_01_a_changed_byte_of_the_lake(fixtures: Path) -> None:
    """The first cell says that it would refuse."""
    flip(next((fixtures / "clean").rglob("*.parquet")))
    (refused,) = run("01_trace", until='lake = wb.open("../data/fixtures/clean")')
    assert isinstance(refused.error, ae.Corrupt)


def test_01_an_edited_line_a_defect_that_is_not_there_and_a_spoilt_package(fixtures: Path) -> None:
    """Checks that pass over a broken store, or find something in a sound one, would be worth nothing."""
    shutil.rmtree(fixtures / "ended_in_doubt")
    shutil.copytree(fixtures / "clean", fixtures / "ended_in_doubt")
    clean: Names = {}
    edited, sound, spoilt = run(
        "01_trace",
        before={
            "checks = lake.check()": lambda names: (clean.update(names), edited_line(names)),
            "broken = wb.open": lambda names: names.update(lake=clean["lake"]),
            "wb.verify(evidence)": lambda names: flip(names["evidence"], 2_000),
        },
    )
    assert edited.statement == "assert checks.passed"
    assert sound.statement == "assert not broken.passed"
    assert spoilt.statement == "assert verdict.exit_code == 3"


def test_05_other_bytes_each_time_a_spoilt_package_a_blind_verifier_and_a_redaction_that_drops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One claim of each section, broken: the same bytes, the verdict, every layer seen, the cell that must not be."""
    write = desk.write

    def restless(source: Any, path: Path, **given: Any) -> Summary:
        return replace(write(source, path, **given), sha256=os.urandom(32).hex())

    monkeypatch.setattr(desk, "write", restless)
    monkeypatch.setattr(
        tampering, "tampered", lambda path: [tampering.Tampered("integrity", "nothing", path.read_bytes())]
    )
    monkeypatch.setattr(aetheris.evidence, "redact", lambda given, path, _: shutil.copy(given, path))
    others, failed, blind, shown = run(
        "05_evidence",
        before={'verdict = wb.verify(folder / "e.zip")': lambda names: flip(names["folder"] / "e.zip", 2_000)},
    )
    assert others.statement == "assert summary.sha256 == again.sha256"
    assert failed.statement == "assert verdict.exit_code == 3"
    assert blind.statement == 'assert all(row["exit"] == 1 for row in verdicts)'
    assert shown.statement.startswith('assert "1 redacted" in')


def test_05_a_signed_package_with_a_changed_byte(fixtures: Path) -> None:
    """Signed and spoilt is not verified."""
    flip(fixtures / "evidence" / "signed.zip", 2_000)
    (failed,) = run("05_evidence", until="wb.verify(signed, trust=key)")
    assert failed.statement == "assert verdict.exit_code == 0"
