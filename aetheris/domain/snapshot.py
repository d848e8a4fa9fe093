"""Snapshots: what binds one to its job, its place and its deployment, and when one may be used.

A snapshot is derived from events and can be thrown away; a wrong one must
never be used in their place. Each of its two parts (the fold, and what a
replay reads) carries an HMAC under the store's key over tenant, job, seq, the
leaf of the event at that seq, the version of its form, and its bytes. So one
that is cut, edited, moved to another job or another place, or made elsewhere
does not match. Source: RFC 2104, with SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: The form of the parts that this code writes, and the only one that it reads.
VERSION = 1
Part = Literal["fold", "replay"]
_DOMAIN = b"aetheris/snapshot/v1\0"


@dataclass(frozen=True, slots=True)
class Place:
    """Of which job a snapshot is, up to which event."""

    tenant: str
    job: str
    seq: int
    leaf: bytes


def mac(key: bytes, place: Place, version: int, part: Part, body: bytes) -> bytes:
    """Return the 32 bytes that bind `body` to its place."""
    bound = hmac.new(key, _DOMAIN, hashlib.sha256)
    for field in (place.tenant.encode(), place.job.encode(), place.leaf, part.encode()):
        bound.update(len(field).to_bytes(8, "big") + field)
    bound.update(place.seq.to_bytes(8, "big") + version.to_bytes(8, "big"))
    bound.update(body)
    return bound.digest()


def fault(
    keys: Mapping[int, bytes], place: Place, version: int, key_id: int, part: Part, body: bytes, found: bytes
) -> str:
    """Return why this part may not be used, or "" when it may."""
    if version != VERSION:
        return f"its version is {version}, this code reads {VERSION}"
    if key_id not in keys:
        return f"its key {key_id} is not one of this store"
    if not hmac.compare_digest(mac(keys[key_id], place, version, part, body), found):
        return "it does not match its HMAC: edited, cut, or of another job or place"
    return ""
