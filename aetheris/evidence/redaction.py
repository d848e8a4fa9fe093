"""Redaction: a new package without some cells, under the same seal.

Whole cells are dropped, salt and body together: a salt left behind would let
anyone guess a short body. The manifest is new and unsigned; whoever redacts
signs it with their own key or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from aetheris.domain import canonical, events
from aetheris.domain.cells import child_name
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.plain import printable
from aetheris.evidence import disclosures, format
from aetheris.evidence.disclosures import Disclosure
from aetheris.evidence.parts import Parts, package_bytes
from aetheris.evidence.reader import Package, open_package
from aetheris.evidence.source import SealMembers
from aetheris.evidence.verify import judge, verify
from aetheris.evidence.writer import Summary, deliver


@dataclass(frozen=True, slots=True)
class CellSelector:
    """Which cells to drop: those named `path`, and all below it.

    Where no cell has that name, the path may lead inside a cell: the nearest
    cell around it is dropped whole if its body has that field, in any element
    of a list on the way. `seq` or `event_type` narrow it to those events.
    """

    path: str
    seq: int | None = None
    event_type: str | None = None


def redact(
    package: Path | bytes, out: Path | BinaryIO, drop: Sequence[CellSelector], *, missing_ok: bool = False
) -> Summary:
    """Write `package` anew without the selected cells; the seal is unchanged.

    Cells already redacted or erased stay as they are. With `missing_ok`, a
    selector that fits no cell of this job is passed over.

    Errors: Unusable or Corrupt when `package` can't be read or fails
    verification; Refused when a selector fits nothing: it may be misspelled.
    """
    given = open_package(package)
    verdict = judge(given)
    if verdict.failed:
        raise Corrupt(f"the package fails verification ({verdict.sentence}); redact a sound one. Nothing was written")
    parts = parts_of(given)
    types = {event.seq: event.type for event in map(events.read, parts.lines)}
    chosen = _choose(parts.cells, types, drop, missing_ok=missing_ok)
    cells = [_redacted(cell) if (cell.seq, cell.name) in chosen else cell for cell in parts.cells]
    parts = replace(parts, cells=cells)
    data = package_bytes(parts)
    return deliver(data, verify(data), parts, out)


def parts_of(package: Package) -> Parts:
    """Return what a sound package was made of. Errors: Corrupt."""
    limit = package.limits.disclosure_line_bytes
    rows = [disclosures.read(line, limit) for line in package.lines(format.DISCLOSURES)]

    def optional(name: str) -> bytes | None:
        return package.member(name) if name in package else None

    return Parts(
        package.manifest.tenant,
        package.manifest.job,
        list(package.lines(format.EVENTS)),
        list(package.lines(format.INVOCATIONS)),
        disclosures.from_rows(rows, package.body),
        SealMembers(*(optional(name) for name in (format.SEAL, *format.OF_THE_SEAL))),
        {
            name.removeprefix(format.TRUST): package.member(name)
            for name in package.spans
            if name.startswith(format.TRUST)
        },
    )


def _choose(
    cells: list[Disclosure], types: dict[int, str], drop: Iterable[CellSelector], *, missing_ok: bool
) -> set[tuple[int, str]]:
    by_event: dict[int, list[Disclosure]] = {}
    for cell in cells:
        by_event.setdefault(cell.seq, []).append(cell)
    chosen: set[tuple[int, str]] = set()
    for selector in drop:
        fits: set[tuple[int, str]] = set()
        for seq, beside in by_event.items():
            if selector.seq not in (None, seq) or selector.event_type not in (None, types[seq]):
                continue
            fits |= {(seq, name) for name in _fitting(beside, selector.path)}
        if not fits and not missing_ok:
            raise Refused(
                f"no cell fits {printable(selector.path)}; nothing was written. See disclosures.jsonl for the names"
            )
        chosen |= fits
    return chosen


def _fitting(beside: list[Disclosure], path: str) -> list[str]:
    below = [cell.name for cell in beside if cell.name == path or cell.name.startswith(path + "/")]
    around = [cell for cell in beside if path.startswith(cell.name + "/")]
    if below or not around:
        return below
    nearest = max(around, key=lambda cell: len(cell.name))
    if nearest.body is None or format.is_artifact(nearest.name):
        return []
    inside = path[len(nearest.name) + 1 :].split("/")
    return [nearest.name] if _reaches(canonical.strict_json(nearest.body, floats=True), inside) else []


def _reaches(value: Any, path: list[str]) -> bool:
    # No recursion: a body may be nested as deep as a parser goes, which is deeper than Python's own calls.
    left = [(value, path)]
    while left:
        item, rest = left.pop()
        if not rest:
            return True
        if type(item) is list:
            left += [(part, rest) for part in item]
        elif type(item) is dict:
            left += [(part, rest[1:]) for key, part in item.items() if child_name("", key) == f"/{rest[0]}"]
    return False


def _redacted(cell: Disclosure) -> Disclosure:
    return Disclosure(cell.seq, cell.name, disclosures.REDACTED) if cell.state == disclosures.SHOWN else cell
