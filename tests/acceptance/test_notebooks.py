"""Saved notebooks: small, without widget state, without code that belongs elsewhere, and honest."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import aetheris.workbench as wb
from aetheris.demo.fixtures_jobs import scripts
from aetheris.demo.tampering import tampered
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.rows import Rows
from aetheris.evidence import CellSelector, redact
from aetheris.evidence.verdict import LAYERS
from aetheris.workbench.panels import EvidencePanel, TracePanel

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_saved_notebook_is_small_thin_and_carries_no_machine(path: Path) -> None:
    """Widget state makes megabytes; definitions and SQL have no tests in a notebook."""
    assert path.stat().st_size < 100_000
    notebook = json.loads(path.read_text())
    assert "widgets" not in notebook["metadata"]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        outputs = json.dumps(cell.get("outputs", []))
        assert not re.search(r"/(home|root|tmp|work)/", outputs)
        if cell["cell_type"] == "code":
            assert not re.search(r"^\s*(def|class|for|while)\s|\bselect\b", source, re.MULTILINE | re.IGNORECASE)
            assert len(source.splitlines()) <= 8
            assert cell["outputs"]


def test_a_changed_byte_is_refused_where_the_notebook_opens(tmp_path: Path) -> None:
    """What the notebook shows is only worth something if it refuses what was touched."""
    shutil.copytree(ROOT / "data" / "fixtures" / "clean", tmp_path / "clean")
    assert "every file's SHA-256 matches" in repr(wb.open(tmp_path / "clean"))
    for victim in sorted((tmp_path / "clean").rglob("*.parquet")):
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(Corrupt):
            wb.open(tmp_path / "clean")
        victim.write_bytes(whole)


def test_a_panel_says_as_values_what_it_shows() -> None:
    """A cell that only shows a panel proves only that it ran."""
    lake = wb.open(ROOT / "data" / "fixtures" / "clean")
    panel = TracePanel(lake)
    parked = lake.jobs.where(status="parked")[0]
    panel.job_choice.value = parked.id
    assert panel.selected is not None
    assert panel.selected.id == parked.id
    assert panel.rows_shown == len(parked.trace) == 7
    panel.step_choice.value = 3
    assert panel.code == f"lake.jobs[{parked.id!r}].step(3)"
    assert "OSL" not in panel._inside.value
    assert "NEW0A1" in panel._inside.value


def test_what_a_log_holds_is_shown_as_text() -> None:
    """A payload with markup must not run in an auditor's notebook."""
    hostile = "<script>alert(1)</script><img src=x onerror=y>\u202e\x1b[2J"
    shown = Rows(["<b>"], [[hostile]])
    assert "<script" not in shown._repr_html_()
    assert "<b>" not in shown._repr_html_()
    assert "\x1b" not in repr(shown)
    assert "\u202e" not in shown._repr_html_()


def test_an_empty_table_says_so() -> None:
    """Useful when empty too."""
    assert repr(Rows(["a"], [])) == "no rows"


def test_evidence_leaves_from_a_lake_and_verifies(tmp_path: Path) -> None:
    """A job is exported from the lake alone, and an edited package fails."""
    lake = wb.open(ROOT / "data" / "fixtures" / "clean")
    package = tmp_path / "e.zip"
    lake.jobs[0].export(package)
    assert wb.verify(package).exit_code == 3
    assert len(wb.open(package).jobs) == 1
    data = bytearray(package.read_bytes())
    data[data.index(b'"tool_name"') + 20] ^= 1
    package.write_bytes(bytes(data))
    verdict = wb.verify(package)
    assert verdict.exit_code == 1
    assert "event 3 is not the line that was hashed" in repr(verdict)


def test_a_broken_job_is_not_exported_as_sound(tmp_path: Path) -> None:
    """Nothing is quietly repaired, and nothing broken leaves as sound."""
    lake = wb.open(ROOT / "data" / "fixtures" / "edited_line")
    broken = lake.jobs[0]
    with pytest.raises(Corrupt):
        broken.export(tmp_path / "e.zip")
    broken.export(tmp_path / "d.zip", damaged=True)
    assert wb.verify(tmp_path / "d.zip").exit_code == 1


