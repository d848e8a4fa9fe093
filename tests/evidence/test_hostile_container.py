"""H01 to H22: archives that say two things. Each case changes only what its row names."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import pytest

from aetheris.evidence import archive, format, parts
from aetheris.evidence.verify import verify
from tests.evidence.evidence_job import LAYER, base, dumps, judged, package
from tests.evidence.evidence_zip import Entry, Zip, zip_of

EVENTS, SEAL = "events.jsonl", "seal.json"


@cache
def members() -> dict[str, bytes]:
    return base().members()


def honest() -> bytes:
    return zip_of(members()).build()


def lying(spoil: Callable[[Zip], object]) -> bytes:
    made = zip_of(members())
    spoil(made)
    return made.build()


def entry(name: str, **fields: object) -> bytes:
    """The base with one entry's fields otherwise."""
    return lying(lambda z: [setattr(z[name], k, v) for k, v in fields.items()])


def stray(name: bytes, data: bytes = b"x", **fields: object) -> bytes:
    """The base with one more entry, at the place where sorting would have it."""
    return lying(lambda z: z.entries.insert(len(z.entries) - 1, Entry(name, data, **fields)))  # type: ignore[arg-type]


def without(name: str, *, follow: bool = True) -> bytes:
    left = {k: v for k, v in members().items() if k != name}
    return package(left) if follow else archive.build(left)


def replaced(name: str, data: bytes, *, follow: bool = True) -> bytes:
    changed = members() | {name: data}
    return package(changed) if follow else archive.build(changed)


def zip64(extra_entries: int = 0, *, locator: int | None = None) -> bytes:
    """A needless zip64 record and locator before the end record."""

    def spoil(z: Zip) -> None:
        at = len(honest()) - archive.END.size
        count = len(z.entries) + extra_entries
        record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, 0, 0)
        z.tail = record + struct.pack("<IIQI", 0x07064B50, 0, at if locator is None else locator, 1)

    return lying(spoil)


def deflated(name: str = EVENTS, claim: int | None = None) -> bytes:
    data = members()[name]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    size = len(data) if claim is None else claim
    fields = {"method": 8, "stored size": len(packed), "size": size, "CRC-32": zlib.crc32(data)}
    return entry(name, data=packed, local=fields, central=fields)


def both(name: str = EVENTS, **fields: int) -> bytes:
    named = {k.replace("_", " "): v for k, v in fields.items()}
    return entry(name, local=named, central=named)


def renamed(new: bytes, old: str = SEAL) -> bytes:
    return lying(lambda z: setattr(z[old], "name", new))


def descriptor(form: str) -> bytes:
    data = members()[EVENTS]
    crc = zlib.crc32(data) if form != "contradicting" else 1
    after = struct.pack("<III", crc, len(data), len(data))
    if form != "unsigned":
        after = b"PK\7\10" + after
    empty = {"flags": 8, "CRC-32": 0, "stored size": 0, "size": 0}
    return entry(EVENTS, local=empty, central={"flags": 8}, after=after)


def overlapping() -> bytes:
    def spoil(z: Zip) -> None:
        z["manifest.json"].central = {"offset": 0}
        z["manifest.json"].ghost = True

    return lying(spoil)


def foreign_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members().items():
            z.writestr(name, data)
    return out.getvalue()


