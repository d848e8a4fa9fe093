"""The disclosure layer: is every cell that the events commit to accounted for, and is what is shown true?

    1  one row per committed cell, in the events' order, none besides
    2  a shown cell has salt and body; any other has neither
    3  bodies stand where their lengths put them, with nothing between
    4  salt and body give the commitment in the event      (an artifact: integrity)
    5  every JSON body is JSON that reads one way          (integrity)
    6  report.html holds neither salt nor place of a cell that is not shown

A body alone, without its salt, can't be recognised in free text: step 6 finds
the writer's own mistakes and any salt, not every sentence that tells a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aetheris.domain import canonical, cells
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.evidence import disclosures, format, report_slot
from aetheris.evidence.disclosures import Row
from aetheris.evidence.reader import Package
from aetheris.evidence.story import Story
from aetheris.evidence.verdict import Findings

_DIGEST = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_STRANGERS_LOOKED_UP = 32


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cells the events commit to, by what the package shows of them."""

    total: int
    shown: int
    redacted: int
    erased: int


def read_rows(package: Package, findings: Findings) -> list[Row]:
    """Return the rows that can be read; the others are integrity findings."""
    rows: list[Row] = []
    limit = package.limits.disclosure_line_bytes
    try:
        for number, line in enumerate(package.lines(format.DISCLOSURES), 1):
            try:
                rows.append(disclosures.read(line, limit))
            except Corrupt as error:
                findings.add("integrity", str(error), f"{format.DISCLOSURES} line {number}")
    except Corrupt as error:
        findings.add("integrity", str(error), error.where)
    return rows


def check(package: Package, story: Story, rows: list[Row], findings: Findings) -> Counts:
    """Note every cell that is not accounted for or not true (steps 1 to 6), and count them."""
    known = _check_accounts(story, rows, findings)
    for row in rows:
        _check_state(row, findings)
    _check_slots(package, story, rows, findings)
    salts: dict[str, Row] = {}
    for row in known:
        if row.state == disclosures.SHOWN and row.salt is not None and row.slot is not None:
            _check_cell(package, story, row, salts, findings)
    _check_report(package, story, rows, findings)
    states = [row.state for row in rows]
    return Counts(len(story.commits), *(states.count(s) for s in ("shown", "redacted", "erased")))


def _check_accounts(story: Story, rows: list[Row], findings: Findings) -> list[Row]:
    seen: set[tuple[int, str]] = set()
    known: list[Row] = []
    for row in rows:
        key = (row.seq, row.name)
        if key not in story.commits:
            findings.add("disclosure", "no event commits to this cell", _where(row))
        elif key in seen:
            findings.add("disclosure", "one commitment disclosed twice", _where(row))
        else:
            known.append(row)
        seen.add(key)
    for seq, name in story.commits:
        if (seq, name) not in seen:
            findings.add("disclosure", "committed to, and not accounted for", f"event {seq}, cell {name}")
    if len(known) == len(rows) == len(story.commits) and [(r.seq, r.name) for r in rows] != list(story.commits):
        findings.add("disclosure", "the rows are not in the events' order", format.DISCLOSURES)
    return known


def _check_state(row: Row, findings: Findings) -> None:
    where, places = _where(row), (row.member, row.offset, row.length)
    if row.state == disclosures.SHOWN:
        if row.salt is None or None in places:
            findings.add("disclosure", "shown, but without its salt or its body", where)
        elif not re.fullmatch(r"[0-9a-f]{64}", row.salt):
            findings.add(
                "disclosure", "its salt is not 32 bytes", where, "64 hex digits", f"{len(row.salt)} characters"
            )
        elif not row.salt.strip("0"):
            findings.add("disclosure", "its salt is all zeros", where)
    elif row.salt is not None or places != (None, None, None):
        findings.add("disclosure", f"{row.state}, yet its salt or its place is here", where)
    if row.state == disclosures.MISSING:
        findings.add("disclosure", "missing: neither redacted nor erased on record", where)
    if (row.state == disclosures.ERASED) != (row.audit_seq is not None and row.audit_seq >= 1):
        findings.add("disclosure", "erased cells, and only they, name the audit entry of their erasure", where)


