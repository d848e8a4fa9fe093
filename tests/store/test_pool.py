"""What a pool of connections takes of PostgreSQL, and gives back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest

import aetheris as ae
from aetheris.store import database as store
from aetheris.store.database import Database
from tests.store.job_support import FAST, ended, run


def test_a_pool_lets_go_of_what_a_burst_opened(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The soak of an hour, with twelve tenants, came to 96 of PostgreSQL's 100 connections and gave none back."""
    monkeypatch.setattr(store, "IDLE_SECONDS", 0.1)

    async def body() -> None:
        async with database.pool("app", 4) as pool:
            async with AsyncExitStack() as burst:
                for _ in range(4):
                    await burst.enter_async_context(pool.connection())
                assert pool.get_stats()["pool_size"] == 4
            async with asyncio.timeout(10):
                while pool.get_stats()["pool_size"] > 1:
                    await asyncio.sleep(0.05)

    asyncio.run(body())


def test_who_waits_for_many_agents_takes_no_connections_for_each(database: Database) -> None:
    """Each got a worker of its own, with seven connections: twelve agents were all that PostgreSQL gives."""

    def named(n: int) -> ae.Agent:
        @ae.agent(name=f"agent-{n}")
        async def agent(ctx: ae.Context) -> int:
            await ctx.sleep(0.01)
            return n

        return agent

    agents = [named(n) for n in range(6)]
    with ae.System(database.admin_dsn) as system, ThreadPoolExecutor(6) as threads:
        waiting = list(threads.map(lambda agent: system.submit(agent).wait(20), agents))
        assert [job.result for job in waiting] == [0, 1, 2, 3, 4, 5]
        assert len(system._core._workers) == 1


def test_a_parent_takes_no_connection_for_each_child_that_it_waits_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that gathers a hundred children opened a hundred connections."""
    taken: list[str] = []
    connect = Database.connect

    async def counted(self: Database, role: store.Role) -> store.Connection:
        taken.append(role)
        return await connect(self, role)

    @ae.agent
    async def child(ctx: ae.Context, n: int) -> int:
        return n

    @ae.agent
    async def parent(ctx: ae.Context) -> int:
        return sum(await ctx.gather(*(ctx.child(child, n) for n in range(30))))

    async def body() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([parent, child], FAST)
            monkeypatch.setattr(Database, "connect", counted)
            assert (await ended(system, await system.submit(parent))).result() == 435
            assert len(taken) < 15  # the worker's own duties may connect late

    run(body)
