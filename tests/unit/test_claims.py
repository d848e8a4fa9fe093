"""The table of claims: a row can't say one thing and mean another, and what it shows is text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

import aetheris.workbench as wb
from aetheris.domain.errors import Refused, Unusable
from aetheris.workbench.claims import Claims

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures" / "evidence"

EDGES: list[tuple[Callable[[Claims], wb.Claim], bool]] = [
    (lambda c: c.at_most("x", 1.0, 1.0), True),
    (lambda c: c.at_most("x", 1.0, 1.0000001), False),
    (lambda c: c.at_least("x", 100, 100), True),
    (lambda c: c.at_least("x", 100, 99), False),
    (lambda c: c.less_than("x", 5.0, 4.9999999), True),
    (lambda c: c.less_than("x", 5.0, 5.0), False),
    (lambda c: c.within("x", 10, 0.2, 9.8000001), True),
    (lambda c: c.within("x", 10, 0.2, 10.21), False),
    (lambda c: c.exactly("x", {403}, {403}), True),
    (lambda c: c.exactly("x", {403}, {403, 404}), False),
    (lambda c: c.at_most("x", 1.0, math.nan), False),
    (lambda c: c.within("x", 1.0, 1.0, math.nan), False),
]


@pytest.mark.parametrize(("claim", "holds"), EDGES, ids=lambda x: "" if callable(x) else str(x))
def test_the_figure_decides_and_not_what_is_shown_of_it(claim: Callable[[Claims], wb.Claim], holds: bool) -> None:
    """4.9999999 s is shown as 5 s, and is less than 5 s; what is not a number holds nothing."""
    claims = wb.Claims()
    assert claim(claims).holds is holds
    assert claims.hold is holds
    assert ("does not hold" in repr(claims)) is not holds
    assert ("does not hold" in claims._repr_html_()) is not holds


def test_a_table_of_nothing_does_not_hold() -> None:
    """A part that was begun and never measured is no proof."""
    claims = wb.Claims("all")
    assert not claims.hold
    claims.exactly("x", 1, 1)
    assert claims.hold
    part = claims.about("later")
    assert not claims.hold
    part.exactly("y", 2, 2)
    assert claims.hold
    part.exactly("z", 2, 3, "jobs")
    assert not claims.hold
    assert repr(claims.broken) == "[z: asked 2 jobs, measured 3 jobs]"
    assert claims.sentence == "2 of 3 claims hold"


def test_the_rows_stand_under_their_parts() -> None:
    """What is printed is what is shown as HTML, in the same order."""
    claims = wb.Claims("all")
    claims.about("speed").less_than("P95", 5, 1.23456, "s")
    claims.about("size").at_most("a month", 10, 12_345.6, "GB")
    assert repr(claims).splitlines() == [
        "claim    asked          measured   holds",
        "-- speed",
        "P95      less than 5 s  1.235 s    ● holds",
        "-- size",
        "a month  at most 10 GB  12,346 GB  ✕ does not hold",
        "1 of 2 claims hold",
    ]
    shown = claims._repr_html_()
    places = [shown.index(x) for x in ("all", "speed", "P95", "size", "12,346 GB", "1 of 2")]
    assert places == sorted(places)
    assert [row["asked"] for row in claims.verdict] == ["less than 5 s", "at most 10 GB"]


def test_hostile_words_are_text() -> None:
    """A measured value may come from a log."""
    claims = wb.Claims("<b>")
    claims.about("<i>").exactly("<u>\x1b[2J", "<s>", "\u202e<script>")
    shown = claims._repr_html_()
    assert not any(tag in shown for tag in ("<b>", "<i>", "<u>", "<s>", "<script>", "\u202e", "\x1b"))
    assert "\x1b" not in repr(claims)


def test_a_package_is_verified_by_a_process_without_network_and_database(tmp_path: Path) -> None:
    """The same verdict as here; and a verifier that reached for a socket would not have given one."""
    key = FIXTURES / "fixture.pub"
    whole = wb.verify_offline(FIXTURES / "signed.zip", trust=key)
    assert (whole.exit_code, whole.word) == (0, "verified")
    here = wb.verify(FIXTURES / "signed.zip", trust=key)
    assert [row["seen"] for row in whole.layers] == [row["seen"] for row in here.layers]
    spoilt = tmp_path / "e.zip"
    spoilt.write_bytes((FIXTURES / "signed.zip").read_bytes()[:-1] + b"\1")
    assert wb.verify_offline(spoilt, trust=key).word != "verified"
    with pytest.raises(Refused):
        wb.verify_offline(spoilt, trust=spoilt)


@pytest.mark.parametrize("reach", ["import socket; socket.create_connection(('127.0.0.1', 9))", "import duckdb"])
def test_a_verifier_that_reaches_out_gives_no_verdict(reach: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walls around that process stand: what would use a network or a database fails there."""
    from aetheris.workbench import offline

    broken = offline._ALONE.replace("from aetheris", f"{reach}\nfrom aetheris")
    monkeypatch.setattr(offline, "_ALONE", broken)
    with pytest.raises(Unusable, match="the verifier reached for"):
        wb.verify_offline(FIXTURES / "signed.zip")