def _check_slots(package: Package, story: Story, rows: list[Row], findings: Findings) -> None:
    # Lengths are made whole numbers first, so that a lie about one can't make work.
    places = format.slots((row.name, row.length if row.state == disclosures.SHOWN else None) for row in rows)
    ends: dict[str, int] = {}
    for row, slot in zip(rows, places, strict=True):
        if slot is None:
            continue
        artifact = format.is_artifact(row.name)
        if slot.length < 0 or row.slot != slot:
            findings.add("disclosure", "its body is not where the lengths put it", _where(row), slot, row.slot)
        elif slot.member not in package:
            layer = "integrity" if artifact else "disclosure"
            findings.add(layer, "its body is absent", _where(row), slot.member)
        elif not artifact and package.body(format.Slot(slot.member, slot.offset + slot.length, 1)) != b"\n":
            findings.add("disclosure", "its body does not end where its length says", _where(row))
        ends[slot.member] = slot.offset + slot.length + (0 if artifact else 1)
    committed = sum(format.is_artifact(name) for _, name in story.commits)
    for name in package.spans:
        if name.startswith(format.ARTIFACTS) and not 1 <= int(name[10:16]) <= committed:
            findings.add("integrity", "an artifact that no event commits to", name)
        elif name.startswith((format.CELLS, format.ARTIFACTS)) and package.size(name) != ends.get(name, -1):
            found = package.size(name)
            findings.add("disclosure", "bytes that no shown cell owns", name, ends.get(name, 0), found)


def _check_cell(package: Package, story: Story, row: Row, salts: dict[str, Row], findings: Findings) -> None:
    slot, salt = row.slot, row.salt
    if slot is None or salt is None or slot.member not in package or min(slot.offset, slot.length) < 0:
        return
    artifact = format.is_artifact(row.name)
    if salts.setdefault(salt, row) is not row:
        findings.add("disclosure", f"its salt is also that of {_where(salts[salt])}", _where(row))
    if not re.fullmatch(r"[0-9a-f]{64}", salt):
        return
    body = package.body(slot)
    commit = cells.commitment(package.manifest.job, row.seq, row.name, bytes.fromhex(salt), body).hex()
    if commit != story.commits[row.seq, row.name]:
        what = "salt and body do not give the commitment in the event"
        layer = "integrity" if artifact else "disclosure"
        findings.add(layer, what, _where(row), story.commits[row.seq, row.name], commit)
    elif not artifact:
        _check_json(package, body, row, findings)


def _check_json(package: Package, body: bytes, row: Row, findings: Findings) -> None:
    if len(body) > package.limits.body_bytes:
        raise Unusable(f"{_where(row)} is longer than {package.limits.body_bytes} bytes")
    try:
        if b"\n" in body:
            raise Corrupt("a line feed in a body, which is one line of JSON")
        canonical.strict_json(body, floats=True)
    except Corrupt as error:
        findings.add("integrity", str(error), _where(row))


def _check_report(package: Package, story: Story, rows: list[Row], findings: Findings) -> None:
    hidden = [row for row in rows if row.state != disclosures.SHOWN]
    if not hidden:
        return
    report = package.member(format.REPORT)
    marks = set(report_slot.MARK.findall(report))
    for row in hidden:
        if report_slot.value(row.seq, row.name).encode() in marks:
            findings.add("disclosure", f"{row.state}, yet report.html has a place for its body", _where(row))
    unknown = set(_DIGEST.findall(report)) - {leaf.hex().encode() for leaf in story.leaves}
    before = package.spans[format.REPORT][0]  # the report is the last member
    if unknown:
        for known in _DIGEST.finditer(package.data, 0, before):
            unknown.discard(known.group())
    # Digits cut out of something longer in a shown body are no salt either.
    if len(unknown) > _STRANGERS_LOOKED_UP or any(package.data.find(d, 0, before) < 0 for d in unknown):
        what = "64 hex digits that stand nowhere else in the package, as a salt would"
        findings.add("disclosure", what, format.REPORT, "", min(unknown).decode())


def _where(row: Row) -> str:
    return f"event {row.seq}, cell {row.name[:80]}"
