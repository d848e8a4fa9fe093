"""What soaked jobs do. Every effect is counted in the world, and each tool takes just the time it was told to take.

A tool's time is part of its arguments, so that whatever a job takes beyond the
sum of them is the runtime's (or a fault's), a late wake-up of the tool included.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import aetheris as ae
from tests.crash.world import World

SHARD_LETTERS = 2

Work = list[tuple[str, int]]


def shard(folder: Path, key: str) -> World:
    """Return the part of the world in which effects under this key are: no file of it grows long."""
    return World(folder / key[:SHARD_LETTERS])


def _world(call: ae.Call) -> World:
    return shard(Path(os.environ["WORLD"]), call.key)


def _until(began: float, ms: int) -> float:
    return max(0.0, began + ms / 1000 - time.monotonic())


@ae.tool(effect="none")
async def look(ms: int) -> int:
    """A reading."""
    await asyncio.sleep(ms / 1000)
    return ms


@ae.tool
def pay(call: ae.Call, ms: int) -> str:
    """An effect that nobody but a person can tell of afterwards; it happens half way."""
    began = time.monotonic()
    time.sleep(ms / 2000)
    receipt = _world(call).effect(call.key)
    time.sleep(_until(began, ms))
    return receipt


@ae.tool(effect="idempotent")
def keep(call: ae.Call, ms: int) -> str:
    """An effect under a key that the world honours."""
    began = time.monotonic()
    time.sleep(ms / 2000)
    receipt = _world(call).effect_by_key(call.key)
    time.sleep(_until(began, ms))
    return receipt


@ae.tool
def sure(call: ae.Call, ms: int) -> str:
    """An effect that can be confirmed, and fenced."""
    began = time.monotonic()
    time.sleep(ms / 2000)
    receipt = _world(call).effect_unless_fenced(call.key, call.attempt)
    time.sleep(_until(began, ms))
    return receipt


@sure.confirm
def sure_confirm(call: ae.Call) -> ae.Answer:
    """Done when it is in the world; else this attempt is fenced."""
    receipt = _world(call).find_or_fence(call.key, call.attempt)
    return ae.Done(receipt) if receipt is not None else ae.NotDone()


@ae.tool
def charge(call: ae.Call, ms: int) -> str:
    """An effect of which the bank allows so many a second (rate_limits)."""
    return _world(call).effect(call.key)


TOOLS: dict[str, ae.Tool[..., object]] = {tool.name: tool for tool in (look, pay, keep, sure, charge)}
#: Tools whose effects are in the world.
COUNTED = frozenset(TOOLS) - {look.name}


async def _do(ctx: ae.Context, work: Work) -> int:
    for name, ms in work:
        await ctx.call(TOOLS[name], ms=ms)
    return len(work)


@ae.agent(version="1")
async def stream(ctx: ae.Context, work: Work) -> int:
    """Calls, one after the other: the jobs whose overhead is measured."""
    return await _do(ctx, work)


@ae.agent(version="1")
async def crowd(ctx: ae.Context, work: Work) -> int:
    """The same with a sleep after each call: the jobs that are in hand for long."""
    for name, ms in work:
        await ctx.call(TOOLS[name], ms=ms)
        await ctx.sleep(1 + ms / 200)
    return len(work)


@ae.agent(version="1")
async def spread(ctx: ae.Context, work: Work) -> int:
    """Calls at once."""
    return len(await ctx.gather(*(ctx.call(TOOLS[name], ms=ms) for name, ms in work)))


@ae.agent(version="1")
async def listener(ctx: ae.Context, work: Work) -> int:
    """Calls, then a signal, then calls."""
    await _do(ctx, work)
    await ctx.wait_signal("go on")
    return await _do(ctx, work)


@ae.agent(version="1")
async def asker(ctx: ae.Context, work: Work) -> int:
    """Calls, then an approval, then calls."""
    await _do(ctx, work)
    await ctx.approval("Go on?", role="operator")
    return await _do(ctx, work)


@ae.agent(version="1")
async def talker(ctx: ae.Context, work: Work) -> int:
    """Asks a model, then calls."""
    await ctx.llm("desk", messages=[{"role": "user", "content": "What next?"}])
    return await _do(ctx, work)
