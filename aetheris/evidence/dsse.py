"""Signatures over a package's documents: DSSE envelopes with Ed25519, made once and checked strictly.

The signature is over PAE(payloadType, payload), never over JSON, so no parser
stands between the bytes and their proof. The envelope is canonical JSON and its
payload is byte for byte the member that it signs.

What a key proves is only whose it is if the verifier was given it: `keyid` is a
hint, and a key inside the package proves nothing.

Source: DSSE v1.0.2; RFC 8032 (Ed25519); ePrint 2020/1244 (small-order points).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aetheris.domain import canonical
from aetheris.domain.errors import Corrupt, Refused

SIGNATURES_MOST = 16
_SIGNATURE_BYTES = 64
_P = 2**255 - 19
#: The y of the eight points of small order, and of their spellings beyond p; with either sign bit.
_SMALL_Y = (
    0,
    1,
    _P - 1,
    _P,
    _P + 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
SMALL_ORDER = frozenset(
    (y | sign << 255).to_bytes(32, "little") for y in _SMALL_Y for sign in (0, 1) if y < 2**255
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that the verifier was given, under the name it was given by.

    `not_before` and `not_after` bound, in microseconds UTC, when what it signed
    may have ended; a revoked key vouches for nothing that no timestamp dates.
    """

    name: str
    raw: bytes
    not_before: int | None = None
    not_after: int | None = None
    revoked: bool = False

    @property
    def keyid(self) -> str:
        """SHA-256 of the raw key, in hex: what our envelopes carry as a hint."""
        return hashlib.sha256(self.raw).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature is this key's over `message`; False for anything oddly made."""
        if len(signature) != _SIGNATURE_BYTES or signature[:32] in SMALL_ORDER:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and the name that its owner calls it. Its repr shows neither."""

    name: str
    _seed: bytes

    def __repr__(self) -> str:
        return f"Signer({self.name!r})"

    @property
    def public(self) -> PublicKey:
        """The public half."""
        key = Ed25519PrivateKey.from_private_bytes(self._seed).public_key()
        return PublicKey(self.name, key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))

    def envelope(self, payload_type: str, payload: bytes) -> bytes:
        """Return the DSSE envelope over `payload`. The same key and payload give the same bytes."""
        made = Ed25519PrivateKey.from_private_bytes(self._seed).sign(pae(payload_type, payload))
        return canonical.dumps(
            {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": payload_type,
                "signatures": [{"keyid": self.public.keyid, "sig": base64.b64encode(made).decode()}],
            }
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope as read: what it signs, and (keyid, signature) pairs."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: type and payload, each with its length in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def loads(data: bytes, limit: int) -> Envelope:
    """Return the envelope. Errors: Corrupt for anything but the canonical form and 1 to SIGNATURES_MOST signatures."""
    value = canonical.loads(data, limit=limit)
    if value.keys() != {"payload", "payloadType", "signatures"} or type(value["payloadType"]) is not str:
        raise Corrupt("not a DSSE envelope")
    listed = value["signatures"]
    if type(listed) is not list or not 1 <= len(listed) <= SIGNATURES_MOST:
        raise Corrupt(f"a DSSE envelope has 1 to {SIGNATURES_MOST} signatures")
    signatures = []
    for row in listed:
        if type(row) is not dict or row.keys() != {"keyid", "sig"} or type(row["keyid"]) is not str:
            raise Corrupt("a signature of the DSSE envelope has not the fields of one")
        signature = from_base64(row["sig"], "a signature")
        if len(signature) != _SIGNATURE_BYTES:
            raise Corrupt(f"a signature has {len(signature)} bytes, not {_SIGNATURE_BYTES}")
        signatures.append((row["keyid"], signature))
    return Envelope(value["payloadType"], from_base64(value["payload"], "the payload"), tuple(signatures))


def from_base64(text: Any, what: str) -> bytes:
    """Return the bytes that `text` spells in the one standard way of base64. Errors: Corrupt."""
    try:
        data = base64.b64decode(text, validate=True) if type(text) is str else None
    except (binascii.Error, ValueError):
        data = None
    # Python takes nonzero pad bits: only the spelling that comes back is the standard one.
    if data is None or base64.b64encode(data).decode() != text:
        raise Corrupt(f"{what} is not base64 in its standard spelling")
    return data


def signer(name: str, secret: str) -> Signer:
    """Return the signer of a private key, 32 bytes in base64. Errors: Refused, which never shows the key."""
    try:
        seed = from_base64(secret.strip(), "the key")
    except Corrupt:
        seed = b""
    if len(seed) != 32 or seed == bytes(32):
        raise Refused("the signing key is not an Ed25519 key: 32 bytes in base64; `aetheris keys new NAME` makes one")
    return Signer(name, seed)


def new_signer(name: str) -> tuple[Signer, str]:
    """Return a new key, and its private half in base64."""
    made = Ed25519PrivateKey.generate().private_bytes_raw()
    return Signer(name, made), base64.b64encode(made).decode()
