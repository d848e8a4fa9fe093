"""The fixtures: made anew to the byte, and every check finds its defect and nothing else."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from aetheris.demo import fixtures
from aetheris.demo.fixtures_jobs import scripts
from aetheris.demo.fixtures_scripts import KEY, KEY_ID
from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.evidence import verify
from aetheris.forensics import library
from aetheris.forensics.checks import run_checks
from aetheris.forensics.source import open_source
from aetheris.lake import open_lake

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
SIZE_LIMIT = 3_000_000

Found = dict[str, list[dict[str, Any]]]


def found_in(folder: Path) -> Found:
    """What the checks say of a store: check -> job, seq and rule of each violation."""
    with open_source(folder) as session:
        return {
            result.name: sorted(
                ({"job": row["job_id"], "seq": row["seq"], "rule": row["rule"]} for row in result.answer.rows),
                key=_place,
            )
            for result in run_checks(session)
            if not result.passed
        }


def _place(row: dict[str, Any]) -> tuple[str, int, str]:
    return row["job"], row["seq"], row["rule"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures, made anew."""
    folder = tmp_path_factory.mktemp("fixtures") / "made"
    fixtures.write(folder)
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_checks_find_exactly_what_was_done_to_a_store(name: str) -> None:
    """An auditor is told of every break, and never of one that isn't there."""
    wanted = {check: sorted(rows, key=_place) for check, rows in EXPECTED[name]["violations"].items()}
    assert found_in(FIXTURES / name) == wanted


@pytest.mark.parametrize("check", [query.name for query in library.checks()])
def test_every_check_has_a_store_in_which_it_fails(check: str) -> None:
    """A check that has never failed may hold nothing at all."""
    assert [name for name, told in EXPECTED.items() if check in told["violations"]]


def test_every_folder_is_expected_and_every_expectation_has_a_folder() -> None:
    """A store that nobody judges would prove nothing."""
    assert {path.parent.name for path in FIXTURES.glob("*/lake.json")} == EXPECTED.keys()
    assert EXPECTED["clean"]["violations"] == {}
    assert all(told["violations"] for name, told in EXPECTED.items() if name != "clean")


def test_the_sums_list_every_file_and_its_bytes() -> None:
    """Whoever copies the fixtures can see that nothing changed on the way."""
    assert (FIXTURES / fixtures.SUMS).read_text(encoding="utf-8") == fixtures.sums(FIXTURES)


def test_made_twice_they_are_the_same_to_the_byte(made: Path, tmp_path: Path) -> None:
    """No clock and no chance: a changed byte is a changed fixture."""
    fixtures.write(tmp_path / "again")
    assert fixtures.sums(tmp_path / "again") == fixtures.sums(made)


def test_made_anew_they_are_those_in_the_repository(made: Path) -> None:
    """What is committed is what the generator says; another pyarrow may write other bytes, never other rows."""
    if f"pyarrow {version('pyarrow')}," in (FIXTURES / "README.md").read_text(encoding="utf-8"):
        assert fixtures.sums(made) == fixtures.sums(FIXTURES)
    for name in EXPECTED:
        ours, theirs = open_lake(made / name, verify=True), open_lake(FIXTURES / name, verify=True)
        for table in ours.tables:
            assert ours.tables[table].read() == theirs.tables[table].read(), f"{name}: {table}"


def test_they_stay_small_and_name_no_place_on_this_machine() -> None:
    """They are cloned by everyone, and must open anywhere."""
    files = [path for path in FIXTURES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < SIZE_LIMIT
    for path in files:
        data = path.read_bytes()
        assert str(FIXTURES.parents[1]).encode() not in data, path
        assert b"/home/" not in data, path


def test_the_clean_store_holds_what_can_befall_a_job() -> None:
    """Each thing an auditor must be able to see stands there once at least."""
    with open_source(FIXTURES / "clean") as session:
        jobs = session.query("trace/jobs").rows
        doubts = session.query("invocations/unknown_outcomes").rows
    assert len(jobs) == 20
    assert {job["tenant_id"] for job in jobs} == {"acme", "globex"}
    statuses = [job["status"] for job in jobs]
    assert (statuses.count("failed"), statuses.count("parked")) == (3, 1)
    assert sum(job["epochs"] > 1 for job in jobs) == 4
    assert [(call["tool_name"], call["status"]) for call in doubts] == [("refund", "unknown")]
    lake = open_lake(FIXTURES / "clean")
    assert lake.tables["erasures"].read().num_rows == 1
    assert lake.tables["audit"].read().num_rows == 1


def test_job_ids_are_such_as_the_store_mints() -> None:
    """A fixture's id passes for its tenant's, and for no other's."""
    keys = {KEY_ID: KEY}
    for script in scripts().values():
        other = "globex" if script.tenant == "acme" else "acme"
        assert (ids.owner(script.job, script.tenant, keys), ids.owner(script.job, other, keys)) == ("mine", "another")


def test_the_evidence_zip_is_consistent_and_tells_of_an_erasure() -> None:
    """It is what people try `aetheris verify` on."""
    verdict = verify(FIXTURES / "evidence" / "clean.zip")
    assert (verdict.exit_code, verdict.failed) == (3, ())
    assert "1 erased on record" in verdict["disclosure"].summary


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    """A mistyped folder costs nobody their files."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Refused, match="holds other things than fixtures"):
        fixtures.write(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("arguments", [[], ["a", "b"]], ids=["no folder", "two folders"])
def test_a_wrong_command_line_is_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback reaches a person."""
    assert fixtures.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
