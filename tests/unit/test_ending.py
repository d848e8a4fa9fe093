"""How the command line tells a job's end, and where it looked for jobs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from aetheris.api.access import MATRIX
from aetheris.cli.ending import show_ending
from aetheris.cli.jobs import _place
from aetheris.cli.screen import Screen
from aetheris.cli.token import token
from aetheris.domain.cells import Cell
from aetheris.domain.errors import Corrupt
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.ending import SHOWN, ending_of
from aetheris.runtime.record import JobRecord
from aetheris.store.database import Database
from aetheris.store.history import Record


def ended(value: Any, kind: str = "job_completed", **data: str) -> JobRecord:
    """A finished job, as far as its end goes."""
    last = SimpleNamespace(seq=9, type=kind, data=data)
    status = JobStatus.FAILED if kind == "job_failed" else JobStatus.COMPLETED
    cells = {(9, "result"): SimpleNamespace(body=b"-")} if kind == "job_completed" else {}
    return cast(
        JobRecord,
        SimpleNamespace(
            row=SimpleNamespace(status=status), events=[last], erased=(), stored=SimpleNamespace(cells=cells),
            value=lambda event, name, missing=None: value,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (ended("a\u202eb\x1b[31m\nc"), 'result     "a\\u202eb\\u001b[31m\\nc"\n'),
        (ended({"paid": 2**70}), f'result     {{"paid": {2**70}}}\n'),
        (ended(None), "result     null\n"),
        (ended("x" * 999), f'result     "{"x" * (SHOWN - 1)}…  (1,001 characters; --json gives all)\n'),
        (ended(None, continued_as="7kq2dg06b2md"), "result     none of its own: it goes on as job 7kq2dg06\n"),
        (ended({"kind": "E", "message": "\u202e", "where": "f:1"}, "job_failed"), "failed because E: \\u202e  (f:1)\n"),
        (ended(None, "job_failed", reason="E"), "failed because E: (erased)\n"),
    ],
    ids=["escaped", "big number", "nothing", "long", "continued", "failed", "failed, erased"],
)  # fmt: skip
def test_an_end_is_one_line(record: JobRecord, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a stranger's job returned moves no cursor and fills no screen."""
    show_ending(ending_of(record), Screen())
    assert capsys.readouterr().out == said


def test_a_job_that_goes_on_or_failed_has_no_result() -> None:
    """In JSON that is null, beside the error if there is one."""
    assert ending_of(ended("x")).result == "x"
    assert ending_of(ended("x", continued_as="7kq2dg06")).result is None
    assert ending_of(ended({"kind": "E"}, "job_failed")).result is None
    assert ending_of(ended("x")).error is None


@pytest.mark.parametrize(
    ("body", "why"),
    [(b"{", "job 7kq2dg06: cell result of event 9 is not JSON"), (b'{"$cell": "input"}', "not inside it")],
)
def test_a_result_that_was_damaged_is_no_bug(body: bytes, why: str) -> None:
    """Somebody wrote into the store: the trace says so in one line, here and over the API."""
    row, last = SimpleNamespace(status=JobStatus.COMPLETED, job="7kq2dg06b2md"), ended(None).events[-1]
    last = SimpleNamespace(**vars(last), cells={"result": "-"})
    stored = Record(cells={(9, "result"): Cell(9, "result", b"", body)})
    record = JobRecord(cast(Any, row), stored, [])
    record.__dict__["events"] = [last]
    with pytest.raises(Corrupt, match=why):
        ending_of(record)


def test_the_place_without_jobs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in the wrong folder sees it: the whole path, not `.aetheris`."""
    monkeypatch.delenv("AETHERIS_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    here = SimpleNamespace(database=Database("", cast(Any, "running")))
    assert _place(cast(Any, here)) == str(tmp_path / ".aetheris")


def test_the_token_in_the_help_may_submit_and_approve() -> None:
    """It was an operator's, who may not submit."""
    roles = re.findall(
        r"--role (\w+)", CliRunner().invoke(token, ["--help"]).output.partition("Example:")[2].splitlines()[0]
    )
    assert {"job:create", "tool:execute"} <= set().union(*(MATRIX[role] for role in roles))
