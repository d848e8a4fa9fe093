"""The audit chain: on record before the answer, one chain a tenant, never rewritten, checked whole."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aetheris.domain import audit as chain
from aetheris.domain.audit import Chain, Entry, Head, extend
from aetheris.domain.errors import Corrupt, Denied, Refused
from aetheris.runtime.audit import AuditLog, entry
from aetheris.store import audit, jobs
from aetheris.store.database import Database, as_tenant

from .job_support import run


async def found(database: Database, *tenants: str) -> None:
    """Make tenants exist."""
    async with database.pool("app", 1) as pool:
        for tenant in tenants:
            async with as_tenant(pool, tenant) as connection:
                await jobs.ensure_tenant(connection, tenant)


def as_superuser(database: Database, *statements: str) -> None:
    """Do what no role of ours may: an attacker at the socket."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        for text in statements:
            connection.execute(text.encode())


def test_entries_of_many_writers_form_one_sound_chain_a_tenant(database: Database) -> None:
    """Two processes, three tenants, 600 entries: each once, no gap, and far fewer commits than entries."""

    async def body() -> None:
        tenants = ["a", "b", "c"]
        await found(database, *tenants)
        async with database.pool("app", 4) as one, database.pool("app", 4) as two:
            logs = [AuditLog(one), AuditLog(two)]
            numbers = await asyncio.gather(
                *(
                    logs[n % 2].record(
                        tenants[n % 3], action="view_job", by="user/x", success=n % 5 > 0, resource_id=str(n)
                    )
                    for n in range(600)
                )
            )
            assert len({(n % 3, number) for n, number in enumerate(numbers)}) == 600
            assert sum(log.commits for log in logs) < 200
            for at, tenant in enumerate(tenants):
                async with as_tenant(one, tenant) as connection:
                    head = await audit.verify(connection, tenant)
                    rows = await audit.rows(connection, tenant)
                assert head.seq == 201 == len(rows)
                said = [chain.events.read(row.line) for row in rows]
                assert [e.type for e in said[:2]] == ["audit_opened", "view_job"]
                assert Counter(e.data["resource_id"] for e in said[1:]) == Counter(
                    str(n) for n in range(600) if n % 3 == at
                )

    run(body)


def test_an_entry_stands_if_and_only_if_the_deed_does(database: Database) -> None:
    """Appended in somebody's own transaction, as the worker's role or as owner: rolled back with it, kept with it."""

    async def body() -> None:
        await found(database, "a")
        async with await database.connect("worker") as connection:
            async with connection.transaction(force_rollback=True):
                await audit.append(connection, "a", [entry("erase_cells", by="user/dpo", resource_id="j")])
            assert (await audit.head(connection, "a")).seq == 0
            async with connection.transaction():
                lines = await audit.append(
                    connection, "a", [entry("erase_cells", by="user/dpo", resource_id="j", data={"cells": 3})] * 2
                )
            assert [line.seq for line in lines] == [2, 3]
            assert (await audit.verify(connection, "a")).seq == 3
        async with await psycopg.AsyncConnection.connect(
            database.admin_dsn, autocommit=True, row_factory=psycopg.rows.dict_row
        ) as owner:
            from aetheris.store import arrays

            arrays.register(owner)
            async with owner.transaction():
                await owner.execute("SET LOCAL ROLE aetheris_owner")
                assert [x.seq for x in await audit.append(owner, "a", [entry("collect_jobs", by="system")])] == [4]

    run(body)


