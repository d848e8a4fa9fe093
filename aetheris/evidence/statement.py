"""An in-toto statement with one subject and one predicate: the form of all that is signed as true of some bytes.

Its bytes are the DSSE payload. The subject is the signed thing by its SHA-256,
so any in-toto tool can match it with `sha256sum`. Who reads one checks the
predicate's type: a statement of one kind never passes for another.

Source: in-toto Statement v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
#: The DSSE payloadType under which a statement is signed.
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def dumps(predicate_type: str, predicate: Mapping[str, Any], name: str, sha256: str) -> bytes:
    """Return the bytes of a statement about one thing, by its name and digest."""
    return canonical.dumps(
        {
            "_type": STATEMENT_TYPE,
            "predicate": dict(predicate),
            "predicateType": predicate_type,
            "subject": [{"digest": {"sha256": sha256}, "name": name}],
        }
    )


def loads(data: bytes, predicate_type: str, fields: Mapping[str, type], kind: str) -> tuple[dict[str, Any], Any]:
    """Return the predicate, of exactly these fields and types, and the subject, whose match the caller checks.

    `kind` is what people call such a statement. Errors: Corrupt when the bytes
    are not a canonical statement of it.
    """
    value = canonical.loads(data)
    if value.keys() != {"_type", "predicate", "predicateType", "subject"}:
        raise Corrupt("not an in-toto statement with one predicate")
    for name, wanted in (("_type", STATEMENT_TYPE), ("predicateType", predicate_type)):
        if value[name] != wanted:
            raise Corrupt(f"{name} is another", expected=wanted, found=str(value[name])[:80])
    predicate = value["predicate"]
    if type(predicate) is not dict or predicate.keys() != fields.keys():
        raise Corrupt(f"the predicate's fields are not those of {kind}")
    for name, item in predicate.items():
        if type(item) is not fields[name]:
            raise Corrupt(f"{name} is not {'an integer' if fields[name] is int else 'a string'}")
    return predicate, value["subject"]


def subject_fault(subject: Any, name: str, sha256: str, what: str) -> str:
    """Return what is wrong with a statement's subject, or ""; `what` is how people call the thing it must be.

    Exactly one subject, exactly one digest: a second that nobody checks could mislead.
    """
    if type(subject) is not list or len(subject) != 1:
        return "the statement must have exactly one subject"
    if subject[0] != {"digest": {"sha256": sha256}, "name": name}:
        return f"the statement's subject is not {what}"
    return ""
