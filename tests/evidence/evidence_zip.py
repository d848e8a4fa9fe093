"""A zip writer that lies on request: every field of every record can be made wrong."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aetheris.evidence.archive import CENTRAL, CENTRAL_FIELDS, END, END_FIELDS, LOCAL, LOCAL_FIELDS


@dataclass
class Entry:
    """One member and how its two records lie about it."""

    name: bytes
    data: bytes
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    local_name: bytes | None = None
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    before: bytes = b""
    after: bytes = b""
    hidden: bool = False  # absent from the directory
    ghost: bool = False  # absent from the data


@dataclass
class Zip:
    """An archive to be: entries, what stands around them, and how the end record lies."""

    entries: list[Entry]
    prefix: bytes = b""
    gap: bytes = b""
    tail: bytes = b""
    suffix: bytes = b""
    comment: bytes = b""
    end: dict[str, Any] = field(default_factory=dict)
    shift: bool = True  # offsets follow the prefix

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name."""
        return next(e for e in self.entries if e.name == name.encode())

    def build(self) -> bytes:
        """The archive's bytes."""
        out, listing, count = bytearray(self.prefix), b"", 0
        moved = 0 if self.shift else len(self.prefix)
        for e in self.entries:
            out += e.before
            offset, crc = len(out) - moved, zlib.crc32(e.data)
            name = e.name if e.local_name is None else e.local_name
            local = _fields(
                LOCAL_FIELDS, (0x04034B50, 10, 0, 0, 0, 33, crc, len(e.data), len(e.data), len(name), len(e.extra))
            )
            if not e.ghost:
                out += LOCAL.pack(*(local | e.local).values()) + name + e.extra + e.data
            out += e.after
            if not e.hidden:
                values = (
                    0x02014B50, 3 << 8 | 20, 10, 0, 0, 0, 33, crc, len(e.data), len(e.data), len(e.name),
                    len(e.central_extra), len(e.comment), 0, 0, 0o100644 << 16, offset,
                )  # fmt: skip
                central = _fields(CENTRAL_FIELDS, values) | e.central
                listing += CENTRAL.pack(*central.values()) + e.name + e.central_extra + e.comment
                count += 1
        out += self.gap
        start = len(out) - moved
        out += listing + self.tail
        end = _fields(END_FIELDS, (0x06054B50, 0, 0, count, count, len(listing), start, len(self.comment))) | self.end
        return bytes(out) + END.pack(*end.values()) + self.comment + self.suffix


def zip_of(members: Mapping[str, bytes]) -> Zip:
    """An honest archive of members, ready to be spoiled."""
    return Zip([Entry(name.encode(), data) for name, data in members.items()])


def _fields(names: tuple[str, ...], values: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(names, values, strict=True))
