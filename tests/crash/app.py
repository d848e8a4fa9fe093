"""The agent that crash tests kill: some `once` effects in a row, some at once, then its receipts."""

from __future__ import annotations

import aetheris as ae
from aetheris.runtime.failpoints import reach
from tests.crash.world import World


@ae.tool
def effect(call: ae.Call, number: int) -> str:
    """One effect in the world. `effect.inside` is when it has happened and nobody was told."""
    world = World.of_environment()
    receipt = world.effect(call.key)
    reach("effect.inside")
    world.answer()
    return receipt


@ae.tool(effect="idempotent")
def keyed_effect(call: ae.Call, number: int) -> str:
    """The same where the world honours keys: it may be asked again."""
    world = World.of_environment()
    receipt = world.effect_by_key(call.key)
    reach("effect.inside")
    world.answer()
    return receipt


@ae.tool
def sure_effect(call: ae.Call, number: int) -> str:
    """The same where the world can tell afterwards whether it happened."""
    world = World.of_environment()
    reach("effect.before_it")
    receipt = world.effect_unless_fenced(call.key, call.attempt)
    reach("effect.inside")
    world.answer()
    return receipt


@sure_effect.confirm
def sure_effect_confirm(call: ae.Call) -> ae.Answer:
    """Done when it is in the world; else fence this attempt, so that a late one can't make it."""
    receipt = World.of_environment().find_or_fence(call.key, call.attempt)
    return ae.Done(receipt) if receipt is not None else ae.NotDone()


@ae.agent(version="1")
async def asker(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects that can be confirmed: after a kill it goes on by itself."""
    return [await ctx.call(sure_effect, number=n) for n in range(steps)]


@ae.agent(version="1")
async def spender(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects one after the other."""
    return [await ctx.call(effect, number=n) for n in range(steps)]


@ae.agent(version="1")
async def keeper(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects under keys: a kill delays it, and that is all."""
    return [await ctx.call(keyed_effect, number=n) for n in range(steps)]


@ae.agent(version="1")
async def rester(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects under keys, then wait to be told."""
    receipts = [await ctx.call(keyed_effect, number=n) for n in range(steps)]
    await ctx.wait_signal("go")
    return receipts


@ae.agent(version="1")
async def splitter(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects at once."""
    receipts: list[str] = await ctx.gather(*[ctx.call(effect, number=n) for n in range(steps)])
    return receipts
