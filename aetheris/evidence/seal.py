"""The seal: what is said of a finished job, once and for all, in an in-toto statement.

Its bytes are the DSSE payload, so a signature is over exactly `seal.json`. The
subject is `events.jsonl` by its SHA-256, so any in-toto tool can match it with
`sha256sum`; the predicate carries what lets a verifier check more than a file:
count, head and Merkle root bind the lines, the ledger's digest binds the tool
calls. A single event can be shown by its line and its Merkle path alone.

Source: in-toto Statement v1; DSSE v1.0.2; RFC 6962.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aetheris.evidence import format, statement

PREDICATE_TYPE = "urn:aetheris:seal:v1"


@dataclass(frozen=True, slots=True)
class Seal:
    """The predicate. Digests are lower-case hex of SHA-256."""

    config_sha256: str
    event_count: int
    head_leaf: str
    invocation_count: int
    job: str
    ledger_sha256: str
    merkle_root: str
    tenant: str


_FIELDS = {name: int if name.endswith("_count") else str for name in Seal.__slots__}


def dumps(seal: Seal, events_sha256: str) -> bytes:
    """Return the bytes of `seal.json`."""
    said = {name: getattr(seal, name) for name in _FIELDS}
    return statement.dumps(PREDICATE_TYPE, said, format.EVENTS, events_sha256)


def loads(data: bytes) -> tuple[Seal, Any]:
    """Return the seal and its subject, whose match with the events the caller checks.

    Errors: Corrupt when the bytes are not a canonical statement of this kind.
    """
    predicate, subject = statement.loads(data, PREDICATE_TYPE, _FIELDS, "a seal")
    return Seal(**predicate), subject


def subject_fault(subject: Any, events_sha256: str) -> str:
    """Return what is wrong with the seal's subject, or ""."""
    return statement.subject_fault(subject, format.EVENTS, events_sha256, f"this package's {format.EVENTS}")
