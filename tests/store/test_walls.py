"""The walls between tenants: looked at before anything starts, and what each hole is called."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.domain.errors import Refused
from aetheris.store import jobs, walls
from aetheris.store.database import Connection, Database, Role
from aetheris.store.errors import Unreachable
from aetheris.store.walls import WITHOUT_TENANT, breaches

from .job_support import run

HOLES = {
    "row-level security off": ("TABLE cells DISABLE ROW LEVEL SECURITY", "row-level security is off on cells"),
    "not forced": ("TABLE ledger NO FORCE ROW LEVEL SECURITY", "not forced on ledger"),
    "a policy for everybody": ("CREATE POLICY p ON jobs FOR SELECT USING (true)", "policy p on jobs"),
    "writes not bound": (
        "CREATE POLICY p ON signals FOR INSERT TO aetheris_app WITH CHECK (true)",
        "policy p on signals",
    ),
    "a new table": ("CREATE TABLE notes (id int PRIMARY KEY, tenant_id text)", "row-level security is off on notes"),
    "a key without the tenant": ("CREATE UNIQUE INDEX by_job ON jobs (job_id)", "not keyed by tenant first (by_job)"),
    "the app may delete": ("GRANT DELETE ON job_events TO aetheris_app", "the app may delete job_events"),
    "owned by another": ("TABLE seals OWNER TO CURRENT_USER", "seals belongs to"),
}


def as_superuser(database: Database, *statements: str) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        for text in statements:
            connection.execute(text.encode())


@pytest.mark.parametrize(("hole", "called"), HOLES.values(), ids=HOLES)
def test_nothing_starts_while_a_wall_is_down(database: Database, hole: str, called: str) -> None:
    """Neither the app (and so the API) nor a worker opens a store whose tenants can see each other."""
    as_superuser(
        database, "SET search_path = aetheris", hole if hole.startswith(("CREATE", "GRANT")) else f"ALTER {hole}"
    )

    async def body() -> None:
        for role in ("app", "worker"):
            with pytest.raises(Refused, match="the walls are not up: ") as refused:
                await database.connect(role)
            assert called in str(refused.value)
        with pytest.raises(Refused, match="the walls are not up: "):
            async with ae.AsyncSystem(database=database):
                pass

    run(body)


@pytest.mark.parametrize("power", ["BYPASSRLS", "SUPERUSER", "CREATEROLE"])
def test_a_role_above_the_walls_is_refused(database: Database, power: str) -> None:
    """Roles are the server's: whoever widened one did so for every database on it."""
    as_superuser(database, f"ALTER ROLE aetheris_app {power}")
    try:

        async def body() -> None:
            with pytest.raises(Refused, match="aetheris_app"):
                await database.connect("app")
            with pytest.raises(Refused, match="aetheris_app is"):
                await database.connect("worker")

        run(body)
    finally:
        as_superuser(database, f"ALTER ROLE aetheris_app NO{power}")


def test_an_app_that_may_act_as_the_worker_is_refused(database: Database) -> None:
    """`SET ROLE` would be a door in the wall."""
    as_superuser(database, "GRANT aetheris_worker TO aetheris_app")
    try:

        async def body() -> None:
            with pytest.raises(Refused, match="aetheris_app may act as aetheris_worker"):
                await database.connect("app")

        run(body)
    finally:
        as_superuser(database, "REVOKE aetheris_worker FROM aetheris_app")


def tables_of(database: Database) -> list[str]:
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'aetheris'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
    return sorted(name for (name,) in found if name not in WITHOUT_TENANT)


def a_row(connection: psycopg.Connection[Any], table: str, tenant: str) -> None:
    """Put one row of `tenant` into `table`, whatever its columns are."""
    columns = connection.execute(
        "SELECT column_name, udt_name FROM information_schema.columns"
        " WHERE table_schema = 'aetheris' AND table_name = %s AND is_nullable = 'NO' AND column_default IS NULL",
        [table],
    ).fetchall()
    given = {"tenant_id": f"'{tenant}'", "expires_at": "clock_timestamp()", "seq": "1", "head_seq": "1", "line": "'x'"}
    given |= {"leaf": "sha256('\\x00'::bytea || 'x'::bytea)", "head_leaf": given.get("leaf", "'\\x00'")}
    given |= {"effect": "'once'", "change": "'claimed'", "role": "'auditor'", "name": "'n'"}
    given |= {"status": "'started'" if table == "ledger" else "0"}
    given |= {"kind": {"job_snapshots": "'timer'", "signals": "'signal'"}.get(table, "'tool'")}
    plain = {"text": "'x'", "bytea": "'\\x00'", "timestamptz": "clock_timestamp()", "_text": "'{}'"}
    values = [given.get(name) or plain.get(kind, "0") for name, kind in columns]
    connection.execute(
        f"INSERT INTO aetheris.{table} ({', '.join(n for n, _ in columns)}) VALUES ({', '.join(values)})"
    )


