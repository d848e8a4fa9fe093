"""What an attacker tries: forged tokens, injected text, another's stream, a clock to listen to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

import aetheris as ae
from aetheris.api.auth import Authenticator, Unauthenticated, authenticator
from aetheris.api.keys import KeySource, parse
from aetheris.domain import events, ids
from aetheris.domain.errors import Refused
from aetheris.runtime.config import Middleware
from aetheris.store import audit, jobs
from aetheris.store.database import Database, as_tenant
from tests.store.job_support import run

from . import support
from .support import AUDIENCE, ISSUER, KEY, bearer, desk, jwks, listening, local_caller, serving, token


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
    "no tenant": token(tenant_id=None),
    "a tenant that is SQL": token("a' OR 'b'='b"),
    "a tenant in a list": token(tenant_id=["a", "b"]),
    "a role that is none": token(role="root"),
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


def test_a_removed_tenants_token_is_refused_and_on_record(database: Database) -> None:
    """Its signature is right; the tenant is not there any more."""

    async def body() -> None:
        async with serving(database) as (service, client):
            assert (await client.get("/api/jobs", headers=bearer("a"))).status_code == 200
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute("UPDATE aetheris.tenants SET status = 'removed' WHERE tenant_id = 'a'")
            service._statuses.clear()  # two seconds later
            answer = await client.get("/api/jobs", headers=bearer("a"))
            assert (answer.status_code, answer.json()["detail"]) == (403, "the tenant is removed")
            async with as_tenant(service.pool, "a") as connection:
                last = (await audit.newest(connection, "a", limit=1))[0]
            assert events.read(last.line).data["success"] is False

    run(body)


def test_the_tenant_is_the_tokens_and_only_its(database: Database) -> None:
    """No header, query or body moves it; a header that names another is refused."""

    async def body() -> None:
        async with serving(database) as (_, client):
            await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("b"))
            other = await client.get("/api/jobs", headers={**bearer("a"), "X-Tenant-ID": "b"})
            assert other.status_code == 403
            same = await client.get("/api/jobs?tenant=b&tenant_id=b", headers={**bearer("a"), "X-Tenant-ID": "a"})
            assert (same.status_code, same.json()["jobs"]) == (200, [])
            named = await client.post("/api/jobs", json={"agent": "desk", "tenant": "b"}, headers=bearer("a"))
            assert named.status_code == 422

    run(body)


INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE aetheris.jobs; --", "\\", "%", "$1", "%(tenant)s", "../../etc/passwd", "..%2fetc",
    "a\r\nSet-Cookie: x=1", "%0d%0aSet-Cookie:%20x=1", "a%00b", "a\x00b", "\u202e", "x" * 5000, "-1", "1e999",
]  # fmt: skip


RAW = [
    b'{"agent":"desk","input":"\\ud800"}', b'{"agent":"\\ud800"}', b"[" * 20_000, b'{"agent":NaN}', b"\xff", b"",
    b'{"agent":"desk","input":1e999}', b'{"agent":"desk","input":"\\u0000"}',
]  # fmt: skip


def test_nothing_in_any_parameter_is_taken_for_more_than_text(database: Database, tmp_path: Path) -> None:
    """Path, query, header and body: no error of ours, no row of b, nothing set, the tables still there."""

    async def body() -> None:
        async with serving(database, lake=tmp_path) as (service, client):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "secret of b"}, headers=bearer("b"))
            theirs = made.json()["job_id"]
            mine = (await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("a"))).json()[
                "job_id"
            ]

            async def ask(method: str, path: str, **more: Any) -> None:
                headers = {**bearer("a"), **more.pop("headers", {})}
                answer = await client.request(method, path, headers=headers, **more)
                assert answer.status_code < 500 or (answer.status_code, "forensics" in path) == (503, True), path
                assert "set-cookie" not in answer.headers, path
                assert theirs not in answer.text.replace(path, ""), path
                assert "secret of b" not in answer.text

            for text in INJECTIONS:
                quoted = httpx.URL("http://x").copy_with(params={"v": text}).query.decode().removeprefix("v=")
                for path in (f"/api/jobs/{quoted}", f"/api/jobs/{quoted}/trace", f"/api/agents/{quoted}/jobs"):
                    await ask("GET", path)
                await ask("POST", f"/api/forensics/queries/{quoted}/{quoted}", json={})
                await ask("DELETE", f"/api/support/grants/{quoted}")
                for name in ("agent", "status", "cursor", "limit", "after", "before"):
                    await ask("GET", "/api/jobs", params={name: text})
                    await ask("GET", f"/api/jobs/{mine}/events", params={name: text})
                    await ask("GET", "/api/audit", params={name: text})
                header = text.encode("utf-8").replace(b"\r", b"").replace(b"\n", b"").replace(b"\x00", b"")
                for name in (
                    "X-Request-ID",
                    "User-Agent",
                    "X-Tenant-ID",
                    "X-Support-Tenant",
                    "Idempotency-Key",
                    "Accept",
                ):
                    await ask("POST", "/api/jobs", json={"agent": "desk", "input": "x"}, headers={name: header})
                for body_ in (
                    {"agent": text, "input": text},
                    {"agent": "desk", "input": text, "goal": text[:2000]},
                    {"agent": "desk", "input": {"$cell": text, text: [text]}},
                ):
                    await ask("POST", "/api/jobs", json=body_)
                await ask("POST", f"/api/jobs/{mine}/signal", json={"correlation_key": text[:200], "payload": text})
                await ask("POST", f"/api/jobs/{mine}/stop", json={"why": text})
                filters = {"agent_filter": text[:200], "tool_filter": text[:200], "event_filter": text[:64]}
                await ask("POST", "/api/forensics/query", json=filters)
            for raw in RAW:
                await ask("POST", "/api/jobs", content=raw, headers={"Content-Type": "application/json"})
            async with as_tenant(service.pool, "a") as connection:
                await audit.verify(connection, "a")
                assert (await jobs.get(connection, "a", mine)) is not None

    run(body)


def test_what_is_too_large_or_too_much_is_refused(database: Database) -> None:
    """By its length or, without one, as it comes; and whoever asks too often waits."""
    config = {"api": {"max_body_bytes": 2000, "middleware": {"rate_limit_rps": 0.5}}}

    async def body() -> None:
        async with serving(database, config=config) as (_, client):

            async def chunks() -> Any:
                for _ in range(10):
                    yield b"x" * 1000

            told = await client.post("/api/jobs", content=b"x" * 3000, headers=bearer("a"))
            untold = await client.post("/api/jobs", content=chunks(), headers=bearer("b", user="bob"))
            assert (told.status_code, untold.status_code) == (413, 413)
            answers = [(await client.get("/api/me", headers=bearer("a"))) for _ in range(12)]
            assert answers[-1].status_code == 429
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert (await client.get("/api/me", headers=bearer("a", user="carol"))).status_code == 200
            strangers = [a.status_code for a in await asyncio.gather(*(client.get("/api/me") for _ in range(200)))]
            assert strangers[0] == 401
            assert set(strangers) == {401, 429}
            # From the same address (a proxy's): who has a token is not locked out by who has none.
            assert (await client.get("/api/me", headers=bearer("a", user="dora"))).status_code == 200

    run(body)


def test_a_stream_resumes_where_it_broke_and_is_nobody_elses(database: Database) -> None:
    """Over a real socket: the first events, the connection cut, the rest by Last-Event-ID; another tenant gets 403."""

    async def body() -> None:
        async with (
            ae.AsyncSystem(database=database, tenant="a") as system,
            serving(database) as (service, _),
            listening(service) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as client,
        ):
            made = await client.post("/api/jobs", json={"agent": "waiter", "input": "x"}, headers=bearer("a"))
            job = made.json()["job_id"]
            await system.start_worker([support.waiter, desk], ae.Settings(poll_seconds=0.1))
            refused = await client.get(f"/api/jobs/{job}/stream", headers=bearer("b"))
            assert refused.status_code == 403
            seen: list[int] = []
            async with client.stream("GET", f"/api/jobs/{job}/stream", headers=bearer("a")) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line[4:]))
                    if line.startswith("event: job_waiting") or len(seen) >= 3:
                        break
            await client.post(
                f"/api/jobs/{job}/signal", json={"correlation_key": "paid", "payload": 7}, headers=bearer("a")
            )
            resumed = {**bearer("a"), "Last-Event-ID": str(seen[-1])}
            words: list[str] = []
            async with client.stream("GET", f"/api/jobs/{job}/stream", headers=resumed) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line[4:]))
                    if line.startswith("event: "):
                        words.append(line[7:])
                    if words[-1:] == ["approval_requested"]:
                        step = seen[-1]
                        record = await system.record(job)
                        step = next(e.step for e in record.events if e.type == "approval_requested")
                        yes = await client.post(
                            f"/api/jobs/{job}/approve", json={"step": step, "approved": True}, headers=bearer("a")
                        )
                        assert yes.status_code == 200
                        words.append("answered")
            assert words[-1] == "end"
            assert seen == list(range(1, len(seen) + 1))
            assert {"signal_received", "approval_completed", "job_completed"} <= set(words)
            bad = await client.get(f"/api/jobs/{job}/stream", headers={**bearer("a"), "Last-Event-ID": "1; x"})
            assert bad.status_code == 400

    run(body)


def test_a_stream_ends_with_its_token(database: Database) -> None:
    """Whoever may look is asked again: a stream does not outlive the right to it."""

    async def body() -> None:
        async with serving(database) as (service, client):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("a"))
            job = made.json()["job_id"]
            short = bearer("a", exp=int(time.time()) + 1)
            async with listening(service) as url, httpx.AsyncClient(base_url=url, timeout=20) as real:
                answer = await real.get(f"/api/jobs/{job}/stream", headers=short)
                assert "event: expired" in answer.text

    run(body)


def test_a_guests_stream_ends_with_the_grant(database: Database) -> None:
    """Revoked while it runs: the next look is the last."""

    async def body() -> None:
        async with (
            serving(database) as (service, client),
            listening(service) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as real,
        ):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("b"))
            grant = {"guest_tenant": "v", "guest": "bob", "role": "auditor", "minutes": 5, "reason": "t"}
            given = (await client.post("/api/support/grants", json=grant, headers=bearer("b"))).json()["id"]
            guest = {**bearer("v", user="bob"), "X-Support-Tenant": "b"}
            path = f"/api/jobs/{made.json()['job_id']}/stream"
            words: list[str] = []
            async with real.stream("GET", path, headers=guest) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        words.append(line[7:])
                    if words == ["job_created"]:
                        await client.delete(f"/api/support/grants/{given}", headers=bearer("b"))
            assert words == ["job_created", "expired"]

    run(body)


def test_the_databases_words_stay_in_the_log(database: Database) -> None:
    """A right that is missing is a bug of ours, not the caller's 403; and no table is named."""

    async def body() -> None:
        async with serving(database) as (_, client):
            assert (await client.get("/api/jobs", headers=bearer("a"))).status_code == 200
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("REVOKE SELECT ON aetheris.jobs FROM aetheris_app")
            answer = await client.get("/api/jobs", headers=bearer("a"))
            assert answer.status_code == 500
            assert "permission" not in answer.text
            assert "jobs" not in answer.json()["detail"]

    run(body)


