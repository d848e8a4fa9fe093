"""The keys that a verifier was given: read from a file of their own, never from a package.

PEM      a public key as OpenSSL writes it, one or more in a file; named after the file
base64   the raw 32 bytes on one line; named after the file
JSON     {"keys": [{"name", "public_key", "not_before"?, "not_after"?, "revoked"?}]}
         `public_key` in base64, times as microseconds UTC
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aetheris.domain.canonical import strict_json
from aetheris.domain.errors import Corrupt, Refused
from aetheris.evidence.dsse import SMALL_ORDER, PublicKey, from_base64

FILE_BYTES_LIMIT = 1_000_000
KEYS_MOST = 1000
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_FIELDS = {"name": str, "public_key": str, "not_before": int, "not_after": int, "revoked": bool}


def given(trust: Path | bytes | None) -> tuple[PublicKey, ...]:
    """Return the keys of a file, or of its bytes; none for None. Errors: Refused, for what is no file of keys."""
    if trust is None:
        return ()
    return read_trust(trust) if isinstance(trust, Path) else keys(trust, "given")


def read_trust(path: Path) -> tuple[PublicKey, ...]:
    """Return the keys of a file. Errors: Refused, in one line, for anything that is no key or no Ed25519 key."""
    try:
        if path.stat().st_size > FILE_BYTES_LIMIT:
            raise Refused(f"{path}: longer than {FILE_BYTES_LIMIT:,} bytes, so it is no file of keys")
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: can't be read ({error.strerror}); give the file of a public key") from None
    if path.suffix == ".key" and not data.lstrip().startswith((b"{", b"-")):
        # A seed and a public key are both 32 bytes: only the name tells them apart.
        raise Refused(f"{path}: by its name a private key; give the public one ({path.stem}.pub)")
    try:
        return keys(data, path.stem)
    except Refused as error:
        raise Refused(f"{path}: {error}") from None


def keys(data: bytes, name: str) -> tuple[PublicKey, ...]:
    """Return the keys that `data` spells in one of the three forms. Errors: Refused."""
    if b"PRIVATE KEY" in data:
        raise Refused("this is a private key: give the public one, and keep this to yourself")
    if pems := _PEM.findall(data):
        found = [_from_pem(pem, name) for pem in pems]
    elif data.lstrip().startswith(b"{"):
        found = _from_json(data)
    else:
        found = [PublicKey(name, _raw(data.decode("ascii", "replace").strip()))]
    if not 1 <= len(found) <= KEYS_MOST:
        raise Refused(f"{len(found)} keys; give 1 to {KEYS_MOST}")
    if len({key.raw for key in found}) != len(found):
        raise Refused("one key stands there twice")
    return tuple(_sound(key) for key in found)


def _from_pem(pem: bytes, name: str) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused("not a public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("a public key, and not an Ed25519 one: seals are signed with Ed25519 alone")
    return PublicKey(name, key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _from_json(data: bytes) -> list[PublicKey]:
    try:
        value = strict_json(data)
    except Corrupt as error:
        raise Refused(f"not a file of keys: {error}") from None
    if type(value) is not dict or value.keys() != {"keys"} or type(value["keys"]) is not list:
        raise Refused('not a file of keys: {"keys": [...]} is expected')
    return [_from_row(row) for row in value["keys"]]


def _from_row(row: Any) -> PublicKey:
    if type(row) is not dict or not {"name", "public_key"} <= row.keys() <= _FIELDS.keys():
        raise Refused(f"a key has name and public_key, and may have {', '.join(sorted(_FIELDS)[:2])}, revoked")
    for field, value in row.items():
        if type(value) is not _FIELDS[field]:
            raise Refused(f"{field} of a key is not of type {_FIELDS[field].__name__}")
    return PublicKey(
        row["name"], _raw(row["public_key"]), row.get("not_before"), row.get("not_after"), row.get("revoked", False)
    )


def _raw(text: str) -> bytes:
    try:
        data = from_base64(text, "the key")
    except Corrupt:
        data = b""
    if len(data) != 32:
        raise Refused("not a public key: PEM, 32 bytes in base64, or a JSON list of keys is expected")
    return data


def _sound(key: PublicKey) -> PublicKey:
    # Any signature can be made to fit such a key.
    y = int.from_bytes(key.raw, "little") & (2**255 - 1)
    if key.raw in SMALL_ORDER or y >= 2**255 - 19:
        raise Refused(f"key {key.name[:80]!r} is of small order or oddly spelt: it would vouch for anything")
    return key