def test_no_table_of_the_catalog_shows_or_takes_anothers_rows(database: Database) -> None:
    """Raw SQL through the app's role, bound to tenant a, on a row of b in every table: nothing, by any verb."""
    names = tables_of(database)
    assert len(names) >= 17
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute("SET session_replication_role = replica")  # no triggers, no foreign keys: rows alone
        for table in names:
            for tenant in ("a-tenant", "b-tenant"):
                a_row(admin, table, tenant)

    async def body() -> None:
        async with await database.connect("app") as connection:
            assert await breaches(connection) == []

            async def outcome(text: str) -> Any:
                """What a statement came to: its rows, how many it touched, or that it was denied."""
                try:
                    async with connection.transaction(force_rollback=True):
                        await connection.execute("SELECT set_config('aetheris.tenant', 'a-tenant', true)")
                        cursor = await connection.execute(text)
                        return await cursor.fetchall() if cursor.description else cursor.rowcount
                except psycopg.errors.InsufficientPrivilege:
                    return "denied"

            for table in names:
                seen = await outcome(f"SELECT DISTINCT tenant_id FROM aetheris.{table}")
                assert seen == [{"tenant_id": "a-tenant"}], table
                for text in (
                    f"UPDATE aetheris.{table} SET tenant_id = tenant_id WHERE tenant_id = 'b-tenant'",
                    f"DELETE FROM aetheris.{table} WHERE tenant_id = 'b-tenant'",
                    f"INSERT INTO aetheris.{table} SELECT * FROM aetheris.{table} WHERE tenant_id = 'b-tenant'",
                ):
                    assert await outcome(text) in ("denied", 0), text
                stolen = (
                    f"INSERT INTO aetheris.{table}"
                    f' SELECT (jsonb_populate_record(t, \'{{"tenant_id": "b-tenant"}}\')).* FROM aetheris.{table} t'
                )
                assert await outcome(stolen) == "denied", table
            # Columns that the app may write, of rows that it may not see.
            for text in (
                "UPDATE aetheris.jobs SET wake_at = now() WHERE tenant_id = 'b-tenant'",
                "UPDATE aetheris.audit_heads SET head_seq = 9 WHERE tenant_id = 'b-tenant'",
                "UPDATE aetheris.support_grants SET revoked_at = NULL WHERE tenant_id = 'b-tenant'",
            ):
                assert await outcome(text) == 0, text

    run(body)


def test_a_connection_that_comes_back_carries_no_tenant(database: Database) -> None:
    """One pooled connection, 60 requests of three tenants, a third cancelled and a third failing within."""

    async def body() -> None:
        from aetheris.store import jobs
        from aetheris.store.database import as_tenant

        async with database.pool("app", 1) as pool:

            async def request(n: int) -> None:
                async with as_tenant(pool, f"t{n % 3}") as connection:
                    await jobs.ensure_tenant(connection, f"t{n % 3}")
                    seen = await (await connection.execute("SELECT tenant_id FROM aetheris.tenants")).fetchall()
                    assert seen == [{"tenant_id": f"t{n % 3}"}]
                    if n % 3 == 1:
                        await connection.execute("SELECT 1 / 0")
                    await connection.execute("SELECT pg_sleep(0.01)")

            tasks = [asyncio.create_task(request(n)) for n in range(60)]
            for n, task in enumerate(tasks):
                await asyncio.sleep(0.005)
                if n % 3 == 2:
                    task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [d for d in done if isinstance(d, AssertionError)]
            async with pool.connection() as connection:
                row = await (
                    await connection.execute("SELECT current_setting('aetheris.tenant', true) AS t")
                ).fetchone()
                assert row is not None
                assert not row["t"]
                assert await (await connection.execute("SELECT * FROM aetheris.tenants")).fetchall() == []

    run(body)


def test_a_login_that_is_a_member_of_the_app_alone_is_enough(database: Database) -> None:
    """What the manual advises for the API: whoever gets SQL past it can become nobody else."""
    as_superuser(database, "CREATE ROLE api_login LOGIN NOSUPERUSER", "GRANT aetheris_app TO api_login")
    try:
        own = Database(psycopg.conninfo.make_conninfo(database.admin_dsn, user="api_login"))

        async def body() -> None:
            async with ae.AsyncSystem(database=own, tenant="a") as system:
                assert await system.listing() == []
            async with await own.connect("app") as connection:
                for role in ("aetheris_worker", "aetheris_owner", "aetheris_mirror"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        await connection.execute(f"SET ROLE {role}")

        run(body)
    finally:
        as_superuser(database, "REVOKE aetheris_app FROM api_login", "DROP ROLE api_login")


@pytest.mark.parametrize("at", ["walls", "keys"])
def test_a_connection_cut_at_the_start_is_unreachable_and_no_bug(
    database: Database, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A server that is restarted while a worker looks at the walls, or fetches keys: one line, and try again."""
    check = walls.check

    def cut(connection: Connection) -> None:
        with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])

    async def cut_first(connection: Connection, role: Role) -> None:
        cut(connection)
        await check(connection, role)

    async def body() -> None:
        if at == "walls":
            monkeypatch.setattr(walls, "check", cut_first)
            with pytest.raises(Unreachable):
                await database.connect("worker")
            return
        connection = await database.connect("worker")
        cut(connection)
        with pytest.raises(Unreachable):
            await jobs.job_id_keys(connection)
        await connection.close()

    asyncio.run(body())
