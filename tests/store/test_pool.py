"""What a pool of connections takes of PostgreSQL, and gives back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from aetheris.store import database as store
from aetheris.store.database import Database


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
