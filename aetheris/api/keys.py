"""Keys that tokens are verified with: one secret, a file, or a JWKS address; found anew when they rotate.

A key is looked up by its id in a table, and nowhere else: what a token's
header says is never a path, an address or a query. A key is used with the
pinned algorithm alone, so a public key can't be taken for a shared secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError

from aetheris.domain.errors import Refused, Unusable

KEYS_BYTES_LIMIT = 1_000_000
SECRET_BYTES_LEAST = 32
RSA_BITS_LEAST = 2048
FETCH_SECONDS = 5.0
#: A key set from an address is asked for again after this, or when a token names a key that it lacks.
STALE_SECONDS = 300.0
#: But never more often than this, whatever tokens name.
REST_SECONDS = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_log = logging.getLogger(__name__)
_TYPES: dict[str, type[Any]] = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey, "EdDSA": Ed25519PublicKey}
Keys = dict[str | None, Any]


class KeySource:
    """Where keys come from. `find` is all that callers need."""

    def __init__(self, algorithm: str, read: Callable[[], bytes], stamp: Callable[[], object] | None = None) -> None:
        self.algorithm = algorithm
        self._read, self._stamp = read, stamp
        self._keys: Keys = {}
        self._seen: object = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    @classmethod
    def of_secret(cls, secret: str) -> KeySource:
        """Return the source of one shared secret (HS256). Errors: Refused when it is too short to be one."""
        data = secret.encode()
        if len(data) < SECRET_BYTES_LEAST:
            raise Refused(
                f"api.middleware.jwt_key has {len(data)} bytes: HS256 needs {SECRET_BYTES_LEAST} or more, at random"
            )
        made = cls("HS256", lambda: b"", lambda: True)
        made._keys, made._seen = {None: data}, True
        return made

    @classmethod
    def of_file(cls, path: Path, algorithm: str) -> KeySource:
        """Return the source of a JWKS or a PEM public key in a file; a changed file is read again."""

        def stamp() -> object:
            try:
                found = path.stat()
            except OSError:
                return None
            return found.st_mtime_ns, found.st_size, found.st_ino

        return cls(algorithm, lambda: _file(path), stamp)

    @classmethod
    def of_url(cls, url: str, algorithm: str) -> KeySource:
        """Return the source of a JWKS at an address: https, or this machine. Errors: Refused."""
        if not _kept_whole(url):
            raise Refused(f"api.middleware.jwt_jwks_url: {url}: keys are fetched over https, or from this machine")
        return cls(algorithm, lambda: _fetch(url))

    async def load(self) -> None:
        """Read the keys now. Errors: Refused, Unusable, saying what is wrong with them."""
        if self._seen is not True:
            await self._refresh()

    async def find(self, kid: str | None) -> Any | None:
        """Return the key of this id, or None. Without an id: the only key, where there is one alone."""
        # While an issuer is asked, which may take long, its known keys count: anybody's odd token makes us ask.
        if self._held(kid) is None or self._is_stale(kid):
            async with self._lock:
                if self._is_stale(kid):
                    try:
                        await self._refresh()
                    except (Refused, Unusable) as error:
                        # What was good stays good: an issuer that can't be reached must not lock everybody out.
                        _log.warning("%s", error)
        return self._held(kid)

    def _held(self, kid: str | None) -> Any | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid) or (self._keys.get(None) if len(self._keys) == 1 else None)

    def _is_stale(self, kid: str | None) -> bool:
        if self._stamp is not None:
            return self._stamp() != self._seen
        age = time.monotonic() - self._read_at
        return age > STALE_SECONDS or (kid not in self._keys and age > REST_SECONDS)

    async def _refresh(self) -> None:
        self._read_at = time.monotonic()
        seen = self._stamp() if self._stamp is not None else None
        data = await asyncio.to_thread(self._read)
        self._keys, self._seen = parse(data, self.algorithm), seen


def parse(data: bytes, algorithm: str) -> Keys:
    """Return the keys in a JWKS or a PEM that go with `algorithm`. Errors: Refused when there is none."""
    found: Keys = {}
    if data.lstrip().startswith(b"-----BEGIN"):
        try:
            found[None] = load_pem_public_key(data)
        except (ValueError, TypeError):
            raise Refused("the key file is a PEM, but not of a public key") from None
    else:
        try:
            for entry in json.loads(data)["keys"]:
                if entry.get("use", "sig") == "sig" and entry.get("alg", algorithm) == algorithm:
                    # An issuer's set may hold keys of other kinds, too: they are not ours to use.
                    with contextlib.suppress(PyJWTError):
                        found[entry.get("kid")] = PyJWK.from_dict(entry, algorithm=algorithm).key
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refused('the key file is neither a PEM nor a JWKS ({"keys": [...]}) for this algorithm') from None
    kind = _TYPES.get(algorithm, bytes)
    found = {kid: key for kid, key in found.items() if _fits(key, kind)}
    if not found:
        raise Refused(f"the key file holds no public key for {algorithm}")
    return found


def _fits(key: Any, kind: type[Any]) -> bool:
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_LEAST:
        return False
    if kind is bytes:
        return isinstance(key, bytes) and len(key) >= SECRET_BYTES_LEAST
    return isinstance(key, kind)


def _file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(KEYS_BYTES_LIMIT + 1)
    except OSError as error:
        raise Refused(f"api.middleware.jwt_keys_file: {path}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > KEYS_BYTES_LIMIT:
        raise Refused(f"api.middleware.jwt_keys_file: {path}: more than {KEYS_BYTES_LIMIT:,} bytes")
    return data


def _kept_whole(url: str) -> bool:
    return url.startswith("https://") or urlsplit(url).hostname in LOOPBACK


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To where keys may be fetched from, and nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """Follow none to another machine over plain http."""
        return super().redirect_request(req, fp, code, msg, headers, newurl) if _kept_whole(newurl) else None


def _fetch(url: str) -> bytes:
    # Plain http is for this machine alone: through a proxy the keys would be whatever that says they are.
    proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme != "http"}
    opener = urllib.request.build_opener(_Redirects, urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(url, timeout=FETCH_SECONDS) as answer:
            return bytes(answer.read(KEYS_BYTES_LIMIT))
    except (URLError, OSError, ValueError, http.client.HTTPException) as error:
        raise Unusable(f"api.middleware.jwt_jwks_url: {url}: can't be fetched ({error})") from None
