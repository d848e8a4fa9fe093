"""From a token to a caller. The algorithm is ours, not the token's; the tenant is the token's, and only its.

Refused, each with the same words to whoever asks and its cause in the log: no
signature, another algorithm, an unknown key, a claim that is missing or not
what it should be, an issuer or an audience that is not ours, a token too early,
too late or too large.

Source: RFC 7519, RFC 8725 (best current practices).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from aetheris.api.access import ROLES, Caller
from aetheris.api.keys import KeySource
from aetheris.api.problems import Answered
from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.runtime.config import Middleware

TOKEN_BYTES_LIMIT = 8192
REQUIRED = ("exp", "iat", "nbf", "iss", "aud", "sub")
_TENANT = re.compile(ids.TENANT_PATTERN)
_USER = re.compile(r"[!-.0-~]{1,128}\Z")  # printable ASCII without a slash: it becomes part of "user/NAME"
_KID = re.compile(r"[!-~]{1,200}\Z")
_log = logging.getLogger(__name__)


class Unauthenticated(Answered):
    """No token, or none that counts. `cause` is for the log."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            401,
            "no valid token; send `Authorization: Bearer TOKEN`",
            {"WWW-Authenticate": 'Bearer realm="aetheris", error="invalid_token"'},
        )
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Verifies tokens. `local` is whom everybody is where no authentication is configured."""

    keys: KeySource | None
    issuer: str = ""
    audience: str = ""
    leeway_seconds: float = 5.0
    local: Caller | None = None

    async def caller(self, authorization: str | None) -> Caller:
        """Return who holds this `Authorization` header's token. Errors: Unauthenticated."""
        if self.keys is None:
            assert self.local is not None
            return self.local
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("no bearer token")
        if len(token) > TOKEN_BYTES_LIMIT:
            raise Unauthenticated(f"a token of {len(token)} bytes")
        claims = await self._verified(token.strip())
        return _caller(claims)

    async def _verified(self, token: str) -> dict[str, Any]:
        assert self.keys is not None
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != self.keys.algorithm:
                raise Unauthenticated(f"signed with {str(header.get('alg'))[:20]!r}, not {self.keys.algorithm}")
            if "crit" in header:
                raise Unauthenticated("a critical header that nobody here knows")
            kid = header.get("kid")
            if kid is not None and not (isinstance(kid, str) and _KID.match(kid)):
                raise Unauthenticated("a key id that is none")
            key = await self.keys.find(kid)
            if key is None:
                raise Unauthenticated(f"no key {kid!r}")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[self.keys.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway_seconds,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"{type(error).__name__}: {error}") from None
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise Unauthenticated(f"not a token: {type(error).__name__}") from None
        return claims


def _caller(claims: dict[str, Any]) -> Caller:
    tenant, user, roles = claims.get("tenant_id"), claims.get("sub"), claims.get("roles")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise Unauthenticated("no tenant_id in the token")
    if not isinstance(user, str) or not _USER.match(user):
        raise Unauthenticated("the token's sub is no user's name")
    if not isinstance(roles, list) or not roles or any(role not in ROLES for role in roles):
        raise Unauthenticated(f"the token's roles are not among {', '.join(ROLES)}")
    try:
        # Through int, as the library compared it: a float's text that is beyond any float becomes infinity unseen.
        expires = float(int(claims["exp"]))
    except OverflowError:
        raise Unauthenticated("the token's exp is beyond any time") from None
    return Caller(tenant, user, tuple(dict.fromkeys(roles)), expires)


def authenticator(keys: Middleware, *, local: Caller) -> Authenticator:
    """Return what the configuration asks for; one without keys where none is configured.

    Errors: Refused when it is configured by half.
    """
    sources = {
        "jwt_key": keys.jwt_key is not None,
        "jwt_keys_file": keys.jwt_keys_file is not None,
        "jwt_jwks_url": keys.jwt_jwks_url is not None,
    }
    named = [name for name, there in sources.items() if there]
    if not keys.auth or not named:
        return Authenticator(None, local=local)
    if len(named) > 1:
        raise Refused(f"api.middleware: keys come from one place, not from {' and '.join(named)}")
    if keys.jwt_issuer is None:
        raise Refused("api.middleware.jwt_issuer is not set: whose tokens are to be believed?")
    return Authenticator(_source(keys), keys.jwt_issuer, keys.jwt_audience, keys.jwt_leeway)


def _source(keys: Middleware) -> KeySource:
    if keys.jwt_key is not None:
        if keys.jwt_algorithm not in (None, "HS256"):
            raise Refused(f"api.middleware.jwt_key is a shared secret: that is HS256, not {keys.jwt_algorithm}")
        return KeySource.of_secret(keys.jwt_key.get_secret_value())
    if keys.jwt_algorithm is None or keys.jwt_algorithm == "HS256":
        raise Refused("api.middleware.jwt_algorithm: say which (RS256, ES256, EdDSA); public keys need one of these")
    if keys.jwt_keys_file is not None:
        return KeySource.of_file(Path(keys.jwt_keys_file), keys.jwt_algorithm)
    assert keys.jwt_jwks_url is not None
    return KeySource.of_url(keys.jwt_jwks_url, keys.jwt_algorithm)
