"""Every route, every role, one's own job, another's, and none: the expected answer, in one table."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from aetheris.api.access import ROUTES, route
from aetheris.api.app import Guarded, create_app
from aetheris.domain import events, ids
from aetheris.domain.errors import Refused
from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store import audit
from aetheris.store.database import Database, as_tenant
from aetheris.store.mirror_rows import MirrorSource
from tests.store.job_support import run

from .support import bearer, serving

SUBMIT = {"agent": "desk", "input": "4WQ150"}
GRANT = {"guest_tenant": "vendor", "guest": "bob", "role": "auditor", "minutes": 5, "reason": "ticket"}
#: method, path, then the answer for admin, operator, auditor, user on what is their own; the body.
#: 400 where the gate lets pass and the job has nothing to approve, resolve or retry.
TABLE: list[tuple[str, str, tuple[int, int, int, int], Any]] = [
    ("GET", "/health", (200, 200, 200, 200), None),
    ("GET", "/api/health", (200, 200, 200, 200), None),
    ("GET", "/ready", (200, 200, 200, 200), None),
    ("GET", "/metrics", (200, 200, 200, 200), None),
    ("GET", "/api/openapi.json", (200, 200, 200, 200), None),
    ("GET", "/api/me", (200, 200, 200, 200), None),
    ("GET", "/api/agents", (200, 200, 200, 200), None),
    ("GET", "/api/tools", (200, 200, 200, 200), None),
    ("GET", "/api/tenants", (200, 200, 200, 200), None),
    ("GET", "/api/approvals", (200, 200, 200, 200), None),
    ("GET", "/api/rbac/role", (200, 403, 403, 403), None),
    ("POST", "/api/jobs", (202, 403, 403, 202), SUBMIT),
    ("POST", "/api/agents/{agent}/message", (202, 403, 403, 202), {"message": "4WQ150"}),
    ("GET", "/api/jobs", (200, 200, 200, 200), None),
    ("GET", "/api/agents/{agent}/jobs", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/events", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/stream", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/trace", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/replay", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/verify", (200, 200, 200, 200), None),
    ("GET", "/api/jobs/{job_id}/audit-log", (200, 403, 200, 403), None),
    ("POST", "/api/jobs/{job_id}/export", (200, 200, 200, 403), None),
    ("POST", "/api/jobs/{job_id}/stop", (200, 200, 403, 403), {"why": "x"}),
    ("POST", "/api/jobs/{job_id}/pause", (200, 200, 403, 403), {"why": "x"}),
    ("POST", "/api/jobs/{job_id}/resume", (200, 403, 403, 200), {"why": "x"}),
    ("POST", "/api/jobs/{job_id}/signal", (200, 403, 403, 200), {"correlation_key": "k", "payload": 1}),
    ("POST", "/api/jobs/{job_id}/approve", (400, 400, 403, 400), {"step": 1, "approved": True}),
    ("POST", "/api/jobs/{job_id}/resolve", (400, 400, 403, 403), {"step": 1, "outcome": "done", "why": "seen"}),
    ("POST", "/api/jobs/{job_id}/retry", (400, 403, 403, 400), None),
    ("GET", "/api/forensics/queries", (200, 200, 200, 200), None),
    ("POST", "/api/forensics/queries/{family}/{name}", (200, 200, 200, 200), {}),
    ("POST", "/api/forensics/query", (200, 200, 200, 403), {}),
    ("GET", "/api/audit", (200, 403, 200, 403), None),
    ("GET", "/api/audit/verify", (200, 403, 200, 403), None),
    ("POST", "/api/audit/export", (200, 403, 200, 403), None),
    ("POST", "/api/support/grants", (201, 403, 403, 403), GRANT),
    ("GET", "/api/support/grants", (200, 403, 200, 403), None),
    ("DELETE", "/api/support/grants/{grant_id}", (404, 403, 403, 403), None),
]
ROLES = ("admin", "operator", "auditor", "user")
OPEN = {"/health", "/api/health", "/ready", "/metrics", "/api/openapi.json"}


def address(path: str, job: str = "") -> str:
    """The path with its places filled in."""
    return path.format(job_id=job, agent="desk", family="trace", name="jobs", grant_id="none")


async def started(client: Any, tenant: str) -> str:
    """Submit a job of this tenant; nobody runs it."""
    made = await client.post("/api/jobs", json=SUBMIT, headers=bearer(tenant))
    return str(made.json()["job_id"])


def test_every_route_of_the_app_stands_in_the_table() -> None:
    """A route that nobody thought about fails here, not in production."""

    class NoService:
        class config:
            class api:
                max_body_bytes = 1024

        class auth:
            keys = None

    app = create_app(NoService())  # type: ignore[arg-type]
    there = {(m, r.path) for r in app.routes if isinstance(r, APIRoute) for m in r.methods}
    assert there == {(method, path) for method, path, _, _ in TABLE}
    assert len(there) == len(ROUTES) == len(TABLE)
    assert all(isinstance(r, Guarded) for r in app.routes)


def test_a_route_without_a_permission_fails_at_import() -> None:
    """It is a required argument, and one that no role could have is refused; past the registry nothing is served."""
    with pytest.raises(TypeError, match="needs"):
        route("GET", "/api/new", action="view_job")  # type: ignore[call-arg]
    with pytest.raises(Refused, match="no permission"):
        route("GET", "/api/new", needs="job:fly", action="view_job")
    with pytest.raises(Refused, match="no action"):
        route("GET", "/api/new", needs="job:view")

    async def forgotten() -> None: ...

    app = FastAPI()
    app.router.route_class = Guarded
    with pytest.raises(Refused, match="declares no permission"):
        app.add_api_route("/api/forgotten", forgotten)


def test_every_route_by_every_role_on_own_foreign_and_absent(database: Database, tmp_path: Any) -> None:
    """The whole matrix, and after each request its row in the caller's audit chain, denials too."""

    async def body() -> None:
        async with serving(database, lake=tmp_path / "lake") as (service, client):
            mine, theirs = await started(client, "a"), await started(client, "b")
            made_up = ids.mint("b", *next(iter((await service.keys()).items())))
            never = ids.mint("a", *next(iter((await service.keys()).items())))
            source = MirrorSource(database)
            lake = Lake(tmp_path / "lake", source.catalog_uri)
            await mirror_once(source, lake)
            lake.close()
            expected_rows = 1
            wrong: list[str] = []

            async def ask(method: str, path: str, role: str, job: str, given: Any, expected: int, what: str) -> None:
                nonlocal expected_rows
                stop = {"after": 10**6} if path.endswith("/stream") else None
                request = client.request(method, address(path, job), json=given, params=stop, headers=bearer("a", role))
                if path.endswith("/stream") and expected == 200:
                    # It would wait for a job that nobody runs: that it begins is what is asked.
                    asyncio.get_running_loop().call_later(0.3, service.closing.set)
                answer = await request
                service.closing.clear()
                if answer.status_code != expected:
                    wrong.append(f"{role} {method} {path} {what}: {answer.status_code}, expected {expected}")
                if path not in OPEN:
                    expected_rows += 1

            for method, path, row, given in TABLE:
                for role, status in zip(ROLES, row, strict=True):
                    await ask(method, path, role, mine, given, status, "own")
                    if "{job_id}" not in path:
                        continue
                    allowed = status != 403
                    for what, job, expected in (
                        ("foreign", theirs, 403),
                        ("foreign, made up", made_up, 403),
                        ("not an id", "nosuchjob", 404 if allowed else 403),
                        ("tampered", mine[:-1] + ("0" if mine[-1] != "0" else "1"), 404 if allowed else 403),
                        ("own, never made", never, 404 if allowed else 403),
                    ):
                        await ask(method, path, role, job, given, expected, what)
            assert not wrong, "\n".join(wrong)
            async with as_tenant(service.pool, "a") as connection:
                await audit.verify(connection, "a")
                rows = await audit.rows(connection, "a")
            said = [events.read(row.line) for row in rows]
            assert len(said) == expected_rows + 1  # and the opening
            denied = [e for e in said[1:] if not e.data["success"] and e.data["status"] == 403]
            assert {e.data["resource_id"] for e in denied} >= {theirs, made_up}
            assert all(
                {"client_ip", "request_id", "role", "duration_ms", "user_agent"} <= e.data.keys() for e in said[1:]
            )
            async with as_tenant(service.pool, "b") as connection:
                # Nothing of it stands with b: whoever can write into another's log could flood it.
                assert (await audit.head(connection, "b")).seq == 2

    run(body)


