"""Opens an evidence package strictly: one set of members has one archive, and only that one is read.

The rule that closes most ways of lying in a zip: take names and sizes from the
directory, write every record anew as the writer would, and require the same
bytes. What is left over (comments, gaps, second records) has no place to be.

    1  size and end record          no end record: not a zip, or cut        Unusable
    2  claims in the directory      beyond a limit: nothing is allocated    Unusable
    3  the manifest's version       a later format                          Unusable
    4  every record, rebuilt        other bytes                             Corrupt
    5  names, order, manifest       other members than listed               Corrupt

Never `zipfile`: it opens archives whose records contradict each other. The
package is held in memory whole, so nobody can change it between check and use.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from aetheris.domain import merkle
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.domain.plain import printable
from aetheris.evidence import archive, format, manifest
from aetheris.evidence.format import LIMITS, Limits, Slot

_COMMENT_BYTES = 0xFFFF
_NONE = 0xFFFFFFFF  # "see the zip64 record"
_ZIP64_LOCATOR = b"PK\x06\x07"


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose container is sound. What its members say is not judged yet."""

    data: bytes
    spans: dict[str, tuple[int, int]]
    manifest: manifest.Manifest
    limits: Limits

    def __contains__(self, name: str) -> bool:
        """Return whether there is a member of that name."""
        return name in self.spans

    def member(self, name: str) -> bytes:
        """Return a member's bytes. Errors: KeyError."""
        start, end = self.spans[name]
        return self.data[start:end]

    def size(self, name: str) -> int:
        """Return a member's size. Errors: KeyError."""
        start, end = self.spans[name]
        return end - start

    def body(self, slot: Slot) -> bytes:
        """Return the bytes in a slot, fewer when it reaches beyond its member. Errors: KeyError."""
        start, end = self.spans[slot.member]
        return self.data[min(start + slot.offset, end) : min(start + slot.offset + slot.length, end)]

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield a member's lines without their LF; split at byte 0x0A and nowhere else.

        Errors: Unusable beyond a limit; Corrupt at a blank line or a last one without LF.
        """
        limits = self.limits
        longest = limits.disclosure_line_bytes if name == format.DISCLOSURES else limits.line_bytes
        start, end = self.spans[name]
        number = 0
        while start < end:
            number += 1
            where = f"{name} line {number}"
            stop = self.data.find(b"\n", start, end)
            if (end if stop < 0 else stop) - start > longest or number > limits.lines:
                raise Unusable(f"{where} is beyond a limit ({longest} bytes a line, {limits.lines} lines)")
            if stop < 0:
                raise Corrupt("the last line does not end in a line feed", where=where)
            if stop == start:
                raise Corrupt("a blank line", where=where)
            yield self.data[start:stop]
            start = stop + 1


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    crc: int
    stored_size: int
    size: int
    offset: int
    extra: bytes
    start: int  # of its record in the directory


def open_package(source: Path | bytes, limits: Limits = LIMITS) -> Package:
    """Return the package, only if its container is exactly what the writer would have written.

    Errors: Unusable when it can't be read at all; Corrupt when it says two things.
    """
    data = source if isinstance(source, bytes) else _load(source, limits)
    if len(data) > limits.package_bytes:
        raise Unusable(f"larger than {limits.package_bytes} bytes")
    end = _end_record(data)
    entries, broken = _directory(data, end, limits)
    _check_claims(entries, limits)
    _check_version(data, entries, limits)
    if broken:
        raise broken
    spans = _rebuild(data, end, entries)
    return Package(data, spans, _members(data, spans, limits), limits)


def _load(path: Path, limits: Limits) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.package_bytes + 1)
    except OSError as error:
        raise Unusable(f"can't read {printable(str(path))}: {error.strerror}") from None


def _end_record(data: bytes) -> int:
    # The last one that can be found: whatever stands before or after it is a contradiction later on.
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - archive.END.size - _COMMENT_BYTES))
    if at < 0 or at + archive.END.size > len(data):
        raise Unusable("not a zip archive, or cut short: it has no end record")
    return at


def _directory(data: bytes, end: int, limits: Limits) -> tuple[list[_Entry], Corrupt | None]:
    # Returns the entries up to where the directory breaks, so that their claims can be judged first.
    _, _, _, here, count, size, offset, _ = archive.END.unpack_from(data, end)
    zip64 = data[max(0, end - 20) : end].startswith(_ZIP64_LOCATOR)
    claimed = _zip64_count(data, end) if zip64 else max(here, count)
    if claimed > limits.entries:
        raise Unusable(f"it claims {claimed} entries; the limit is {limits.entries}")
    if zip64:
        return [], Corrupt("a zip64 record, which this format has no use for", where=f"byte {end}")
    if offset + size != end:
        return [], Corrupt(
            "the directory's offset and size do not end at the end record",
            where=f"byte {end}",
            expected=str(end),
            found=str(offset + size),
        )
    entries: list[_Entry] = []
    at = offset
    while at < end:
        if len(entries) >= limits.entries:
            raise Unusable(f"more than {limits.entries} entries")
        if at + archive.CENTRAL.size > end or data[at : at + 4] != b"PK\x01\x02":
            return entries, Corrupt("the directory holds something that is not an entry", where=f"byte {at}")
        fields = archive.CENTRAL.unpack_from(data, at)
        names, extras, comments = fields[10:13]
        head = at + archive.CENTRAL.size
        extra = data[head + names : head + names + extras]
        crc, stored, full = fields[7:10]
        entries.append(_Entry(data[head : head + names], crc, stored, full, fields[16], extra, at))
        at = head + names + extras + comments
    return entries, None


def _zip64_count(data: bytes, end: int) -> int:
    # Only to tell a claim beyond the limits from a needless record; neither is read.
    at = data.rfind(b"PK\x06\x06", max(0, end - 20 - _COMMENT_BYTES), end)
    return int.from_bytes(data[at + 32 : at + 40], "little") if at >= 0 else 0


def _check_claims(entries: list[_Entry], limits: Limits) -> None:
    for entry in entries:
        for claim in (entry.stored_size, entry.size, _zip64_size(entry.extra)):
            if claim > limits.member_bytes and not (claim == _NONE and entry.extra[:2] == b"\1\0"):
                name = printable(entry.name.decode("ascii", "backslashreplace"))
                raise Unusable(f"{name} claims {claim} bytes; the limit is {limits.member_bytes}")


def _zip64_size(extra: bytes) -> int:
    return int.from_bytes(extra[4:12], "little") if extra[:2] == b"\1\0" else 0


def _check_version(data: bytes, entries: list[_Entry], limits: Limits) -> None:
    for entry in entries:
        if entry.name == format.MANIFEST.encode() and entry.size <= limits.document_bytes:
            start = entry.offset + archive.LOCAL.size + len(entry.name)
            manifest.check_version(data[start : start + entry.size], limits.document_bytes)


def _rebuild(data: bytes, end: int, entries: list[_Entry]) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    offset = 0
    directory = entries[0].start if entries else end
    for entry in entries:
        name = _name(entry, spans)
        if entry.offset != offset:
            raise Corrupt(
                "bytes before it, or shared with another member",
                where=name,
                expected=str(offset),
                found=str(entry.offset),
            )
        start = offset + archive.LOCAL.size + len(entry.name)
        offset = start + entry.size
        if offset > directory:
            raise Corrupt("its data would end inside the directory", where=name)
        crc = zlib.crc32(memoryview(data)[start:offset])
        if name == format.EVENTS and crc != entry.crc and (event := _changed_event(data[start:offset], data, entries)):
            raise Corrupt(f"{event} is not the line that was hashed", where=name)
        header = archive.local_header(entry.name, crc, entry.size)
        _same(data, entry.offset, header, archive.LOCAL, archive.LOCAL_FIELDS, f"{name}, local header")
        listed = archive.central_header(entry.name, crc, entry.size, entry.offset)
        _same(data, entry.start, listed, archive.CENTRAL, archive.CENTRAL_FIELDS, f"{name}, directory")
        spans[name] = (start, offset)
    if offset != directory:
        raise Corrupt("bytes that no member owns, before the directory", where=f"byte {offset}")
    last = archive.end_record(len(entries), end - directory, directory)
    _same(data, end, last, archive.END, archive.END_FIELDS, "end record")
    if end + len(last) != len(data):
        raise Corrupt("bytes after the end record", where=f"byte {end + len(last)}")
    return spans


def _changed_event(lines: bytes, data: bytes, entries: list[_Entry]) -> str:
    """Name the first line that is not the one its leaf was made of, as a help to people; "" when none shows."""
    leaves = next((e for e in entries if e.name == format.LEAVES.encode()), None)
    if leaves is None:
        return ""
    at = leaves.offset + archive.LOCAL.size + len(leaves.name)
    for number, line in enumerate(lines.split(b"\n")[:-1]):
        if merkle.leaf_hash(line) != data[at + 32 * number : at + 32 * number + 32]:
            return f"event {number + 1}"
    return ""


def _name(entry: _Entry, before: dict[str, tuple[int, int]]) -> str:
    fault = format.name_fault(entry.name)
    shown = entry.name.decode("ascii", "backslashreplace")
    if fault:
        raise Corrupt(f"a member's name is {fault}", where=shown[:200])
    if shown in before:
        raise Corrupt("a second member of this name", where=shown)
    if before and format.position(shown) < format.position(next(reversed(before))):
        raise Corrupt("out of order", where=shown)
    return shown


def _same(data: bytes, at: int, expected: bytes, record: Struct, fields: tuple[str, ...], where: str) -> None:
    if data[at : at + len(expected)] == expected:
        return
    if at + record.size <= len(data):
        pairs = zip(fields, record.unpack_from(expected), record.unpack_from(data, at), strict=True)
        for name, wanted, found in pairs:
            if wanted != found:
                raise Corrupt(
                    f"{name} is not as the writer writes it", where=where, expected=str(wanted), found=str(found)
                )
    raise Corrupt("not as the writer writes it", where=where)


def _members(data: bytes, spans: dict[str, tuple[int, int]], limits: Limits) -> manifest.Manifest:
    for name in format.REQUIRED:
        if name not in spans:
            raise Corrupt("a member that every package has is absent", where=name)
    for name in format.OF_THE_SEAL:
        if name in spans and format.SEAL not in spans:
            raise Corrupt("it speaks of a seal, and there is none", where=name)
    for name in (format.MANIFEST, format.MANIFEST_DSSE, format.SEAL, *format.OF_THE_SEAL):
        start, end = spans.get(name, (0, 0))
        if end - start > limits.document_bytes:
            raise Unusable(f"{name} is longer than {limits.document_bytes} bytes")
    start, end = spans[format.MIMETYPE]
    if data[start:end] != format.MEDIA_TYPE:
        raise Corrupt("another media type", where=format.MIMETYPE, expected=format.MEDIA_TYPE.decode())
    start, end = spans[format.MANIFEST]
    try:
        listed = manifest.loads(data[start:end], limits.document_bytes)
    except Corrupt as error:
        raise Corrupt(str(error), where=format.MANIFEST, expected=error.expected, found=error.found) from None
    _check_listing(data, spans, listed)
    return listed


def _check_listing(data: bytes, spans: dict[str, tuple[int, int]], listed: manifest.Manifest) -> None:
    present = [name for name in spans if name not in format.UNLISTED]
    if present != list(listed.members):
        odd = min(set(present) ^ set(listed.members), default=None)
        if odd is None:
            raise Corrupt("manifest.json lists the members in another order", where=format.MANIFEST)
        how = "is not in the manifest" if odd in spans else "is in the manifest and absent"
        raise Corrupt(f"a member {how}", where=odd[:200])
    for name, (digest, size) in listed.members.items():
        start, end = spans[name]
        found = hashlib.sha256(memoryview(data)[start:end]).hexdigest()
        if (digest, size) != (found, end - start):
            raise Corrupt("not the bytes that the manifest lists", where=name, expected=digest[:80], found=found)