AES = b"\x01\x99\x07\x00\x02\x00AE\x03\x00\x00"
CASES: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "H01-not-a-zip": ("CON", 2, lambda: b"Dear auditor, all is well. " * 40),
    "H01-empty-file": ("CON", 2, lambda: b""),
    "H01-cut-before-the-end-record": ("CON", 2, lambda: honest()[:-22]),
    "H01-cut-inside-the-end-record": ("CON", 2, lambda: honest()[:-3]),
    "H02-polyglot": ("CON", 1, lambda: lying(lambda z: setattr(z, "prefix", b"#!/bin/sh\nexit\n"))),
    "H02-bytes-in-front-offsets-unmoved": (
        "CON", 1, lambda: lying(lambda z: (setattr(z, "prefix", b"%PDF-1.7\n"), setattr(z, "shift", False)))),
    "H02-second-archive-in-front": ("CON", 1, lambda: lying(lambda z: setattr(z, "prefix", honest()))),
    "H03-bytes-after-the-end": ("CON", 1, lambda: honest() + b"\0"),
    "H03-archive-comment": ("CON", 1, lambda: lying(lambda z: setattr(z, "comment", b"hello"))),
    "H03-entry-comment": ("CON", 1, lambda: entry(EVENTS, comment=b"hello")),
    "H03-second-end-record-in-the-comment": (
        "CON", 1, lambda: lying(lambda z: setattr(z, "comment", honest()[-22:]))),
    "H04-one-name-twice": (
        "CON", 1, lambda: lying(lambda z: z.entries.insert(4, Entry(EVENTS.encode(), members()[EVENTS])))),
    "H05-local-name-differs": ("CON", 1, lambda: entry(EVENTS, local_name=b"Events.jsonl")),
    "H05-local-name-longer": ("CON", 1, lambda: entry(EVENTS, local_name=b"events.jsonl.old")),
    "H06-local-size-differs": ("CON", 1, lambda: entry(EVENTS, local={"size": 1})),
    "H06-local-crc-differs": ("CON", 1, lambda: entry(EVENTS, local={"CRC-32": 1})),
    "H06-local-method-differs": ("CON", 1, lambda: entry(EVENTS, local={"method": 8})),
    "H06-local-flags-differ": ("CON", 1, lambda: entry(EVENTS, local={"flags": 2048})),
    "H07-entry-absent-from-directory": ("CON", 1, lambda: stray(b"trust/a.pub", hidden=True)),
    "H07-directory-entry-without-data": ("CON", 1, lambda: stray(b"trust/a.pub", ghost=True)),
    "H07-bytes-in-a-gap": ("CON", 1, lambda: entry(EVENTS, before=b"gap")),
    "H07-bytes-before-the-directory": ("CON", 1, lambda: lying(lambda z: setattr(z, "gap", b"gap"))),
    "H07-bytes-behind-the-directory": ("CON", 1, lambda: lying(lambda z: setattr(z, "tail", b"gap"))),
    "H08-entries-share-data": ("CON", 1, overlapping),
    "H08-entry-runs-into-the-next": ("CON", 1, lambda: both(stored_size=9000, size=9000)),
    "H09-needless-zip64": ("CON", 1, zip64),
    "H09-locator-elsewhere": ("CON", 1, lambda: zip64(locator=7)),
    "H09-records-disagree": ("CON", 1, lambda: zip64(3)),
    "H09-needless-zip64-extra": (
        "CON", 1, lambda: entry(EVENTS, central_extra=struct.pack("<HHQ", 1, 8, len(members()[EVENTS])))),
    "H09-doubled-zip64-extra": (
        "CON", 1, lambda: entry(EVENTS, central_extra=struct.pack("<HHQ", 1, 8, 5) * 2, central={"size": 0xFFFFFFFF})),
    "H10-directory-size": ("CON", 1, lambda: lying(lambda z: z.end.update({"directory size": 46}))),
    "H10-directory-offset": ("CON", 1, lambda: lying(lambda z: z.end.update({"directory offset": 0}))),
    "H10-entry-count": ("CON", 1, lambda: lying(lambda z: z.end.update({"entries": 3}))),
    "H10-entry-count-here": ("CON", 1, lambda: lying(lambda z: z.end.update({"entries here": 3}))),
    "H10-disk-number": ("CON", 1, lambda: lying(lambda z: z.end.update({"disk": 1}))),
    "H10-directory-disk": ("CON", 1, lambda: lying(lambda z: z.end.update({"directory's disk": 1}))),
    "H10-entry-on-another-disk": ("CON", 1, lambda: entry(EVENTS, central={"disk": 1})),
    "H11-data-descriptor": ("CON", 1, lambda: descriptor("signed")),
    "H11-unsigned-descriptor": ("CON", 1, lambda: descriptor("unsigned")),
    "H11-contradicting-descriptor": ("CON", 1, lambda: descriptor("contradicting")),
    "H12-encrypted": ("CON", 1, lambda: both(flags=1)),
    "H12-strong-encryption": ("CON", 1, lambda: both(flags=64)),
    "H12-masked-headers": ("CON", 1, lambda: both(flags=8192)),
    "H12-aes-extra": ("CON", 1, lambda: entry(EVENTS, extra=AES, central_extra=AES)),
    "H12-deflate": ("CON", 1, deflated),
    **{f"H12-method-{m}": ("CON", 1, (lambda m=m: both(method=m))) for m in (9, 12, 14, 93, 99)},
    "H13-crc-wrong": ("CON", 1, lambda: both(**{"CRC-32": 1})),
    "H13-data-ends-early": ("CON", 1, lambda: entry(EVENTS, data=members()[EVENTS], local={}, after=b"late")),
    "H13-data-ends-late": ("CON", 1, lambda: both("report.html", stored_size=10**6, size=10**6)),
    "H13-two-sizes-unequal": ("CON", 1, lambda: both(stored_size=17)),
    "H14-claims-above-the-limit": ("CON", 2, lambda: both(stored_size=200 * 2**20, size=200 * 2**20)),
    "H14-manifest-claims-above-the-limit": ("CON", 2, lambda: both("manifest.json", size=2**31)),
    "H14-deflated-bomb": ("CON", 2, lambda: deflated(claim=2**31)),
    "H14-zip64-claim": (
        "CON", 2, lambda: entry(EVENTS, central_extra=struct.pack("<HHQ", 1, 8, 2**50), central={"size": 0xFFFFFFFF})),
    "H15-huge-count": ("CON", 2, lambda: lying(lambda z: z.end.update({"entries": 60000, "entries here": 60000}))),
    "H15-zip64-count": ("CON", 2, lambda: zip64(2**40)),
    "H15-more-entries-than-the-limit": (
        "CON", 2, lambda: lying(lambda z: z.entries.extend(Entry(b"trust/%d.pub" % n, b"") for n in range(5000)))),
    **{
        f"H16-{how}": ("CON", 1, (lambda name=name: stray(name)))
        for how, name in {
            "dot-dot": b"trust/../../etc/cron.d/x", "dot": b"trust/./a.pub", "leading-slash": b"/etc/passwd",
            "drive": b"C:/a.pub", "unc": b"//host/share/a", "backslash": b"trust\\a.pub", "nul": b"trust/a.pub\0.exe",
            "empty-segment": b"trust//a.pub", "empty-name": b"",
        }.items()
    },
    "H17-symlink": ("CON", 1, lambda: entry(EVENTS, central={"external attributes": 0o120777 << 16})),
    "H17-device": ("CON", 1, lambda: entry(EVENTS, central={"external attributes": 0o020666 << 16})),
    "H17-folder-entry": ("CON", 1, lambda: stray(b"trust/", b"")),
    "H18-case-twin": ("CON", 1, lambda: stray(b"Seal.json")),
    "H18-other-case": ("CON", 1, lambda: renamed(b"SEAL.JSON")),
    "H18-windows-device": ("CON", 1, lambda: stray(b"trust/con.pub")),
    "H18-trailing-dot": ("CON", 1, lambda: renamed(b"seal.json.")),
    "H18-trailing-space": ("CON", 1, lambda: renamed(b"seal.json ")),
    "H18-stream": ("CON", 1, lambda: stray(b"seal.json:evil")),
    "H19-nfc": ("CON", 1, lambda: stray("trust/é.pub".encode())),
    "H19-nfd": ("CON", 1, lambda: stray("trust/é.pub".encode())),
    "H19-bidi": ("CON", 1, lambda: stray("trust/\u202ebup.exe".encode(), local={"flags": 2048})),
    "H19-cp437": ("CON", 1, lambda: stray(b"trust/\x82.pub")),
    "H19-utf8-flag": ("CON", 1, lambda: both(flags=2048)),
    "H19-name-override": ("CON", 1, lambda: entry(EVENTS, central_extra=b"up\x06\x00\x01\0\0\0\0x")),
    "H20-missing": ("CON", 1, lambda: without("mimetype")),
    "H20-not-first": ("CON", 1, lambda: lying(lambda z: z.entries.insert(1, z.entries.pop(0)))),
    "H20-extra-field": ("CON", 1, lambda: entry("mimetype", extra=b"\xfe\xca\0\0")),
    "H20-wrong": ("CON", 1, lambda: replaced("mimetype", b"application/zip")),
    "H20-newline": ("CON", 1, lambda: replaced("mimetype", format.MEDIA_TYPE + b"\n")),
    "H21-not-in-the-manifest": ("CON", 1, lambda: archive.build(
        {n: d for n, d in sorted((members() | {"trust/a.pub": b"x"}).items(), key=lambda m: format.position(m[0]))})),
    "H21-listed-and-absent": ("CON", 1, lambda: without("artifacts/000002.bin", follow=False)),
    "H21-digest-differs": ("CON", 1, lambda: replaced("leaves.bin", bytes(len(members()["leaves.bin"])), follow=False)),
    "H21-size-differs": ("CON", 1, lambda: replaced("leaves.bin", b"", follow=False)),
    "H21-unknown-folder": ("CON", 1, lambda: stray(b"extra/notes.txt")),
    "H21-listed-twice": ("CON", 1, lambda: replaced("manifest.json", members()["manifest.json"].replace(
        b'"members":[', b'"members":[{"name":"mimetype","sha256":"","size":1},'), follow=False)),
    "H21-listed-in-another-order": ("CON", 1, lambda: _reordered_manifest()),
    "H21-log-proof-without-a-seal": ("CON", 1, lambda: package(
        {n: d for n, d in members().items() if n != SEAL} | {"log/seal.tlog-proof": b"x"})),
    "H22-clock-time": ("CON", 1, lambda: both(time=1234, date=22000)),
    "H22-extra-fields": ("CON", 1, lambda: entry(EVENTS, extra=b"UT\5\0\3\0\0\0\0", central_extra=b"UT\5\0\3\0\0\0\0")),
    "H22-host-system": ("CON", 1, lambda: entry(EVENTS, central={"made by": 20})),
    "H22-mode": ("CON", 1, lambda: entry(EVENTS, central={"external attributes": 0o100755 << 16})),
    "H22-order": ("CON", 1, lambda: lying(lambda z: z.entries.insert(3, z.entries.pop(5)))),
    "H22-internal-attributes": ("CON", 1, lambda: entry(EVENTS, central={"internal attributes": 1})),
    "H22-version-needed": ("CON", 1, lambda: both(**{"version needed": 20})),
    "H22-another-zip-writer": ("CON", 1, foreign_zip),
}  # fmt: skip


def _reordered_manifest() -> bytes:
    import json

    value = json.loads(members()["manifest.json"])
    value["members"].reverse()
    return archive.build(members() | {"manifest.json": dumps(value)})


@pytest.mark.parametrize("case", CASES)
def test_an_archive_that_says_two_things_is_not_read(case: str) -> None:
    """What one unzipper shows and another doesn't can't be evidence."""
    layer, code, made = CASES[case]
    data = made()
    assert data != honest(), "the case changes nothing"
    judged(data, LAYER[layer], code)


def test_the_lying_writer_can_tell_the_truth() -> None:
    """A row proves something only if its base passes."""
    assert honest() == parts.package_bytes(base().parts())
    judged(honest(), "none", 3)


def test_every_row_of_the_section_has_a_case() -> None:
    """A row without a case is a promise nobody holds."""
    assert {case[:3] for case in CASES} == {f"H{n:02d}" for n in range(1, 23)}


def test_a_finding_names_the_member_and_the_field() -> None:
    """An auditor must be able to see it with a hex editor."""
    finding = verify(both(flags=1))["container"].findings[0]
    assert (finding.where, finding.expected, finding.found) == ("events.jsonl, local header", "0", "1")
    assert "flags" in finding.what
