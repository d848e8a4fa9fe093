"""Development tokens: signed by a key of this machine's own, which `serve --dev-tokens` believes.

The private key lies in AETHERIS_HOME, readable by its owner alone, and never
leaves it. In production tokens come from an identity provider; this issuer's
name is one that no configuration of theirs would have.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm

from aetheris.api.auth import Authenticator
from aetheris.api.keys import KeySource
from aetheris.domain.errors import Refused

ISSUER = "aetheris-development"
AUDIENCE = "aetheris"
PRIVATE, PUBLIC = "dev-token-key.pem", "dev-token-keys.json"


def authenticator(home: Path) -> Authenticator:
    """Return what believes the development tokens of `home`; its key is made where there is none. Errors: Refused."""
    _key(home)
    return Authenticator(KeySource.of_file(home / PUBLIC, "EdDSA"), ISSUER, AUDIENCE)


def mint(home: Path, *, tenant: str, user: str, roles: Sequence[str], seconds: float) -> str:
    """Return a token that ends in `seconds`. Errors: Refused."""
    key, kid = _key(home)
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "iat": now,
        "nbf": now,
        "exp": now + max(1, int(seconds)),
        "jti": secrets.token_hex(8),
        "tenant_id": tenant,
        "roles": list(roles),
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})


def _key(home: Path) -> tuple[Ed25519PrivateKey, str]:
    place = home / PRIVATE
    try:
        if not place.exists():
            _make(home)
        if place.stat().st_mode & 0o077:
            raise Refused(f"{place}: others can read this key; `chmod 600` it, or remove it to have a new one made")
        key = load_pem_private_key(place.read_bytes(), None)
        kid = json.loads((home / PUBLIC).read_bytes())["keys"][0]["kid"]
    except (ValueError, KeyError, TypeError, IndexError):
        raise Refused(f"{place} and {PUBLIC} beside it are no key of ours; remove both to have new ones made") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused(f"{place} is not an Ed25519 key; remove it and {PUBLIC} to have new ones made")
    return key, str(kid)


def _make(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    key, kid = Ed25519PrivateKey.generate(), secrets.token_hex(8)
    public = {**json.loads(OKPAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", "alg": "EdDSA"}
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(home / PUBLIC, json.dumps({"keys": [public]}).encode(), 0o644)
    # Last, and whole: whoever finds the private key finds its public part beside it.
    _write(home / PRIVATE, pem, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    os.replace(aside, path)
