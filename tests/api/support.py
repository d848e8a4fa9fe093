"""What tests of the API stand on: a service in this process, tokens of a key made here, a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import aetheris as ae
from aetheris.api.access import Caller
from aetheris.api.app import create_app
from aetheris.api.auth import Authenticator
from aetheris.api.keys import KeySource
from aetheris.api.server import bind, serve
from aetheris.api.service import Service, opened
from aetheris.runtime.config import Config
from aetheris.store.database import Database

ISSUER, AUDIENCE = "https://login.example", "aetheris"
KEY = Ed25519PrivateKey.generate()


@ae.tool(effect="none")
async def look_up(booking: str) -> str:
    """Look a booking up."""
    return f"booking {booking}"


@ae.agent(version="1")
async def desk(ctx: ae.Context, booking: str) -> str:
    """Look a booking up, and say what was found."""
    return await ctx.call(look_up, booking=booking)


@ae.agent(version="1")
async def waiter(ctx: ae.Context, booking: str) -> int:
    """Wait for a signal and for a person's yes."""
    paid = await ctx.wait_signal("paid")
    yes = await ctx.approval("Refund?", role="operator")
    return int(paid) if yes else 0


def jwks(**keys: Ed25519PrivateKey) -> bytes:
    """The public parts of these keys, by their ids."""
    import json

    from jwt.algorithms import OKPAlgorithm

    made = [{**json.loads(OKPAlgorithm.to_jwk(k.public_key())), "kid": kid, "use": "sig"} for kid, k in keys.items()]
    return json.dumps({"keys": made}).encode()


def token(tenant: str = "a", role: str = "admin", user: str = "alice", *, key: Any = KEY, **claims: Any) -> str:
    """A token of this issuer; a claim given as None is left out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "nbf": now, "exp": now + 600}
    said |= {"tenant_id": tenant, "roles": [role], **claims}
    return jwt.encode({k: v for k, v in said.items() if v is not None}, key, "EdDSA", headers={"kid": "k1"})


def bearer(*args: Any, **kwargs: Any) -> dict[str, str]:
    """The header of such a token."""
    return {"Authorization": f"Bearer {token(*args, **kwargs)}"}


def authenticator() -> Authenticator:
    """Verifies tokens of KEY."""
    return Authenticator(KeySource("EdDSA", lambda: jwks(k1=KEY), lambda: 1), ISSUER, AUDIENCE)


@contextlib.asynccontextmanager
async def serving(
    database: Database, *, auth: Authenticator | None = None, config: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """Yield the service over `database`, and a client that asks it in this process."""
    keys = Config.model_validate({"api": {"middleware": {"rate_limit": False}}} | (config or {}))
    async with opened(
        database, keys, auth or authenticator(), agents=[desk, waiter], tools=[look_up], **more
    ) as service:
        transport = httpx.ASGITransport(app=create_app(service), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield service, client


@contextlib.asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """Serve on a real socket, for what streams; yields the address."""
    sock = bind("127.0.0.1", 0)
    ready = asyncio.Event()
    task = asyncio.create_task(serve(service, sock, ready.set, lambda: None))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.exception()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        service.closing.set()
        await task


def local_caller() -> Caller:
    """Whom everybody is where nobody logs in."""
    return Caller("default", "me", ("admin",))