def test_a_step_tells_what_was_erased_on_record_from_what_is_merely_gone(tmp_path: Path) -> None:
    """An erasure is somebody's right; a hole is somebody's fault. One word for both would hide the second."""
    clean = wb.open(ROOT / "data" / "fixtures" / "clean")
    job = clean.jobs[scripts()["erased"].job]
    told = {row["cell"]: row["value"] for row in job.step(1)}
    assert told["args/what/iban"] == "(erased by user/privacy, audit entry 1: asked for by the customer)"
    gone = wb.open(ROOT / "data" / "fixtures" / "erased_off_record").jobs[scripts()["rebooked"].job]
    assert "no erasure is on record" in {row["cell"]: row["value"] for row in gone.step(3)}["args/what/iban"]
    lost = wb.open(ROOT / "data" / "fixtures" / "cell_missing").jobs[scripts()["rebooked"].job]
    assert "not here, and no erasure is on record" in repr(lost.step(1))
    job.export(tmp_path / "e.zip")
    packed = wb.open(tmp_path / "e.zip").jobs[0].step(1)
    assert "erased by someone, audit entry 1" in repr(packed)


def test_a_takeover_is_drawn_over_the_silence_before_it() -> None:
    """Drawn after it, the picture would show a worker busy while nobody was."""
    job = wb.open(ROOT / "data" / "fixtures" / "clean").jobs[scripts()["in_doubt"].job]
    line = next(x for x in job.trace if x.what == "took over")
    bar = next(b for b in job.timeline().data if b.name == "took over")
    assert (bar.base[0], bar.base[0] + bar.x[0]) == (
        (line.since_start_us - line.duration_us) / 1e6,
        line.since_start_us / 1e6,
    )


def test_a_step_shows_its_ledger_rows_and_hashes_and_a_check_its_rows() -> None:
    """What an auditor clicks through to: how far the call came, and which event is wrong."""
    step = wb.open(ROOT / "data" / "fixtures" / "clean").jobs[scripts()["in_doubt"].job].step(3)
    assert [row["status"] for row in step.ledger] == ["started", "unknown"]
    assert [row["type"] for row in step.events] == ["tool_invocation_started", "tool_invocation_unknown"]
    checks = wb.open(ROOT / "data" / "fixtures" / "ended_in_doubt").check()
    assert not checks.passed
    assert checks.violations("integrity/doubt")[0]["found"] == "job_completed"
    assert checks.seconds.keys() == {row["check"] for row in checks}
    with pytest.raises(Refused, match="no check is named"):
        checks.violations("integrity/doubts")


def test_a_redacted_package_is_not_called_broken(tmp_path: Path) -> None:
    """Whoever redacts may: the checks cry wolf at holes alone, and the step says which it is."""
    package = tmp_path / "r.zip"
    redact(ROOT / "data" / "fixtures" / "evidence" / "clean.zip", package, [CellSelector("result")])
    desk = wb.open(package)
    assert desk.check().passed
    assert "(redacted: left out of this package)" in repr(desk.jobs[0].step(1))
    assert "erased by someone, audit entry 1" in repr(desk.jobs[0].step(1))
    with pytest.raises(Corrupt, match="not sound"):
        desk.jobs[0].export(tmp_path / "again.zip")


def test_the_evidence_panel_makes_what_was_chosen_and_says_why_it_could_not(tmp_path: Path) -> None:
    """What is left out is not in the package; a name that fits nothing is a line and no package."""
    lake = wb.open(ROOT / "data" / "fixtures" / "clean")
    panel = EvidencePanel(lake)
    panel.job_choice.value = lake.jobs.where(status="completed")[0].id
    panel.make.click()
    whole = panel.size
    panel.left_out.value = "input"
    panel.make.click()
    assert panel.judgement is not None
    assert "redacted" in panel.judgement.verdict["disclosure"].summary
    assert 0 < panel.size < whole
    assert "redact input" in panel.code
    panel.left_out.value = "<b>nothing"
    panel.make.click()
    assert (panel.size, panel.judgement) == (0, None)
    assert "no cell fits" in panel._said.value
    assert "<b>" not in panel._said.value


def test_every_way_of_spoiling_is_seen_and_a_blind_verifier_would_be_too(tmp_path: Path) -> None:
    """The notebook's claim, broken once: were the packages not spoilt, its assertion fails."""
    signed, key = ROOT / "data" / "fixtures" / "evidence" / "signed.zip", tmp_path / "k.pub"
    key.write_bytes(signed.with_name("fixture.pub").read_bytes())
    spoilt = tampered(signed)
    assert {t.layer for t in spoilt} == set(LAYERS) - {"log"}
    assert all(row["exit"] == 1 and row["aimed at"] in row["failed"] for row in wb.judge_all(spoilt, trust=key))
    unspoilt = [replace(t, data=signed.read_bytes()) for t in spoilt]
    assert all(row["exit"] == 0 for row in wb.judge_all(unspoilt, trust=key))
