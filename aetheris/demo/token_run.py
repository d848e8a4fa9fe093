"""Token limits measured: jobs that ask a model without pause, and what a server saw of it in any window.

The server uses up to 30 % more or less than was reserved, at random, as real
answers do, and takes its time to say so.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aetheris as ae
from aetheris.demo.model_server import Asked, ModelServer, Said, text
from aetheris.domain.errors import Refused
from aetheris.runtime.config import Config
from aetheris.runtime.config_file import Loaded
from aetheris.store.database import Database

EXPECTED_OUTPUT = 100
PROMPT = "What became of ticket 881? " * 25
OFF = 0.3


@ae.agent
async def asker(ctx: ae.Context, seconds: float) -> int:
    """Ask again and again until the time is over."""
    began, count = ctx.now(), 0
    while (ctx.now() - began).total_seconds() < seconds:
        await ctx.llm("desk", f"{PROMPT}{count}")
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run showed: the tokens that the server counted in windows, over what the budget gives one."""

    asked: int
    windows: int
    #: The most in any window after the first, over the budget, less 1: 0.01 is one in a hundred too many.
    most_ratio: float
    least_ratio: float


def windows(starts: Sequence[tuple[float, int]], budget: float, window: float) -> Measured:
    """Return what (second, tokens) come to in windows that begin at each start, after the first window and whole.

    A window holds its beginning and not its end.
    """
    ordered = sorted(starts)
    first, last = ordered[0][0], ordered[-1][0]
    sums: list[float] = []
    end = total = 0
    for begin, (at, tokens) in enumerate(ordered):
        while end < len(ordered) and ordered[end][0] < at + window:
            total += ordered[end][1]
            end += 1
        if at >= first + window and at + window <= last:
            sums.append(total / budget - 1)
        total -= tokens
        end = max(end, begin + 1)
    if not sums:
        raise Refused("the run was shorter than two windows: nothing can be said of it")
    return Measured(len(ordered), len(sums), max(sums), min(sums))


async def measure(
    database: Database, *, tokens_per_minute: int, window_seconds: float, seconds: float, jobs: int = 50
) -> Measured:
    """Run `jobs` askers for `seconds` under the limit and return what the server counted."""
    chance = random.Random(7)
    counted: list[tuple[float, int]] = []
    scale = window_seconds / 60

    def answer(asked: Asked) -> Said:
        reserved = -(-len(json.dumps(asked.body, separators=(",", ":"))) // 4) + EXPECTED_OUTPUT
        used = round(reserved * chance.uniform(1 - OFF, 1 + OFF))
        counted.append((asked.at, used))
        time.sleep(chance.uniform(0.3, 3) * scale)
        return text("It is settled.", received=used - 20, made=20)

    with ModelServer(answer) as server:
        model = {"provider": "local", "base_url": server.url, "model": "m", "expected_output_tokens": EXPECTED_OUTPUT}
        limits = {"llm": {"local": {"tokens_per_minute": tokens_per_minute}}}
        config = Config.model_validate({"models": {"desk": model}, "rate_limits": limits})
        async with ae.AsyncSystem(database=database, config=Loaded(config)) as system:
            await system.start_worker([asker], ae.Settings(concurrency=jobs))
            ids = [await system.submit(asker, seconds) for _ in range(jobs)]
            await system.wait(ids)
    # The last second shows how it ends, not how it goes.
    last = max(at for at, _ in counted) - 1
    return windows([c for c in counted if c[0] <= last], tokens_per_minute * scale, window_seconds)
