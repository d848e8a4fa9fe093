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

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt
from aetheris.evidence import format

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:aetheris:seal:v1"
#: The DSSE payloadType under which the seal is signed.
PAYLOAD_TYPE = "application/vnd.in-toto+json"


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


def dumps(seal: Seal, events_sha256: str) -> bytes:
    """Return the bytes of `seal.json`."""
    return canonical.dumps(
        {
            "_type": STATEMENT_TYPE,
            "predicate": {name: getattr(seal, name) for name in Seal.__slots__},
            "predicateType": PREDICATE_TYPE,
            "subject": [{"digest": {"sha256": events_sha256}, "name": format.EVENTS}],
        }
    )


def loads(data: bytes) -> tuple[Seal, Any]:
    """Return the seal and its subject, whose match with the events the caller checks.

    Errors: Corrupt when the bytes are not a canonical statement of this kind.
    """
    value = canonical.loads(data)
    if value.keys() != {"_type", "predicate", "predicateType", "subject"}:
        raise Corrupt("not an in-toto statement with one predicate")
    for name, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if value[name] != wanted:
            raise Corrupt(f"{name} is another", expected=wanted, found=str(value[name])[:80])
    predicate = value["predicate"]
    if type(predicate) is not dict or predicate.keys() != set(Seal.__slots__):
        raise Corrupt("the predicate's fields are not those of a seal")
    for name, item in predicate.items():
        kind = int if name.endswith("_count") else str
        if type(item) is not kind:
            raise Corrupt(f"{name} is not {'an integer' if kind is int else 'a string'}")
    return Seal(**predicate), value["subject"]


def subject_fault(subject: Any, events_sha256: str) -> str:
    """Return what is wrong with the statement's subject, or "".

    Exactly one subject, exactly one digest: a second that nobody checks could mislead.
    """
    if type(subject) is not list or len(subject) != 1:
        return "the statement must have exactly one subject"
    if subject[0] != {"digest": {"sha256": events_sha256}, "name": format.EVENTS}:
        return "the statement's subject is not this package's events.jsonl"
    return ""
