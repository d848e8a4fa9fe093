"""Job ids: mine, another tenant's and nobody's told apart without the database.

    25 bytes = random(10) || key id(1) || MAC(tenant, random)[:7] || MAC(id)[:7]

written as 40 characters of lower-case Crockford base32. The random part
leads, so that short prefixes are unique for people who type them. The MACs are
HMAC-SHA-256 under a key of the deployment; keys are numbered, and old ones
verify for ever. Comparisons take constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {c: i for i, c in enumerate(_ALPHABET)}
LENGTH = 40
#: How a tenant may be called: what may stand in a folder's name and in a token, in lower case. Without anchors.
TENANT_PATTERN = "[a-z0-9][a-z0-9_.-]{0,62}"
_RANDOM, _TAG = 10, 7


def mint(tenant: str, key_id: int, key: bytes) -> str:
    """Return a fresh job id bound to `tenant` under key `key_id` (0 to 255, at least 32 bytes)."""
    random = os.urandom(_RANDOM)
    head = random + bytes([key_id]) + _tenant_tag(key, tenant, random)
    return _encode(head + _id_tag(key, head))


def owner(job: str, tenant: str, keys: Mapping[int, bytes]) -> str:
    """Return whose id this is: "mine", "another" (a tenant's, not yours) or "nobody".

    Says nothing about whether the job exists.
    """
    raw = _decode(job)
    if raw is None:
        return "nobody"
    key = keys.get(raw[_RANDOM])
    head, tag = raw[:-_TAG], raw[-_TAG:]
    # An unknown key still costs two MACs, so that timing tells nothing.
    known = hmac.compare_digest(_id_tag(key or bytes(32), head), tag) and key is not None
    mine = hmac.compare_digest(_tenant_tag(key or bytes(32), tenant, raw[:_RANDOM]), head[_RANDOM + 1 :])
    return ("mine" if mine else "another") if known else "nobody"


def key_of(job: str) -> int | None:
    """Return the number of the key that an id says it was made under, or None for what has no id's shape."""
    raw = _decode(job)
    return None if raw is None else raw[_RANDOM]


def _tenant_tag(key: bytes, tenant: str, random: bytes) -> bytes:
    return hmac.digest(key, b"aetheris/job-id/tenant/v1\0" + random + tenant.encode(), hashlib.sha256)[:_TAG]


def _id_tag(key: bytes, head: bytes) -> bytes:
    return hmac.digest(key, b"aetheris/job-id/id/v1\0" + head, hashlib.sha256)[:_TAG]


def _encode(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


def _decode(text: str) -> bytes | None:
    if len(text) != LENGTH or any(c not in _VALUES for c in text):
        return None
    number = 0
    for c in text:
        number = number << 5 | _VALUES[c]
    return number.to_bytes(LENGTH * 5 // 8, "big")
