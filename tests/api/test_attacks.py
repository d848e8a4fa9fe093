"""What an attacker tries who has a token: injected text, another's stream, a clock to listen to."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

import aetheris as ae
from aetheris.domain import events, ids
from aetheris.store import audit, jobs
from aetheris.store.database import Database, as_tenant
from tests.store.job_support import run

from . import support
from .support import bearer, desk, listening, serving


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
            for name in ("tenant", "name", "self"):
                await ask("POST", "/api/forensics/queries/trace/jobs", json={"parameters": {name: "b"}})
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


def test_streams_that_begin_at_once_are_no_more_than_allowed(database: Database) -> None:
    """The limit is asked before the audit entry is written, and once more when the stream begins."""

    async def body() -> None:
        async with (
            serving(database, config={"api": {"max_streams": 2}}) as (service, client),
            listening(service) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as real,
        ):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("a"))
            path = f"/api/jobs/{made.json()['job_id']}/stream"

            async def follow() -> str:
                async with real.stream("GET", path, headers=bearer("a", exp=int(time.time()) + 3)) as stream:
                    if stream.status_code != 200:
                        return str(stream.status_code)
                    return (await stream.aread()).decode()

            ended = await asyncio.gather(*(follow() for _ in range(8)))
            assert sum("event: job_created" in text for text in ended) == 2
            assert service.streams == {"a": 0}

    run(body)


def test_a_signals_key_is_not_taken_for_an_approval(database: Database) -> None:
    """What a job waits for is told in words, and the key in them is whatever the job's input made it."""

    async def body() -> None:
        async with serving(database) as (_, client):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("a"))
            job = made.json()["job_id"]
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute(
                    "UPDATE aetheris.jobs SET status = 6, waits_for = 'approval 4, signal x, approval y, approval'"
                )
            answer = await client.get("/api/approvals", headers=bearer("a"))
            assert [(r["job_id"], r["step"]) for r in answer.json()] == [(job, 4)]

    run(body)


def test_a_guests_stream_ends_with_the_grant_and_with_their_own_tenant(database: Database) -> None:
    """Revoked while it runs, or the guest's tenant removed: the next look is the last."""

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
            await client.post("/api/support/grants", json=grant, headers=bearer("b"))
            words.clear()
            async with real.stream("GET", path, headers=guest) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        words.append(line[7:])
                    if words == ["job_created"]:
                        service._statuses["v"] = ("removed", float("inf"))
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


def test_what_no_route_takes_and_what_is_too_large_is_on_record_too(database: Database) -> None:
    """Whoever has a token looks for nothing unseen; without one there is no tenant to tell."""

    async def body() -> None:
        async with serving(database, config={"api": {"max_body_bytes": 1024}}) as (service, client):
            headers = bearer("a")
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("b"))
            theirs = f"/api/jobs/{made.json()['job_id']}"
            asked = [
                ("POST", "/api/jobs", 413, b"x" * 1025), ("GET", "/api/nothing", 404, b""),
                ("PUT", "/api/me", 405, b""), ("PUT", theirs, 403, b""),
            ]  # fmt: skip
            for method, path, status, content in asked:
                answer = await client.request(method, path, content=content, headers=headers)
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
            assert (await client.get("/api/nothing")).status_code == 404
            for no_token in ({"Authorization": "Bearer x"}, bearer("a", exp=10**400)):
                answer = await client.get("/api/nothing", headers=no_token)
                assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
            async with as_tenant(service.pool, "a") as connection:
                said = [events.read(row.line) for row in await audit.rows(connection, "a")]
            assert [(e.type, e.data["status"], e.data["resource_id"]) for e in said[1:]] == [
                ("create_job", 413, ""), ("unknown_address", 404, "/api/nothing"), ("unknown_address", 405, "/api/me"),
                ("unknown_address", 403, theirs.rpartition("/")[2]),
            ]  # fmt: skip

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
