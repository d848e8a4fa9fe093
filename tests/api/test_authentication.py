"""Who is let in: forged tokens and headers are nobody, keys rotate, and no key is used for another kind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from aetheris.api.auth import Authenticator, Unauthenticated, authenticator
from aetheris.api.keys import KeySource, _fetch, parse
from aetheris.domain.errors import Refused, Unusable
from aetheris.runtime.config import Middleware
from tests.unit.test_remote_answers import answering

from . import support
from .support import AUDIENCE, ISSUER, KEY, jwks, local_caller, token


def forged(header: dict[str, Any], claims: dict[str, Any] | None = None, sign: Any = None) -> str:
    """A token put together by hand."""
    said = claims or json.loads(_part(token().split(".")[1]))
    body = ".".join(base64.urlsafe_b64encode(json.dumps(x).encode()).rstrip(b"=").decode() for x in (header, said))
    signature = b"" if sign is None else sign(body.encode())
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _hmac(secret: bytes) -> Any:
    return lambda body: hmac.digest(secret, body, hashlib.sha256)


_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_RAW = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
_NOW = int(time.time())
ATTACKS: dict[str, str] = {
    "none": forged({"alg": "none", "typ": "JWT", "kid": "k1"}),
    "none, spelt otherwise": forged({"alg": "nOnE", "kid": "k1"}),
    "no signature": token().rpartition(".")[0] + ".",
    "key confusion, the public key as HMAC secret (PEM)": forged({"alg": "HS256", "kid": "k1"}, sign=_hmac(_PEM)),
    "key confusion, raw": forged({"alg": "HS256", "kid": "k1"}, sign=_hmac(_RAW)),
    "algorithm swapped, true signature": forged({"alg": "ES256", "kid": "k1"}, sign=KEY.sign),
    "another key": token(key=Ed25519PrivateKey.generate()),
    "kid is a path": forged({"alg": "EdDSA", "kid": "../../../dev/null"}, sign=KEY.sign),
    "kid is SQL": forged({"alg": "EdDSA", "kid": "k1' OR '1'='1"}, sign=KEY.sign),
    "kid is an object": forged({"alg": "EdDSA", "kid": {"k": 1}}, sign=KEY.sign),
    "kid is null bytes": forged({"alg": "EdDSA", "kid": "k1\u0000"}, sign=KEY.sign),
    "a key in the header": forged(
        {"alg": "EdDSA", "kid": "x", "jwk": OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)}, sign=KEY.sign
    ),
    "a key at an address in the header": forged(
        {"alg": "EdDSA", "kid": "x", "jku": "https://evil.example/keys"}, sign=KEY.sign
    ),
    "critical header": forged({"alg": "EdDSA", "kid": "k1", "crit": ["exp"]}, sign=KEY.sign),
    "expired": token(exp=_NOW - 60),
    "expired a second beyond the leeway": token(exp=_NOW - 7),
    "not yet": token(nbf=_NOW + 60),
    "issued in the future": token(iat=_NOW + 3600),
    "another audience": token(aud="other"),
    "another issuer": token(iss="https://evil.example"),
    "issuer as a list": forged(
        {"alg": "EdDSA", "kid": "k1"}, {**json.loads(_part(token().split(".")[1])), "iss": [ISSUER]}, KEY.sign
    ),
    **{f"without {claim}": token(**{claim: None}) for claim in ("exp", "iat", "nbf", "iss", "aud")},
    "without sub": token(sub=None),
    "exp is no number": forged(
        {"alg": "EdDSA", "kid": "k1"}, {**json.loads(_part(token().split(".")[1])), "exp": "never"}, KEY.sign
    ),
    "exp beyond all time": forged(
        {"alg": "EdDSA", "kid": "k1"}, {**json.loads(_part(token().split(".")[1])), "exp": 1e400}, KEY.sign
    ),
    "exp beyond any float": token(exp=10**400),
    "exp beyond any float, as a text": token(exp="9" * 400),
    "iat beyond any float": token(iat=10**400),
    "nbf beyond any float": token(nbf=10**400),
    "no tenant": token(tenant_id=None),
    "a tenant that is SQL": token("a' OR 'b'='b"),
    "a tenant in a list": token(tenant_id=["a", "b"]),
    "a role that is none": token(role="root"),
    "a role in a list": token(roles=[["admin"]]),
    "no roles": token(roles=[]),
    "roles as a text": token(roles="admin"),
    "sub with a slash": token(user="x/../admin"),
    "sub with a line feed": token(user="x\ny"),
    "huge": token(padding="x" * 100_000),
    "not a token": "abc",
    "many dots": "." * 50,
    "not UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode() + ".e30.e30",
    "deeply nested": base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_token_that_is_not_the_issuers_is_refused(attack: str) -> None:
    """Each of the list: never a caller, never another error than "not authenticated"."""

    async def body() -> None:
        with pytest.raises(Unauthenticated):
            await support.authenticator().caller(f"Bearer {attack}")

    asyncio.run(body())


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", token(), f"bearer\t{token()}"])
def test_what_is_no_bearer_token_is_refused(header: str | None) -> None:
    """And the right one passes, so that this list proves something."""

    async def body() -> None:
        with pytest.raises(Unauthenticated):
            await support.authenticator().caller(header)
        assert (await support.authenticator().caller(f"Bearer {token('b', 'user')}")).tenant == "b"
        assert (await support.authenticator().caller(f"Bearer {token(exp=int(time.time()) - 3)}")).user == "alice"

    asyncio.run(body())


def test_keys_rotate_in_a_file(tmp_path: Path) -> None:
    """A new key counts at once, one that was removed no more; a broken file leaves what was good."""
    second = Ed25519PrivateKey.generate()

    def by(key: Any, kid: str) -> str:
        return "Bearer " + jwt.encode(
            jwt.decode(token(), options={"verify_signature": False}), key, "EdDSA", {"kid": kid}
        )

    async def body() -> None:
        place = tmp_path / "keys.json"
        place.write_bytes(jwks(k1=KEY))
        checks = Authenticator(KeySource.of_file(place, "EdDSA"), ISSUER, AUDIENCE)
        await checks.caller(by(KEY, "k1"))
        with pytest.raises(Unauthenticated):
            await checks.caller(by(second, "k2"))
        place.write_bytes(jwks(k1=KEY, k2=second))
        await checks.caller(by(KEY, "k1"))
        await checks.caller(by(second, "k2"))
        place.write_bytes(b"{half")
        await checks.caller(by(second, "k2"))
        place.write_bytes(jwks(k2=second) + b" ")
        with pytest.raises(Unauthenticated):
            await checks.caller(by(KEY, "k1"))

    asyncio.run(body())


def test_keys_at_an_address_are_asked_for_again_when_a_token_names_a_new_one() -> None:
    """But not at every token that names one: whoever sends nonsense can't make us ask the issuer each time."""
    second, asked = Ed25519PrivateKey.generate(), []

    async def body() -> None:
        there = {"k1": KEY}

        def fetch() -> bytes:
            asked.append(1)
            return jwks(**there)

        source = KeySource("EdDSA", fetch)
        assert await source.find("k1")
        there["k2"] = second
        for _ in range(50):
            assert await source.find("k9") is None
        assert len(asked) == 1
        source._read_at -= 10
        assert await source.find("k2")
        assert len(asked) == 2

    asyncio.run(body())


