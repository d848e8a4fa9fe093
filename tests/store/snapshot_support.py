"""What tests of snapshots share: a job that rests halfway, and whose worker is gone."""

from __future__ import annotations

import pytest

import aetheris as ae
from aetheris.runtime.config import Snapshots
from aetheris.store import snapshots
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from tests.store.job_support import at_rest, crash

EFFECTS: list[int] = []
OTHER_WORDS: list[str] = []


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    """Begin every test of a module that imports it anew."""
    EFFECTS.clear()
    OTHER_WORDS.clear()


@ae.tool
async def pay(n: int, word: str = "") -> int:
    """An effect that is counted."""
    EFFECTS.append(n)
    return n * 2


@ae.agent
async def payer(ctx: ae.Context, count: int) -> list[int]:
    """Half of the calls, a wait for a signal, the other half."""
    paid = [await ctx.call(pay, n=n, word="".join(OTHER_WORDS)) for n in range(count)]
    paid.append(await ctx.wait_signal("go"))
    return [*paid, *[await ctx.call(pay, n=n) for n in range(count, 2 * count)]]


QUIET = ae.Settings(poll_seconds=0.1, snapshot=Snapshots(enabled=False))


async def resting(system: ae.AsyncSystem, agent: ae.Agent = payer, value: int = 5) -> JobKey:
    """Return a job that rests at its wait for a signal, and whose worker is gone."""
    worker = await system.start_worker([agent], QUIET)
    job = await system.submit(agent, value)
    await at_rest(system, job, "signal go")
    await crash(system, worker)
    return system.tenant, job


async def stored(connection: Connection, key: JobKey) -> list[int]:
    """The seqs of the job's snapshots, newest first."""
    return [f.place.seq for f in await snapshots.folds(connection, key)]
