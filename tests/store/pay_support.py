"""A tool whose effects are counted, and can be held; what tests of running jobs call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aetheris as ae
from aetheris.runtime.record import JobRecord

EFFECTS: list[str] = []
HELD: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    """Begin every test of a module that imports it anew."""
    EFFECTS.clear()
    HELD.clear()


@ae.tool
async def pay(what: str) -> str:
    """An effect that is counted; waits while someone holds it."""
    EFFECTS.append(what)
    if what in HELD:
        await HELD[what].wait()
    return f"paid {what}"


@ae.tool(effect="none")
async def look(n: int) -> dict[str, Any]:
    """A reading."""
    return {"n": n, "half": n / 2}


@ae.agent
async def waits(ctx: ae.Context, key: str) -> Any:
    """Waits for one signal."""
    got = await ctx.wait_signal(key)
    return [got, await ctx.call(pay, what="after")]


async def done(system: ae.AsyncSystem, agent: ae.Agent, value: Any = None) -> JobRecord:
    """Submit, wait for rest, and return the record."""
    job = await system.submit(agent, value)
    await system.wait([job], seconds=30)
    return await system.record(job)