def test_nothing_written_is_rewritten_by_anybody(database: Database) -> None:
    """Neither the roles (no right) nor the owner nor a superuser (triggers) change, remove or empty the log."""

    async def body() -> None:
        await found(database, "a")
        async with database.pool("app", 1) as pool:
            await AuditLog(pool).record("a", action="view_job", by="user/x", success=True)
        for role in ("app", "worker"):
            async with await database.connect(role) as connection:
                for text in ("UPDATE aetheris.audit_log SET line = line", "DELETE FROM aetheris.audit_log"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        await connection.execute(text)

    run(body)
    for text in (
        "UPDATE aetheris.audit_log SET recorded_at = now()",
        "DELETE FROM aetheris.audit_log",
        "TRUNCATE aetheris.audit_log",
        "DELETE FROM aetheris.audit_heads",
        "UPDATE aetheris.audit_heads SET head_seq = 1, head_leaf = '\\x00'",
        "UPDATE aetheris.audit_heads SET head_leaf = '\\x00'",
    ):
        with pytest.raises(psycopg.Error) as refused:
            as_superuser(database, text)
        assert refused.value.sqlstate == "AE003", text


@pytest.mark.parametrize(
    ("seq", "why"), [(4, "AE002"), (2, "23505"), (9, "AE002")], ids=["next, head not moved", "taken", "gap"]
)
def test_an_entry_beside_the_head_is_refused(database: Database, seq: int, why: str) -> None:
    """Whoever can insert can only append: the database looks at number, head and leaf by itself."""

    async def body() -> None:
        await found(database, "a")
        async with database.pool("app", 1) as pool:
            log = AuditLog(pool)
            for _ in range(2):
                await log.record("a", action="view_job", by="user/x", success=True)

            async def insert() -> None:
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute("SELECT set_config('aetheris.tenant', 'a', true)")
                    await connection.execute(
                        "INSERT INTO aetheris.audit_log (tenant_id, seq, leaf, line)"
                        " VALUES ('a', %s, sha256('\\x00'::bytea || 'x'::bytea), 'x')",
                        [seq],
                    )

            with pytest.raises(psycopg.Error) as refused:
                await insert()
            assert refused.value.sqlstate == why

    run(body)


def test_a_line_that_its_leaf_does_not_hash_is_refused(database: Database) -> None:
    """Also where number and head are right: what is stored can be checked by anybody, from the first day on."""

    async def body() -> None:
        await found(database, "a")
        async with await database.connect("worker") as connection:
            with pytest.raises(psycopg.Error) as refused:
                await connection.execute(
                    "WITH head AS (INSERT INTO aetheris.audit_heads (tenant_id, head_seq, head_leaf)"
                    " VALUES ('a', 1, '\\x00') RETURNING tenant_id)"
                    " INSERT INTO aetheris.audit_log (tenant_id, seq, leaf, line)"
                    " SELECT tenant_id, 1, '\\x00', 'x' FROM head"
                )
            assert refused.value.sqlstate == "AE002"

    run(body)


EDITED = "replace(line, 'user/x', 'user/y')"


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        # An entry hashed anew is sound in itself: its successor names another.
        (f"SET line = {EDITED}, leaf = sha256('\\x00'::bytea || convert_to({EDITED}, 'UTF8')) WHERE seq = 3", 4),
        ("SET leaf = decode(repeat('00', 32), 'hex') WHERE seq = 3", 3),
        ("DELETE 2", 2),
        ("DELETE 4", 3),
    ],
    ids=["edited with its leaf", "another leaf", "removed", "cut off at the end"],
)
def test_tampering_past_every_trigger_is_found_and_named(database: Database, tampering: str, named: int) -> None:
    """A superuser can do anything but make the chain whole again: the check says at which entry."""
    removed = tampering.removeprefix("DELETE ")
    text = f"UPDATE aetheris.audit_log {tampering}"
    if removed != tampering:
        text = f"DELETE FROM aetheris.audit_log WHERE seq = {removed}"

    async def body() -> None:
        await found(database, "a")
        async with database.pool("app", 1) as pool:
            log = AuditLog(pool)
            for _ in range(3):
                await log.record("a", action="view_job", by="user/x", success=True)
            await asyncio.to_thread(
                as_superuser,
                database,
                "ALTER TABLE aetheris.audit_log DISABLE TRIGGER USER",
                text,
            )
            async with as_tenant(pool, "a") as connection:
                with pytest.raises(Corrupt, match=f"audit entry {named}"):
                    await audit.verify(connection, "a")

    run(body)


