"""The checks over an evidence zip, as over a lake: the same queries, the same words for what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aetheris.domain.errors import Refused, Unusable
from aetheris.forensics import library
from aetheris.forensics.checks import run_checks
from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source

PACKAGES = Path(__file__).parents[2] / "data" / "fixtures" / "evidence"


@pytest.fixture(params=["clean.zip", "signed.zip"])
def session(request: pytest.FixtureRequest) -> Session:
    """A session over a package of the fixtures."""
    return open_source(PACKAGES / request.param)


def test_every_check_runs_over_a_package_and_finds_nothing(session: Session) -> None:
    """A package is a record like another; what it doesn't carry violates nothing."""
    with session:
        results = list(run_checks(session))
        assert [r.name for r in results] == [q.name for q in library.checks()]
        assert all(r.passed for r in results), [r.name for r in results if not r.passed]


def test_a_package_holds_one_job_with_its_events_cells_and_calls(session: Session) -> None:
    """What the zip's members say stands in the tables."""
    with session:
        events = session.sql("select job_id, seq, line from events order by seq").rows
        assert len({row["job_id"] for row in events}) == 1
        assert [row["seq"] for row in events] == list(range(1, len(events) + 1))
        assert session.sql("select count(*) as n from cells").rows[0]["n"] > 0
        assert session.sql("select count(*) as n from ledger where status = 'committed'").rows[0]["n"] > 0


def test_a_check_of_no_name_is_refused_with_all_names(session: Session) -> None:
    """Nobody has to guess."""
    with session, pytest.raises(Refused) as error:
        list(run_checks(session, ["nope"]))
    assert all(query.name in str(error.value) for query in library.checks())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"x" * 5000], ids=["empty", "cut", "something else"])
def test_what_is_no_package_is_said_in_one_line(tmp_path: Path, data: bytes) -> None:
    """The file is named, and nothing is guessed from it."""
    (tmp_path / "e.zip").write_bytes(data)
    with pytest.raises(Unusable, match=r"e\.zip") as error:
        open_source(tmp_path / "e.zip")
    assert "\n" not in str(error.value)


def test_where_nothing_is_the_way_to_a_lake_is_said(tmp_path: Path) -> None:
    """A path mistyped is the commonest mistake."""
    with pytest.raises(Unusable, match="aetheris mirror"):
        open_source(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text", ["selec 1", "drop table events", "select 1; select 2", "select nothing_of_ours from events"]
)
def test_sql_that_is_no_select_or_names_nothing_is_refused_in_one_line(session: Session, text: str) -> None:
    """A session only reads, and DuckDB's own words come in one line."""
    with session, pytest.raises(Refused) as error:
        session.sql(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select timestamp '290000-01-01'", "cast it to text"),
        ("select 'infinity'::date", "cast it to text"),
        ("select timestamp_ns '2020-01-01 00:00:00.000000001'", "cast it to text"),
        ("select interval '999999999 years'", "out of range"),
        ("select 1 as a, 2 as a", "two columns are named 'a'"),
        ("select '\udcff'", "not UTF-8"),
    ],
)
def test_what_no_row_can_hold_is_refused_in_one_line(session: Session, text: str, said: str) -> None:
    """Years that Python doesn't have, a name that would hide another; none of it says that the lake is broken."""
    with session, pytest.raises(Refused, match=said) as error:
        assert session.sql(text).rows
    assert "\n" not in str(error.value)


def test_a_query_or_parameter_of_no_name_is_refused_with_what_there_is(session: Session) -> None:
    """What was meant stands in the answer."""
    with session:
        with pytest.raises(Refused, match="trace/jobs"):
            session.query("jobs")
        with pytest.raises(Refused, match="job_id"):
            session.query("trace/steps", job="x")
        with pytest.raises(Refused, match="no parameter 'name'"):
            session.query("trace/steps", **{"name": "x"})
        with pytest.raises(Refused, match="job_id is beyond 64 bits"):
            session.query("trace/steps", job_id=2**200)
    assert library.get("trace/steps").required == ("job_id",)
    assert "step" in dict(library.get("trace/steps").columns)


@pytest.mark.parametrize("name", ["trace/fold", "integrity/snapshots"])
def test_a_receipt_covers_the_parts_that_a_query_includes(session: Session, name: str) -> None:
    """One text is run, shown and digested: a part that was changed is another query."""
    part = (library.root() / "parts" / "fold.sql").read_text().strip()
    with session:
        answer = session.query(name)
    assert part in answer.sql
    assert "-- include" not in answer.sql
    assert answer.receipt.query_sha256 == hashlib.sha256(answer.sql.encode()).hexdigest()
    assert "parts/fold" not in library.library()
