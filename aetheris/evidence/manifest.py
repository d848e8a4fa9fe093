"""manifest.json: what this package holds, said by whoever put it together.

Truth hangs on the seal and the commitments; the manifest makes a package whole
and names its job. Redaction writes a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.evidence import format

_TYPES = {
    "damaged": bool,
    "format": str,
    "job": str,
    "members": list,
    "requires": list,
    "seal": (str, type(None)),
    "tenant": str,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest as read; `members` maps a name to (SHA-256 in hex, size)."""

    tenant: str
    job: str
    damaged: bool
    seal: str | None
    members: dict[str, tuple[str, int]]


def dumps(tenant: str, job: str, members: Mapping[str, bytes], *, damaged: bool) -> bytes:
    """Return the manifest of `members`, which come in the package's order."""
    listed = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in members.items()
        if name not in format.UNLISTED
    ]
    seal = members.get(format.SEAL)
    return canonical.dumps(
        {
            "damaged": damaged,
            "format": format.FORMAT,
            "job": job,
            "members": listed,
            "requires": sorted(format.FEATURES),
            "seal": None if seal is None else hashlib.sha256(seal).hexdigest(),
            "tenant": tenant,
        }
    )


def check_version(data: bytes, limit: int) -> None:
    """Return unless the manifest plainly says that it is for a later reader.

    Lenient about everything else: what a later format changes can't be known here.
    Errors: Unusable.
    """
    try:
        value = canonical.parse(data, limit=limit)
    except Corrupt:
        return
    name, requires = value.get("format"), value.get("requires")
    if type(name) is str and name != format.FORMAT and name.startswith(format.FORMAT_FAMILY):
        raise Unusable(f"format {name[:80]} is not one this verifier reads ({format.FORMAT}); use a later one")
    known = tuple(format.FEATURES)  # compared, not hashed: a stranger's list may hold lists
    if type(requires) is list and (unknown := [r for r in requires if r not in known]):
        raise Unusable(
            f"the package requires {str(unknown[0])[:80]!r}, which this verifier doesn't know; use a later one"
        )


def loads(data: bytes, limit: int) -> Manifest:
    """Return the manifest. Errors: Corrupt when it is not canonical or not of this shape."""
    value = canonical.loads(data, limit=limit)
    if value.keys() != _TYPES.keys() or any(type(value[n]) not in _kinds(k) for n, k in _TYPES.items()):
        raise Corrupt("manifest.json has not the fields of this format")
    if value["format"] != format.FORMAT:
        raise Corrupt("manifest.json names another format", expected=format.FORMAT, found=value["format"])
    members: dict[str, tuple[str, int]] = {}
    for row in value["members"]:
        if type(row) is not dict or row.keys() != {"name", "sha256", "size"}:
            raise Corrupt("manifest.json lists something that is not a member")
        name, digest, size = row["name"], row["sha256"], row["size"]
        if type(name) is not str or type(digest) is not str or type(size) is not int:
            raise Corrupt("manifest.json lists a member with a field of the wrong type")
        if name in members:
            raise Corrupt(f"manifest.json lists {name[:80]} twice")
        members[name] = (digest, size)
    return Manifest(value["tenant"], value["job"], value["damaged"], value["seal"], members)


def _kinds(kind: Any) -> tuple[type, ...]:
    return kind if type(kind) is tuple else (kind,)
