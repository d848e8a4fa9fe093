"""Evidence format v1: what its members are called, their order, their limits. Nothing else decides these.

Pure rules, no I/O, so that writer, reader and verifier agree by construction.

    mimetype                 MEDIA_TYPE, no line feed
    manifest.json            what is in the package, put together by whoever hands it over
    manifest.dsse            their signature, if any
    seal.json                in-toto statement over the job, made once when it ended; also the DSSE payload
    seal.dsse                the signature over it
    events.jsonl             the job's lines, byte for byte as hashed, each ending in one LF
    leaves.bin               32 bytes per line: SHA-256(0x00 || line)
    invocations.jsonl        the tool ledger, one attempt per line, in order of start
    disclosures.jsonl        one line per cell that the events commit to: shown, redacted, erased
    cells/000001.jsonl       the bodies of shown cells, one per line, in order; a new member per PACK_BYTES
    artifacts/000001.bin     the body of a cell named artifact/...: any bytes, a member of its own
    log/seal.tlog-proof      the seal's place in the tenant's transparency log
    time/seal.tsr            a timestamp over the seal
    trust/                   keys and certificates as hints; a verifier never trusts them
    report.html              for people; a verifier never trusts it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aetheris.domain import canonical, cells

FORMAT = "aetheris/evidence/v1"
FORMAT_FAMILY = "aetheris/evidence/"
MEDIA_TYPE = b"application/vnd.aetheris.evidence+zip"

#: What a package may require of its reader, beyond v1. None yet: a package that requires
#: anything is for a later release.
FEATURES: frozenset[str] = frozenset()

MIMETYPE, MANIFEST, MANIFEST_DSSE = "mimetype", "manifest.json", "manifest.dsse"
SEAL, SEAL_DSSE = "seal.json", "seal.dsse"
EVENTS, LEAVES = "events.jsonl", "leaves.bin"
INVOCATIONS, DISCLOSURES = "invocations.jsonl", "disclosures.jsonl"
CELLS, ARTIFACTS = "cells/", "artifacts/"
TLOG_PROOF, TIMESTAMP, TRUST = "log/seal.tlog-proof", "time/seal.tsr", "trust/"
REPORT = "report.html"

#: The order of members; within a folder they are sorted by name.
ORDER = (
    MIMETYPE, MANIFEST, MANIFEST_DSSE, SEAL, SEAL_DSSE, EVENTS, LEAVES, INVOCATIONS, DISCLOSURES,
    CELLS, ARTIFACTS, TLOG_PROOF, TIMESTAMP, TRUST, REPORT,
)  # fmt: skip
REQUIRED = (MIMETYPE, MANIFEST, EVENTS, LEAVES, INVOCATIONS, DISCLOSURES, REPORT)
#: Members that say something about the seal, and so are nothing without it.
OF_THE_SEAL = (SEAL_DSSE, TLOG_PROOF, TIMESTAMP)
#: The manifest can list neither itself nor a signature over itself.
UNLISTED = (MANIFEST, MANIFEST_DSSE)

#: A member of cells/ ends before it would grow past this, unless one body alone is longer.
PACK_BYTES = 8 * 1024 * 1024

_PATTERNS = {
    CELLS: re.compile(r"cells/[0-9]{6}\.jsonl\Z"),
    ARTIFACTS: re.compile(r"artifacts/[0-9]{6}\.bin\Z"),
    TRUST: re.compile(r"trust/[a-z0-9][a-z0-9-]{0,62}\.[a-z]{1,8}\Z"),
}
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a reader will hold and do; beyond any of these a package is unusable."""

    package_bytes: int = 256 * 1024 * 1024
    member_bytes: int = 128 * 1024 * 1024
    entries: int = 4096
    lines: int = 1_000_000  # of one member
    line_bytes: int = canonical.LINE_BYTES_LIMIT
    disclosure_line_bytes: int = 4 * 1024 * 1024
    document_bytes: int = 2 * 1024 * 1024  # manifest, seal, signatures
    body_bytes: int = 16 * 1024 * 1024  # of one JSON body; an artifact may fill a member


LIMITS = Limits()


class Slot(NamedTuple):
    """Where the body of a shown cell stands."""

    member: str
    offset: int
    length: int


def position(name: str) -> tuple[int, str]:
    """Return the sort key of a member that `name_fault` finds nothing wrong with."""
    folder, slash, _ = name.partition("/")
    return ORDER.index(name if name in ORDER else folder + slash), name


def name_fault(raw: bytes) -> str:
    """Return why these bytes can't be a member's name, or "" when they can.

    Only the names above pass; the reasons are for people.
    """
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        return "not ASCII"
    folder, slash, _ = name.partition("/")
    pattern = _PATTERNS.get(folder + slash)
    if name in ORDER and not name.endswith("/"):
        return ""
    if pattern and pattern.match(name) and not _DEVICES.match(name[len(folder) + 1 :]):
        return ""
    return _reason(name)


def _reason(name: str) -> str:
    segments = name.split("/")
    if name.endswith("/"):
        return "a folder, not a file"
    if "\\" in name or "\0" in name or ":" in name or any(s in ("", ".", "..") for s in segments):
        return "a path that leads elsewhere"
    if any(_DEVICES.match(s) or s[-1] in ". " for s in segments):
        return "a name that some systems read as another"
    if name.lower() in ORDER:
        return "a member's name in other letters"
    return "not a member of this format"


def is_artifact(cell: str) -> bool:
    """Return whether a cell's body is a file of its own, of any bytes."""
    return cell.startswith(cells.ARTIFACT_PREFIX)


def slots(shown: Iterable[tuple[str, int | None]]) -> list[Slot | None]:
    """Return where each cell's body stands, given (cell name, body length or None) in order.

    Artifacts are numbered whether shown or not, so that redaction renames none.
    """
    placed: list[Slot | None] = []
    pack, used, artifact = 1, 0, 0
    for cell, length in shown:
        if is_artifact(cell):
            artifact += 1
            placed.append(None if length is None else Slot(f"artifacts/{artifact:06d}.bin", 0, length))
        elif length is None:
            placed.append(None)
        else:
            if used and used + length + 1 > PACK_BYTES:
                pack, used = pack + 1, 0
            placed.append(Slot(f"cells/{pack:06d}.jsonl", used, length))
            used += length + 1  # each body is followed by one LF
    return placed