def test_a_collected_job_is_still_ones_own(database: Database) -> None:
    """Its rows are gone and its tombstone tells; of another tenant it stays 403."""

    async def body() -> None:
        async with serving(database) as (_, client):
            job = (await client.post("/api/jobs", json=SUBMIT, headers=bearer("a"))).json()["job_id"]
            with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute(
                    "INSERT INTO aetheris.job_tombstones (tenant_id, job_id, agent, event_count, head_leaf, deleted_by,"
                    " reason, retention_days, archive_ref) VALUES ('a', %s, 'desk', 9, '', 'gc', 'age', 90, 'lake')",
                    [job],
                )
                connection.execute("DELETE FROM aetheris.jobs WHERE job_id = %s", [job])
            one = await client.get(f"/api/jobs/{job}", headers=bearer("a"))
            assert (one.status_code, one.json()["status"], one.json()["events"]) == (200, "collected", 9)
            assert (await client.get(f"/api/jobs/{job}/trace", headers=bearer("a"))).status_code == 410
            assert (await client.get(f"/api/jobs/{job}", headers=bearer("b"))).status_code == 403

    run(body)


def test_ids_of_old_keys_verify_for_ever_and_new_ones_at_once(database: Database) -> None:
    """Rotation makes a new key the one that mints; a running API learns of it from the first id that names it."""
    from aetheris.store.keys import rotate

    async def body() -> None:
        async with serving(database) as (service, client):
            old = (await client.post("/api/jobs", json=SUBMIT, headers=bearer("a"))).json()["job_id"]
            assert await rotate(database, "job_id") == 2
            service._keys_at -= 2  # it was read a moment ago
            keys = dict(await service.keys())
            assert sorted(keys) == [1]
            async with service.pool.connection() as connection:
                from aetheris.store.jobs import job_id_keys

                newest = await job_id_keys(connection)
            foreign = ids.mint("b", 2, newest[2])
            assert (await client.get(f"/api/jobs/{foreign}", headers=bearer("a"))).status_code == 403
            new = (await client.post("/api/jobs", json=SUBMIT, headers=bearer("a"))).json()["job_id"]
            assert ids.key_of(new) == 2
            for _ in range(3):
                await rotate(database, "job_id")
            await service.keys(anew=True)
            for job in (old, new):
                assert (await client.get(f"/api/jobs/{job}", headers=bearer("a"))).status_code == 200
                assert (await client.get(f"/api/jobs/{job}", headers=bearer("b"))).status_code == 403

    run(body)