def test_timing_does_not_tell_whether_anothers_job_exists(database: Database) -> None:
    """600 refusals of a job that exists and of ids made up, in turns: no test can tell the two sets apart.

    Mann-Whitney's U, normal approximation, at one in ten thousand; and the sizes are the same to the byte.
    """

    async def body() -> None:
        async with serving(database) as (service, client):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("b"))
            there = made.json()["job_id"]
            number, key = next(iter((await service.keys()).items()))
            headers = bearer("a")
            times: dict[bool, list[float]] = {True: [], False: []}
            sizes = set()
            for n in range(600):
                real = n % 2 == 0
                job = there if real else ids.mint("b", number, key)
                began = time.perf_counter()
                answer = await client.get(f"/api/jobs/{job}", headers=headers)
                times[real].append(time.perf_counter() - began)
                sizes.add(
                    (answer.status_code, len(answer.content), answer.json()["detail"], tuple(sorted(answer.headers)))
                )
            assert len(sizes) == 1
            ranked = sorted((t, real) for real, found in times.items() for t in found)
            a, b = len(times[True]), len(times[False])
            ranks = sum(n for n, (_, real) in enumerate(ranked, 1) if real)
            u = ranks - a * (a + 1) / 2
            z = (u - a * b / 2) / (a * b * (a + b + 1) / 12) ** 0.5
            assert abs(z) < statistics.NormalDist().inv_cdf(1 - 0.0001 / 2), f"z = {z:.2f}"

    run(body)


