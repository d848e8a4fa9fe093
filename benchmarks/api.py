"""The API with row-level security on against off: 10 tenants x 10,000 jobs, list, get and submit; and the leaks.

Each figure is asked of the same store and process, with the walls up and with
row-level security switched off (by the owner, on a database of its own), in
pairs of short turns; a ratio is the median over the pairs, so that a busy
machine slows both alike. The whole way of a request counts: token, gate, statement, audit entry.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg

from aetheris.api.service import Service
from aetheris.domain import ids
from aetheris.store import walls
from aetheris.store.database import Database
from aetheris.store.embedded import ADMIN, Embedded
from aetheris.store.migrate import migrate
from benchmarks.place import folder
from tests.api.leaks import campaign
from tests.api.support import bearer, serving

TENANTS = 10
JOBS = int(os.environ.get("BENCH_JOBS", "10000"))
TURNS = int(os.environ.get("BENCH_TURNS", "15"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "100"))
CLIENTS = 8
LEAK_REQUESTS = int(os.environ.get("BENCH_LEAK_REQUESTS", "20000"))


def run() -> dict[str, object]:
    """Return the ratios off/on of requests per second, the P95 of a list, and what leaked."""
    with folder() as place, Embedded(place / "home").start() as running:
        names = ("speed", "leaks")
        with psycopg.connect(running.dsn(ADMIN), autocommit=True) as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}".encode())
        speed, leaks = (Database(psycopg.conninfo.make_conninfo(running.dsn(ADMIN), dbname=n)) for n in names)
        asyncio.run(migrate(speed))
        asyncio.run(migrate(leaks))
        figures = asyncio.run(_measure(speed))
        told = asyncio.run(campaign(leaks, place / "lake", LEAK_REQUESTS))
        return {**figures, "leak_requests": told.requests, "leaks": len(told.leaks)}


async def _measure(database: Database) -> dict[str, object]:
    async with serving(database, pool_size=CLIENTS) as (service, client):
        headers = [bearer(f"tenant-{n}", exp=2**31) for n in range(TENANTS)]
        for n in range(TENANTS):
            await client.get("/api/me", headers=headers[n])
        jobs = await _fill(database, service)
        times: dict[tuple[str, bool], list[float]] = {}
        rates: dict[tuple[str, bool], list[float]] = {}
        work: dict[str, Callable[[int], Awaitable[httpx.Response]]] = {
            "list": lambda n: client.get("/api/jobs?limit=50", headers=headers[n % TENANTS]),
            "get": lambda n: client.get(f"/api/jobs/{jobs[n % TENANTS][n % JOBS]}", headers=headers[n % TENANTS]),
            "submit": lambda n: client.post(
                "/api/jobs", json={"agent": "desk", "input": "4WQ150"}, headers=headers[n % TENANTS]
            ),
        }
        for turn in range(TURNS + 1):
            for name, ask in work.items():
                for walls_up in (True, False) if turn % 2 else (False, True):
                    async with _walls(database, up=walls_up):
                        await _turn(ask, turn, CLIENTS)  # plans are made anew after the switch
                        found = await _turn(ask, turn, REQUESTS)
                        if turn:  # the first warms caches and plans
                            times.setdefault((name, walls_up), []).extend(found[0])
                            rates.setdefault((name, walls_up), []).append(found[1])
        figures: dict[str, object] = {}
        for name in work:
            on, off = rates[name, True], rates[name, False]
            # Pair by pair: what slows the machine for seconds slows both halves of a pair.
            figures[f"{name}_ratio"] = round(statistics.median(b / a for a, b in zip(on, off, strict=True)), 3)
            figures[f"{name}_per_second"] = round(statistics.median(on), 1)
            p95 = statistics.quantiles(times[name, True], n=20)[-1]
            figures[f"{name}_p95_ms"] = round(p95 * 1000, 2)
        return {"tenants": TENANTS, "jobs": TENANTS * JOBS, **figures}


async def _turn(ask: Callable[[int], Awaitable[httpx.Response]], turn: int, requests: int) -> tuple[list[float], float]:
    times: list[float] = []

    async def loop(client: int) -> None:
        for n in range(client, requests, CLIENTS):
            began = time.perf_counter()
            answer = await ask(n + turn * REQUESTS)
            assert answer.status_code in (200, 202), answer.text
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(loop(client) for client in range(CLIENTS)))
    return times, requests / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _walls(database: Database, *, up: bool) -> AsyncIterator[None]:
    """Row-level security as it is, or switched off on every table of the tenants for the while."""
    if up:
        yield
        return
    await asyncio.to_thread(_switch, database, "DISABLE")
    try:
        yield
    finally:
        await asyncio.to_thread(_switch, database, "ENABLE")


def _switch(database: Database, how: str) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'aetheris'::regnamespace AND relkind = 'r'"
            " AND relname <> ALL (%s)",
            [list(walls.WITHOUT_TENANT)],
        ).fetchall()
        for (table,) in found:
            connection.execute(f"ALTER TABLE aetheris.{table} {how} ROW LEVEL SECURITY".encode())


async def _fill(database: Database, service: Service) -> list[list[str]]:
    """Put JOBS finished jobs of one event each into every tenant, as submit would; return their ids."""
    number, key = max((await service.keys()).items())
    made = [[ids.mint(f"tenant-{n}", number, key) for _ in range(JOBS)] for n in range(TENANTS)]
    rows = [(f"tenant-{n}", job) for n, of_tenant in enumerate(made) for job in of_tenant]
    await asyncio.to_thread(_copy, database, rows)
    return made


def _copy(database: Database, rows: list[tuple[str, str]]) -> None:
    with psycopg.connect(database.admin_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        copying: Any = connection.cursor().copy(
            "COPY aetheris.jobs (tenant_id, job_id, agent, agent_version, status, head_seq, head_leaf, wake_at)"
            " FROM STDIN"
        )
        with copying as copy:
            for tenant, job in rows:
                copy.write_row((tenant, job, "desk", "1", 2, 1, b"\x00" * 32, "infinity"))
        connection.execute("UPDATE aetheris.jobs SET created_at = now() - random() * interval '30 days'")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE aetheris.jobs")
