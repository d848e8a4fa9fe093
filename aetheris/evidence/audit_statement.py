"""What an exporter says of an audit chain's file, in an in-toto statement, and the file beside it that holds it signed.

The subject is the file by its SHA-256, under one name whatever it is called
where it lies; the predicate says whose chain it is, how many entries it had,
which leaf was the last, and when. Only the signed form is kept: without a key
there is no statement.

    audit.jsonl         the chain
    audit.jsonl.dsse    the DSSE envelope over the statement
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aetheris.domain.errors import Corrupt
from aetheris.evidence import dsse, statement
from aetheris.evidence.format import LIMITS

PREDICATE_TYPE = "urn:aetheris:audit-export:v1"
SUBJECT = "audit.jsonl"
SUFFIX = ".dsse"


@dataclass(frozen=True, slots=True)
class Export:
    """The predicate. `exported_at` is in microseconds UTC by the database's clock; `head` is a leaf in hex."""

    entries: int
    exported_at: int
    head: str
    tenant: str


_FIELDS = {name: str if name in ("head", "tenant") else int for name in Export.__slots__}


def dumps(export: Export, file_sha256: str) -> bytes:
    """Return the bytes that are signed."""
    return statement.dumps(PREDICATE_TYPE, {name: getattr(export, name) for name in _FIELDS}, SUBJECT, file_sha256)


def loads(data: bytes) -> tuple[Export, Any]:
    """Return what is said, and the subject, whose match with the file the caller checks. Errors: Corrupt."""
    predicate, subject = statement.loads(data, PREDICATE_TYPE, _FIELDS, "an exported audit chain")
    return Export(**predicate), subject


def subject_fault(subject: Any, file_sha256: str) -> str:
    """Return what is wrong with the statement's subject, or ""."""
    return statement.subject_fault(subject, SUBJECT, file_sha256, "this file")


def signature_path(chain: Path) -> Path:
    """Return where the signature over a chain's file lies."""
    return chain.with_name(chain.name + SUFFIX)


def of_envelope(data: bytes) -> Export:
    """Return what an envelope says of an audit chain, by whomever it is signed. Errors: Corrupt when it is none."""
    envelope = dsse.loads(data, LIMITS.document_bytes)
    if envelope.payload_type != statement.PAYLOAD_TYPE:
        raise Corrupt("an envelope over another kind of document")
    return loads(envelope.payload)[0]
