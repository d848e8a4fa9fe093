"""A claim reads what it needs, also when its plan was prepared while the store was young."""

from __future__ import annotations

import asyncio

import aetheris as ae
from aetheris.store import leases
from aetheris.store.database import Connection, Database
from tests.store.job_support import run

MANY = 4_000
READ = "SELECT seq_tup_read + idx_tup_fetch AS read FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"


@ae.agent
async def idle(ctx: ae.Context, n: int) -> None:
    """Never runs: it is there to be claimed."""


async def claim(connection: Connection) -> int:
    """Claim one job; return how many were got."""
    return len(await leases.claim(connection, "w", agents={"idle": "1"}, capabilities=[], limit=1, lease_seconds=3600))


def test_a_claim_among_thousands_reads_a_handful_of_rows(database: Database) -> None:
    """Thousands have ended and thousands are ready, and nobody has analysed the table since it was empty."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system, await database.connect("worker") as connection:
            await leases.settle_plan(connection)
            for n in range(8):  # PostgreSQL settles on one plan for all parameters after five
                await system.submit(idle, n)
                assert await claim(connection) == 1
            for status in (2, 0):
                await connection.execute(
                    "INSERT INTO aetheris.jobs (tenant_id, job_id, agent, agent_version, status, head_seq, head_leaf)"
                    " SELECT 'default', %s || lpad(n::text, 39, '0'), 'idle', '1', %s, 1, '\\x00'"
                    " FROM generate_series(1, %s) n",
                    ["yz"[status == 0], status, MANY],
                )
            async with connection.transaction():
                assert await claim(connection) == 1
                cursor = await connection.execute(READ)
                row = await cursor.fetchone()
            assert row is not None
            assert 0 < row["read"] < MANY / 10

    run(work)


def test_no_statement_of_a_worker_reads_a_whole_table_by_an_old_plan(database: Database) -> None:
    """Every connection of a worker prefers an index, whatever size the table had when its plan was made."""

    async def work() -> None:
        async with await database.connect("worker") as connection:
            cursor = await connection.execute("SHOW enable_seqscan")
            assert await cursor.fetchone() == {"enable_seqscan": "off"}

    asyncio.run(work())