def test_support_is_explicit_limited_and_on_both_records(database: Database) -> None:
    """A guest comes in by a grant, by name, in its role, until it ends; each step stands with both tenants."""

    async def body() -> None:
        async with serving(database) as (service, client):
            job = (await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("b"))).json()[
                "job_id"
            ]
            guest = {**bearer("vendor", "admin", "bob"), "X-Support-Tenant": "b"}
            assert (await client.get(f"/api/jobs/{job}", headers=guest)).status_code == 403
            grant = {"guest_tenant": "vendor", "guest": "bob", "role": "auditor", "minutes": 5, "reason": "ticket 1"}
            made = await client.post("/api/support/grants", json=grant, headers=bearer("b"))
            assert made.status_code == 201
            assert (await client.get(f"/api/jobs/{job}/trace", headers=guest)).status_code == 200
            assert (await client.get(f"/api/jobs/{job}/trace", headers=bearer("vendor", user="bob"))).status_code == 403
            stopped = await client.post(f"/api/jobs/{job}/stop", json={}, headers=guest)
            assert stopped.status_code == 403  # an admin at home, an auditor here
            other = {**bearer("vendor", "admin", "eve"), "X-Support-Tenant": "b"}
            assert (await client.get(f"/api/jobs/{job}", headers=other)).status_code == 403
            async with as_tenant(service.pool, "b") as connection:
                rows = [events.read(r.line) for r in await audit.rows(connection, "b")]
            seen = [(e.by, e.type, e.data["success"]) for e in rows if e.by.startswith("support/")]
            assert seen == [("support/vendor/bob", "view_trace", True), ("support/vendor/bob", "stop_job", False)]
            async with as_tenant(service.pool, "vendor") as connection:
                home = [events.read(r.line) for r in await audit.rows(connection, "vendor")]
            assert [(e.data.get("visited"), e.data["success"]) for e in home[1:]] == [
                ("b", False), ("b", True), (None, False), ("b", False), ("b", False),
            ]  # fmt: skip
            gone = await client.delete(f"/api/support/grants/{made.json()['id']}", headers=bearer("b"))
            assert gone.status_code == 200
            assert (await client.get(f"/api/jobs/{job}/trace", headers=guest)).status_code == 403
            again = (await client.post("/api/support/grants", json=grant, headers=bearer("b"))).json()
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute(
                    "UPDATE aetheris.support_grants SET expires_at = now() - interval '1 s' WHERE grant_id = %s::uuid",
                    [again["id"]],
                )
            assert (await client.get(f"/api/jobs/{job}/trace", headers=guest)).status_code == 403

    run(body)


def test_nothing_is_answered_that_is_not_on_record(database: Database) -> None:
    """Where the audit log can't be written, a read is refused as well."""

    async def body() -> None:
        async with serving(database) as (_, client):
            assert (await client.get("/api/jobs", headers=bearer("a"))).status_code == 200
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("REVOKE INSERT ON aetheris.audit_log FROM aetheris_app")
            answer = await client.get("/api/jobs", headers=bearer("a"))
            assert (answer.status_code, "jobs" in answer.json()) == (503, False)

    run(body)
