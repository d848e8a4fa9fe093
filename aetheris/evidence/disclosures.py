"""disclosures.jsonl: one line per cell that the events commit to, and what of it is in this package.

    state     shown      salt and body are here
              redacted   both were left out by whoever made this package
              erased     both are gone for good; `audit_seq` is the audit entry that says so
              missing    both are gone and nothing says why: such a package fails

A line holds every field; what does not apply is null. `member`, `offset` and
`length` say where the body stands, and follow from the lengths alone
(`format.slots`), so nothing can hide between bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt
from aetheris.evidence.format import Slot, slots

SHOWN, REDACTED, ERASED, MISSING = "shown", "redacted", "erased", "missing"
_STATES = frozenset({SHOWN, REDACTED, ERASED, MISSING})
_TYPES: dict[str, tuple[type, ...]] = {
    "audit_seq": (int, type(None)),
    "length": (int, type(None)),
    "member": (str, type(None)),
    "name": (str,),
    "offset": (int, type(None)),
    "salt": (str, type(None)),
    "seq": (int,),
    "state": (str,),
}


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One cell as the package shows it: salt and body only when `state` is shown."""

    seq: int
    name: str
    state: str
    salt: bytes | None = None
    body: bytes | None = None
    audit_seq: int | None = None

    @property
    def where(self) -> str:
        """The cell's place, for people."""
        return f"event {self.seq}, cell {self.name}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of disclosures.jsonl as read: typed, not yet judged."""

    audit_seq: int | None
    length: int | None
    member: str | None
    name: str
    offset: int | None
    salt: str | None
    seq: int
    state: str

    @property
    def slot(self) -> Slot | None:
        """Where the row says that the body stands, or None when it doesn't say all three."""
        if self.member is None or self.offset is None or self.length is None:
            return None
        return Slot(self.member, self.offset, self.length)


def encode(disclosures: list[Disclosure]) -> tuple[bytes, dict[str, bytes]]:
    """Return disclosures.jsonl, and the members of cells/ and artifacts/ that it speaks of."""
    places = slots((d.name, None if d.body is None else len(d.body)) for d in disclosures)
    lines: list[bytes] = []
    bodies: dict[str, list[bytes]] = {}
    for d, slot in zip(disclosures, places, strict=True):
        lines.append(canonical.dumps(_line(d, slot)))
        if slot is not None and d.body is not None:
            bodies.setdefault(slot.member, []).append(d.body)
    members = {
        name: parts[0] if name.startswith("artifacts/") else b"".join(part + b"\n" for part in parts)
        for name, parts in bodies.items()
    }
    return b"".join(line + b"\n" for line in lines), members


def read(line: bytes, limit: int) -> Row:
    """Return the row of a line. Errors: Corrupt when it is not canonical or a type is wrong."""
    value = canonical.loads(line, limit=limit)
    if value.keys() != _TYPES.keys():
        raise Corrupt("the fields are not those of a disclosure")
    for name, kinds in _TYPES.items():
        if type(value[name]) not in kinds:
            raise Corrupt(f"field {name!r} has the wrong type")
    if value["state"] not in _STATES:
        raise Corrupt(f"state {value['state'][:24]!r} is not one of a cell")
    return Row(**value)


def from_rows(rows: list[Row], body: Callable[[Slot], bytes]) -> list[Disclosure]:
    """Return the cells of rows that a verifier has passed; `body` reads a slot."""
    return [
        Disclosure(
            row.seq,
            row.name,
            row.state,
            None if row.salt is None else bytes.fromhex(row.salt),
            None if row.slot is None else body(row.slot),
            row.audit_seq,
        )
        for row in rows
    ]


def _line(d: Disclosure, slot: Slot | None) -> dict[str, Any]:
    return {
        "audit_seq": d.audit_seq,
        "length": slot.length if slot else None,
        "member": slot.member if slot else None,
        "name": d.name,
        "offset": slot.offset if slot else None,
        "salt": d.salt.hex() if d.salt is not None else None,
        "seq": d.seq,
        "state": d.state,
    }