def test_a_tenant_neither_reads_nor_extends_anothers_chain(database: Database) -> None:
    """The walls hold for the audit log as for every table."""

    async def body() -> None:
        await found(database, "a", "b")
        async with database.pool("app", 2) as pool:
            await AuditLog(pool).record("a", action="view_job", by="user/x", success=True)
            async with as_tenant(pool, "b") as connection:
                assert await audit.rows(connection, "a") == []
                assert (await audit.head(connection, "a")).seq == 0
            with pytest.raises(Denied):
                async with as_tenant(pool, "b") as connection:
                    await audit.append(connection, "a", [entry("view_job", by="user/x")])

    run(body)


def test_a_connection_lost_in_commit_neither_loses_nor_doubles_an_entry(database: Database) -> None:
    """Backends are killed all the while; every entry is answered, and is there once."""

    async def body() -> None:
        await found(database, "a")
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'aetheris-app' AND query <> ''"
        )

        async with database.pool("app", 2) as pool:
            log = AuditLog(pool)
            answered = []

            async def write(n: int) -> None:
                number = await log.record("a", action="view_job", by="user/x", success=True, resource_id=str(n))
                answered.append((n, number))

            for start in range(0, 120, 10):
                writes = [asyncio.create_task(write(n)) for n in range(start, start + 10)]
                for _ in range(start // 10):  # a little later each round: somewhere within the transaction
                    await asyncio.sleep(0)
                await asyncio.to_thread(as_superuser, database, kill)
                await asyncio.gather(*writes)
        async with await database.connect("worker") as connection:
            await audit.verify(connection, "a")
            rows = await audit.rows(connection, "a")
        there = {row.seq: chain.events.read(row.line).data.get("resource_id") for row in rows}
        assert len(answered) == 120
        assert all(there[number] == str(n) for n, number in answered)
        assert max(Counter(there.values()).values()) == 1

    run(body)


def test_no_such_tenant_and_bad_entries_are_refused(database: Database) -> None:
    """A row of another shape would stay for ever."""

    async def body() -> None:
        async with database.pool("app", 1) as pool:
            with pytest.raises(Refused):
                await AuditLog(pool).record("nobody", action="view_job", by="user/x", success=True)

    run(body)
    for wrong in (
        {"action": "View job"},
        {"action": "audit_opened"},
        {"by": ""},
        {"data": {"share": 0.5}},
        {"data": {"success": True}},
        {"data": {"long": "x" * 20_000}},
        {"data": {"half": "\ud800"}},
    ):
        with pytest.raises(Refused):
            Entry(**{"action": "view_job", "by": "user/x", "success": True, **wrong})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=20), st.integers(0, 2**40)), min_size=2, max_size=8), st.integers(0), st.data()
)
def test_any_changed_byte_of_any_line_is_found(said: list[tuple[str, int]], now: int, data: st.DataObject) -> None:
    """Also in the last entry, by the head that is kept elsewhere."""
    entries = [Entry("view_job", "user/x", True, data={"text": chain.plain(t), "number": n}) for t, n in said]
    head, lines = extend("t", Head(0, b"", 0), entries, now % 2**50)
    sound = Chain("t")
    for line in lines:
        sound.add(line.line, line.leaf)
    sound.close(head)
    which = data.draw(st.integers(0, len(lines) - 1))
    raw = bytearray(lines[which].line)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))

    def check() -> None:
        broken = Chain("t")
        for n, line in enumerate(lines):
            broken.add(bytes(raw) if n == which else line.line)
        broken.close(head)

    with pytest.raises(Corrupt):
        check()


def test_anothers_chain_is_not_this_tenants() -> None:
    """The opening entry binds the tenant."""
    _, lines = extend("a", Head(0, b"", 0), [Entry("view_job", "user/x", True)], 1)
    with pytest.raises(Corrupt, match="another tenant"):
        Chain("b").add(lines[0].line)
