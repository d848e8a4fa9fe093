"""Columns for `unnest`, sent in PostgreSQL's binary array form.

psycopg's own list dumpers choose int2, int4 or int8 by the values at hand, so
one statement would be prepared many times over, and they dump element by
element in Python. These name their type and pack a column at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct("!iiIii")
_NULL = b"\xff\xff\xff\xff"
_LENGTHS = [n.to_bytes(4, "big") for n in range(2048)]


class Column:
    """A one-dimensional array of one PostgreSQL type, already packed."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Int8(Column):
    """bigint[]"""


class Int4(Column):
    """integer[]"""


class Int2(Column):
    """smallint[]"""


class Bool(Column):
    """boolean[]"""


class Text(Column):
    """text[]"""


class Bytea(Column):
    """bytea[]"""


def int8(values: Sequence[int]) -> Int8:
    """Return `values` as bigint[]."""
    return Int8(_fixed(values, 20, "q", 8))


def int4(values: Sequence[int]) -> Int4:
    """Return `values` as integer[]."""
    return Int4(_fixed(values, 23, "i", 4))


def int2(values: Sequence[int]) -> Int2:
    """Return `values` as smallint[]."""
    return Int2(_fixed(values, 21, "h", 2))


def boolean(values: Sequence[bool]) -> Bool:
    """Return `values` as boolean[]."""
    return Bool(_fixed(values, 16, "?", 1))


def text(values: Sequence[str | bytes | None]) -> Text:
    """Return `values` as text[]; bytes are taken as UTF-8."""
    return Text(_variable([v.encode() if type(v) is str else v for v in values], 25))  # type: ignore[misc]


def bytea(values: Sequence[bytes | None]) -> Bytea:
    """Return `values` as bytea[]."""
    return Bytea(_variable(values, 17))


def _fixed(values: Sequence[Any], oid: int, code: str, width: int) -> bytes:
    count = len(values)
    flat: list[Any] = [width] * (2 * count)
    flat[1::2] = values
    return _HEADER.pack(1 if count else 0, 0, oid, count, 1)[: 20 if count else 12] + struct.pack(
        "!" + f"i{code}" * count, *flat
    )


def _variable(values: Sequence[bytes | None], oid: int) -> bytes:
    count = len(values)
    header = _HEADER.pack(1, int(None in values), oid, count, 1) if count else struct.pack("!iiI", 0, 0, oid)
    # Length and value in turn; lengths are mostly short, and each is packed once for all.
    parts: list[bytes] = [b""] * (2 * count)
    parts[0::2] = [
        _NULL if v is None else _LENGTHS[n] if (n := len(v)) < len(_LENGTHS) else n.to_bytes(4, "big") for v in values
    ]
    parts[1::2] = [v or b"" for v in values]
    return header + b"".join(parts)


def register(connection: AsyncConnection[Any]) -> None:
    """Teach `connection` to send these columns."""
    for kind, oid in ((Int8, 1016), (Int4, 1007), (Int2, 1005), (Bool, 1000), (Text, 1009), (Bytea, 1001)):
        connection.adapters.register_dumper(kind, _DUMPERS[kind, oid])


def _dumper(array_oid: int) -> type[Dumper]:
    class ColumnDumper(Dumper):
        format = Format.BINARY
        oid = array_oid

        def dump(self, obj: Any) -> bytes:
            data: bytes = obj.data
            return data

    return ColumnDumper


_DUMPERS = {
    (kind, oid): _dumper(oid)
    for kind, oid in ((Int8, 1016), (Int4, 1007), (Int2, 1005), (Bool, 1000), (Text, 1009), (Bytea, 1001))
}
