"""The members of a package from its parts: the one place where a package's bytes come about.

Writer and redaction both end here, so the same parts always give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from aetheris.domain import canonical, merkle
from aetheris.evidence import archive, disclosures, format, manifest, report
from aetheris.evidence.disclosures import Disclosure
from aetheris.evidence.source import SealMembers


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a package's bytes follow from. `rows` are the lines of invocations.jsonl."""

    tenant: str
    job: str
    lines: list[bytes]
    rows: list[bytes]
    cells: list[Disclosure]
    seal: SealMembers = field(default_factory=SealMembers)
    trust: Mapping[str, bytes] = field(default_factory=dict)
    damaged: bool = False


def joined(lines: list[bytes]) -> bytes:
    """Return the bytes of a .jsonl member: each line ends in one LF."""
    return b"".join(line + b"\n" for line in lines)


def members(parts: Parts) -> dict[str, bytes]:
    """Return the members in the package's order, manifest and report included."""
    rows, bodies = disclosures.encode(parts.cells)
    sealed = parts.seal.statement is not None
    unordered = {
        format.MIMETYPE: format.MEDIA_TYPE,
        format.SEAL: parts.seal.statement,
        format.SEAL_DSSE: parts.seal.dsse,
        format.EVENTS: joined(parts.lines),
        format.LEAVES: b"".join(merkle.leaf_hash(line) for line in parts.lines),
        format.INVOCATIONS: joined(parts.rows),
        format.DISCLOSURES: rows,
        **bodies,
        format.TLOG_PROOF: parts.seal.tlog_proof,
        format.TIMESTAMP: parts.seal.timestamp,
        **{format.TRUST + name: data for name, data in parts.trust.items()},
        format.REPORT: report.render(parts.tenant, parts.job, parts.lines, parts.rows, parts.cells, sealed=sealed),
    }
    present = {name: data for name, data in unordered.items() if data is not None}
    return with_manifest(parts.tenant, parts.job, present, damaged=parts.damaged)


def with_manifest(tenant: str, job: str, present: Mapping[str, bytes], *, damaged: bool) -> dict[str, bytes]:
    """Return the members in order, with a manifest that lists them."""
    listed = {name: present[name] for name in sorted(present, key=format.position) if name != format.MANIFEST}
    listed[format.MANIFEST] = manifest.dumps(tenant, job, listed, damaged=damaged)
    return {name: listed[name] for name in sorted(listed, key=format.position)}


def package_bytes(parts: Parts) -> bytes:
    """Return the package."""
    return archive.build(members(parts))


def ledger_bytes(rows: list[dict[str, object]]) -> list[bytes]:
    """Return the lines of invocations.jsonl."""
    return [canonical.dumps(row) for row in rows]


def sha256(data: bytes) -> str:
    """Return SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
