"""The zip's bytes: one way to write each record, shared by the writer and the strict reader.

Members are stored, since deflate's output differs between zlib builds; there
are no times, extra fields, comments, flags, data descriptors or zip64 records.
So one set of members has one archive.

Source: APPNOTE 6.3.10; ISO/IEC 21320-1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

LOCAL = struct.Struct("<IHHHHHIIIHH")
CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
END = struct.Struct("<IHHHHIIH")

LOCAL_SIGNATURE, CENTRAL_SIGNATURE, END_SIGNATURE = 0x04034B50, 0x02014B50, 0x06054B50
LOCAL_FIELDS = (
    "signature", "version needed", "flags", "method", "time", "date", "CRC-32",
    "stored size", "size", "name length", "extra length",
)  # fmt: skip
CENTRAL_FIELDS = (
    "signature", "made by", "version needed", "flags", "method", "time", "date", "CRC-32", "stored size", "size",
    "name length", "extra length", "comment length", "disk", "internal attributes", "external attributes", "offset",
)  # fmt: skip
END_FIELDS = (
    "signature", "disk", "directory's disk", "entries here", "entries", "directory size", "directory offset",
    "comment length",
)  # fmt: skip

_VERSION_NEEDED = 10
_MADE_BY = 3 << 8 | 20  # Unix, so that the mode below is read
_MODE = 0o100644 << 16  # a plain file
_DATE = 1 << 5 | 1  # 1980-01-01, the earliest there is


def local_header(name: bytes, crc: int, size: int) -> bytes:
    """Return the header that stands before a member's bytes."""
    fields = (LOCAL_SIGNATURE, _VERSION_NEEDED, 0, 0, 0, _DATE, crc, size, size, len(name), 0)
    return LOCAL.pack(*fields) + name


def central_header(name: bytes, crc: int, size: int, offset: int) -> bytes:
    """Return a member's entry in the directory."""
    fields = (
        CENTRAL_SIGNATURE, _MADE_BY, _VERSION_NEEDED, 0, 0, 0, _DATE, crc, size, size,
        len(name), 0, 0, 0, 0, _MODE, offset,
    )  # fmt: skip
    return CENTRAL.pack(*fields) + name


def end_record(count: int, size: int, offset: int) -> bytes:
    """Return the archive's last bytes, for a directory of `count` entries and `size` bytes at `offset`."""
    return END.pack(END_SIGNATURE, 0, 0, count, count, size, offset, 0)


def build(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of `members`, in their order."""
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, data in members.items():
        raw, crc = name.encode("ascii"), zlib.crc32(data)
        header = local_header(raw, crc, len(data))
        directory.append(central_header(raw, crc, len(data), offset))
        parts += (header, data)
        offset += len(header) + len(data)
    listing = b"".join(directory)
    return b"".join((*parts, listing, end_record(len(directory), len(listing), offset)))
