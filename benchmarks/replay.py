"""`replay`: how long until a taken-over job's code is at its next step, re-run from the top.

What is timed is what a worker does between a claim and the first new step: one
statement, the history, and the agent's own code against it, every argument
compared. With a timer snapshot, without one, and after a checkpoint. The
records are of the runtime's own rows (long_jobs.py). Each figure is the best
of REPEATS, in one run; `linear` is time per step at the longest over that at
the shortest.
"""

from __future__ import annotations

from pathlib import Path

import aetheris as ae
from aetheris.demo.long_jobs import replay_seconds
from aetheris.domain.errors import Corrupt
from aetheris.runtime.agents import Agent
from aetheris.runtime.config import Snapshots
from aetheris.runtime.snapshots import take_asked
from aetheris.store.database import Connection
from benchmarks.long_jobs import Writer, long_bumper, resting_bumper
from benchmarks.place import measured

LENGTHS = (500, 1_000, 5_000, 10_000, 20_000)
CHECKPOINTED = (500, 5_000, 50_000)
REPEATS = 5


def run() -> dict[str, object]:
    """Return the figures by name."""
    return measured(_measure)


async def _measure(home: Path) -> dict[str, object]:
    figures: dict[str, object] = {}
    statements = set()
    async with ae.AsyncSystem(home=home) as system, await system.database.connect("worker") as connection:
        times: dict[str, float] = {}
        for steps in LENGTHS:
            key = await _made(system, connection, steps)
            plain, count = await _time(connection, key, long_bumper, steps, use_snapshots=False)
            taken = await take_asked(connection, key, Snapshots(), 30)
            if taken is None:
                raise Corrupt(f"no snapshot of the job with {steps} steps")
            packed, again = await _time(connection, key, long_bumper, steps, use_snapshots=True)
            statements |= {count, again}
            times[f"nosnap_{steps}"], times[f"{steps}"] = plain, packed
            figures |= {f"replay_{steps}_s": round(packed, 4), f"replay_{steps}_nosnap_s": round(plain, 4)}
            figures[f"snapshot_{steps}_bytes"] = taken.body_bytes + taken.packed_bytes
        for steps in CHECKPOINTED:
            key = await _rested(system, connection, steps)
            seconds, count = await _time(connection, key, resting_bumper, steps + steps // 500, use_snapshots=True)
            statements.add(count)
            times[f"checkpoint_{steps}"] = seconds
            figures[f"replay_checkpoint_{steps}_s"] = round(seconds, 4)
    shortest, longest = LENGTHS[1], LENGTHS[-1]
    figures["us_per_step"] = round(times[str(longest)] / longest * 1e6, 1)
    figures["us_per_step_nosnap"] = round(times[f"nosnap_{longest}"] / longest * 1e6, 1)
    figures["linear"] = round(times[str(longest)] / longest / (times[str(shortest)] / shortest), 2)
    figures["checkpoint_flat"] = round(
        times[f"checkpoint_{CHECKPOINTED[-1]}"] / times[f"checkpoint_{CHECKPOINTED[0]}"], 2
    )
    if len(statements) != 1:
        raise Corrupt(f"the number of statements is not constant: {sorted(statements)}")
    return figures | {"statements": statements.pop()}


async def _made(system: ae.AsyncSystem, connection: Connection, steps: int) -> tuple[str, str]:
    writer = Writer(connection, system.tenant, await system.submit(long_bumper, steps + 1))
    await writer.open()
    await writer.calls(steps)
    await writer.close()
    return writer.tenant, writer.job


async def _rested(system: ae.AsyncSystem, connection: Connection, steps: int) -> tuple[str, str]:
    writer = Writer(connection, system.tenant, await system.submit(resting_bumper, 0))
    await writer.open()
    for done in range(500, steps + 1, 500):
        await writer.calls(500)
        await writer.checkpoint(done)
    await writer.close()
    return writer.tenant, writer.job


async def _time(
    connection: Connection, key: tuple[str, str], agent: Agent, steps: int, *, use_snapshots: bool
) -> tuple[float, int]:
    """Return (seconds, statements) to the step after `steps`, the best of REPEATS."""
    timed = await replay_seconds(connection, key, agent, use_snapshots=use_snapshots, repeats=REPEATS)
    if timed.reached != steps + 1:
        raise Corrupt(f"the replay came to step {timed.reached}, not {steps + 1}")
    return timed.seconds, timed.statements
