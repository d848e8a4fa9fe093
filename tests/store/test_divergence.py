"""Code and record that don't go together: another await, another call, a result that can't be stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.store.database import Database
from tests.store.job_support import at_rest, run
from tests.store.pay_support import (
    EFFECTS,
    done,
    look,
    nothing_paid,  # noqa: F401  for every test of this module
    pay,
)


def test_awaiting_anything_but_ctx_is_refused_and_names_the_line(database: Database) -> None:
    """An await that no record holds can't be replayed."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.agent
            async def sleeper(ctx: ae.Context) -> None:
                await asyncio.sleep(0)

            await system.start_worker([sleeper])
            record = await done(system, sleeper)
            error = record.value(record.events[-1], "error")
            assert record.row.status is JobStatus.FAILED
            assert error["kind"] == "Refused"
            line = sleeper.fn.__code__.co_firstlineno + 2
            assert f"{__file__}:{line} awaits something other than ctx" in error["message"]

    run(work)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "set", "object"])
def test_a_result_that_can_not_be_stored_is_recorded_and_never_run_again(database: Database, value: object) -> None:
    """The effect happened: that must be on record, whatever the tool returned."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.tool
            async def odd() -> Any:
                EFFECTS.append("odd")
                return value

            @ae.agent
            async def asker(ctx: ae.Context) -> None:
                await ctx.call(odd)

            await system.start_worker([asker])
            record = await done(system, asker)
            assert record.row.status is JobStatus.FAILED
            assert EFFECTS == ["odd"]
            assert record.ledger[-1].status == "committed"
            assert "can't be stored" in record.value(record.events[-1], "error")["message"]

    run(work)


def test_code_that_changed_under_a_job_parks_it_and_says_where(database: Database) -> None:
    """Going on with other code would make a record of something that nobody wrote."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            version = [1]

            @ae.agent
            async def changing(ctx: ae.Context) -> None:
                if version[0] == 1:
                    await ctx.call(pay, what="old")
                else:
                    await ctx.call(look, n=1)
                await ctx.wait_signal("go")

            await system.start_worker([changing], ae.Settings(poll_seconds=0.1))
            job = await system.submit(changing)
            await at_rest(system, job, "signal go")
            version[0] = 2
            await system.operator.signal(job, "go")
            record = await at_rest(system, job, "other code")
            reason = record.events[-1].data["reason"]
            assert record.row.status is JobStatus.PARKED
            assert "step 1: the record holds tool pay" in reason
            assert "the code asks for tool look" in reason

    run(work)


def test_other_arguments_at_the_same_place_diverge(database: Database) -> None:
    """Recomputed under the stored salt: arguments are compared without being kept in the open."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            what = ["first"]

            @ae.agent
            async def changing(ctx: ae.Context) -> None:
                await ctx.call(pay, what=what[0])
                await ctx.wait_signal("go")

            await system.start_worker([changing], ae.Settings(poll_seconds=0.1))
            job = await system.submit(changing)
            await at_rest(system, job, "signal go")
            what[0] = "second"
            await system.operator.signal(job, "go")
            reason = (await at_rest(system, job, "other code")).events[-1].data["reason"]
            assert "with other arguments" in reason

    run(work)