def test_known_keys_count_while_the_issuer_is_asked() -> None:
    """It may be slow or gone, and anybody's token that names an odd key makes us ask it."""
    let_go = threading.Event()

    async def body() -> None:
        reads = iter([jwks(k1=KEY)])

        def fetch() -> bytes:
            if (there := next(reads, None)) is None:
                let_go.wait(20)
                raise Unusable("gone")
            return there

        source = KeySource("EdDSA", fetch)
        await source.load()
        source._read_at -= 10
        odd = asyncio.create_task(source.find("k9"))
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(source.find("k1"), 2)
        assert not odd.done()
        let_go.set()
        assert await odd is None
        assert await source.find("k1")

    try:
        asyncio.run(body())
    finally:
        let_go.set()


def test_keys_come_from_this_machine_or_over_https_and_from_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not through a proxy over plain http, not by a redirect to another machine; and what is no HTTP is no crash."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with answering(whole) as (url, _):
        assert _fetch(url) == b"{}"
    away = b"HTTP/1.1 302 x\r\nLocation: http://192.0.2.1/keys\r\nContent-Length: 0\r\n\r\n"
    for data, why in ((away, "302"), (b"garbage\r\n\r\n", "garbage")):
        with answering(data) as (url, _), pytest.raises(Unusable, match=why):
            _fetch(url)


@pytest.mark.parametrize(
    "given",
    [
        {"jwt_key": "short", "jwt_issuer": "i"},
        {"jwt_key": "x" * 40},
        {"jwt_key": "x" * 40, "jwt_issuer": "i", "jwt_algorithm": "RS256"},
        {"jwt_key": "x" * 40, "jwt_keys_file": "k.json", "jwt_issuer": "i"},
        {"jwt_keys_file": "k.json", "jwt_issuer": "i"},
        {"jwt_keys_file": "k.json", "jwt_issuer": "i", "jwt_algorithm": "HS256"},
        {"jwt_jwks_url": "http://login.example/keys", "jwt_issuer": "i", "jwt_algorithm": "RS256"},
    ],
    ids=["short secret", "no issuer", "secret for RSA", "two places", "no algorithm", "HMAC by a file", "plain http"],
)
def test_authentication_configured_by_half_is_refused(given: dict[str, Any]) -> None:
    """Better no start than one that believes the wrong tokens."""
    with pytest.raises(Refused, match="jwt_"):
        authenticator(Middleware.model_validate(given), local=local_caller())


def test_a_key_of_another_kind_is_never_used() -> None:
    """A shared secret or an elliptic curve in the key set of EdDSA; a private key where public ones belong."""
    ec = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "s"}
    private = OKPAlgorithm.to_jwk(KEY, as_dict=True)
    for data in (ec, json.dumps({"keys": [secret]}).encode(), json.dumps({"keys": [private]}).encode(), b"{}", b"x"):
        with pytest.raises(Refused):
            parse(data, "EdDSA")
