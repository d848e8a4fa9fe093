"""Tenants under load, each checked to see its own alone: `python -m tests.api.leaks --requests 20000`.

Twelve tenants at once submit, list, read, trace, export, query the lake, ask
for each other's jobs, send nonsense and hang up half way, over one pool of
connections while a worker runs their jobs. Every answer is searched for what
is another's: ids of jobs, and a word that only that tenant's jobs hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

import aetheris as ae
from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from aetheris.store.embedded import ADMIN, Embedded
from aetheris.store.migrate import migrate
from aetheris.store.mirror_rows import MirrorSource

from .support import bearer, desk, serving, waiter

TENANTS = [f"tenant-{n:02}" for n in range(12)]
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{40}")
_WORD = re.compile(r"word-of-(tenant-\d\d)")


@dataclass
class Campaign:
    """What was asked, what was answered, and what leaked."""

    seed: int = 1
    requests: int = 0
    cancelled: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    #: job id -> whose it is
    owners: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=lambda: {t: [] for t in TENANTS})

    def look(self, tenant: str, what: str, answer: httpx.Response, own: str = "") -> None:
        """Search an answer for what is another's. `own` is a foreign id that the caller sent, so it may come back."""
        self.statuses[answer.status_code] += 1
        text = answer.content.decode("latin-1") + " ".join(answer.headers.values())
        ids = {i for i in _ID.findall(text) if self.owners.get(i, tenant) != tenant and i != own}
        words = {w for w in _WORD.findall(text) if w != tenant}
        if ids or words:
            self.leaks.append(f"{tenant} {what}: {answer.status_code} {sorted(ids | words)[:3]}")


async def campaign(database: Database, folder: Path, requests: int, *, seed: int = 1, clients: int = 36) -> Campaign:
    """Run so many requests and return what came of them."""
    told = Campaign(seed)
    async with (
        ae.AsyncSystem(database=database, tenant=TENANTS[0]) as system,
        serving(database, lake=folder) as (_, client),
    ):
        await system.start_worker([desk, waiter], ae.Settings(poll_seconds=0.2))
        headers = {t: bearer(t, user="load", exp=2**31) for t in TENANTS}
        for tenant in TENANTS:
            for _ in range(3):
                await _submit(told, client, tenant, headers[tenant])
        await asyncio.sleep(1)
        source = MirrorSource(database)
        lake = Lake(folder, source.catalog_uri)
        await mirror_once(source, lake)
        lake.close()

        async def loop(number: int) -> None:
            dice = random.Random(f"{seed}/{number}")
            tenant = TENANTS[number % len(TENANTS)]
            while told.requests < requests:
                await _one(told, client, tenant, headers[tenant], dice)

        await asyncio.gather(*(loop(n) for n in range(clients)))
    return told


async def _one(
    told: Campaign, client: httpx.AsyncClient, tenant: str, headers: dict[str, str], dice: random.Random
) -> None:
    told.requests += 1
    mine = dice.choice(told.jobs[tenant])
    other = dice.choice(told.jobs[dice.choice([t for t in TENANTS if t != tenant])])
    work: list[tuple[int, str, str, Any, int | None]] = [
        (4, "POST", "/api/jobs", None, None),
        (20, "GET", f"/api/jobs?limit={dice.choice([5, 50, 200])}", None, 200),
        (20, "GET", f"/api/jobs/{mine}", None, 200),
        (10, "GET", f"/api/jobs/{mine}/events", None, 200),
        (10, "GET", f"/api/jobs/{mine}/trace", None, 200),
        (3, "POST", f"/api/jobs/{mine}/export", {}, 200),
        (2, "POST", "/api/forensics/queries/trace/cells", {"parameters": {}}, 200),
        (2, "POST", "/api/forensics/query", {}, 200),
        (4, "GET", "/api/audit?limit=50", None, 200),
        (8, "GET", f"/api/jobs/{other}", None, 403),
        (4, "GET", f"/api/jobs/{other}/trace", None, 403),
        (2, "POST", f"/api/jobs/{other}/export", {}, 403),
        (2, "POST", f"/api/jobs/{other}/signal", {"correlation_key": "x"}, 403),
        (3, "POST", "/api/jobs", {"agent": 5}, 422),
        (3, "GET", "/api/jobs?cursor=nonsense", None, 400),
        (3, "POST", f"/api/jobs/{mine}/resolve", {"step": 99, "outcome": "done", "why": "x"}, 400),
    ]
    _, method, path, body, expected = dice.choices(work, [w[0] for w in work])[0]
    if (method, path, body) == ("POST", "/api/jobs", None):
        await _submit(told, client, tenant, headers)
        return
    asking = asyncio.ensure_future(client.request(method, path, json=body, headers=headers))
    if dice.random() < 0.05:
        await asyncio.sleep(dice.random() * 0.02)
        asking.cancel()
    try:
        answer = await asking
    except asyncio.CancelledError:
        told.cancelled += 1
        return
    # Of the audit log one's own denials name the other's job: that is what one asked for.
    own = other if other in path else ""
    if path.startswith("/api/audit"):
        answer = httpx.Response(answer.status_code, content=_ID.sub("", answer.text))
    told.look(tenant, f"{method} {path}", answer, own)
    if expected is not None and answer.status_code != expected:
        told.leaks.append(f"{tenant} {method} {path}: answered {answer.status_code}, expected {expected}")


async def _submit(told: Campaign, client: httpx.AsyncClient, tenant: str, headers: dict[str, str]) -> None:
    body = {"agent": "desk", "input": f"word-of-{tenant}"}
    answer = await client.post("/api/jobs", json=body, headers=headers)
    told.look(tenant, "submit", answer)
    job = answer.json()["job_id"]
    told.owners[job] = tenant
    told.jobs[tenant].append(job)


def main() -> int:
    """Run a campaign on an embedded PostgreSQL of its own and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="aetheris-leaks-", dir="/tmp"))
    folder.chmod(0o755)
    running = Embedded(folder / "home").start()
    try:
        with psycopg.connect(running.dsn(ADMIN), autocommit=True) as connection:
            connection.execute("CREATE DATABASE leaks")
        database = Database(psycopg.conninfo.make_conninfo(running.dsn(ADMIN), dbname="leaks"))
        asyncio.run(migrate(database))
        told = asyncio.run(campaign(database, folder / "lake", given.requests, seed=given.seed))
    finally:
        running.release()
        shutil.rmtree(folder, ignore_errors=True)
    for leak in told.leaks[:20]:
        print(leak, file=sys.stderr)
    figures = {"leak_requests": told.requests, "leaks": len(told.leaks), "cancelled": told.cancelled}
    print(json.dumps({**figures, "statuses": dict(sorted(told.statuses.items())), "seed": told.seed}))
    return 1 if told.leaks else 0


if __name__ == "__main__":
    raise SystemExit(main())
