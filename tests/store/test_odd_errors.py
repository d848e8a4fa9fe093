"""Errors of a user's code that are no Exception end the job or the call that raised them, and nothing else."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Callable
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.ending import ending_of
from aetheris.runtime.foreign import by_signal
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, ended, run


class Own(BaseException):
    """A user's own, of no kind that anybody knows."""


ODD: list[type[BaseException]] = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    pytest.fail.Exception,
    Own,
]


def _raise(kind: str) -> None:
    raise next(odd for odd in ODD if odd.__name__ == kind)("out")


@ae.agent
async def raises_odd(ctx: ae.Context, kind: str) -> None:
    """End so, and in a fiber of its own before."""

    async def part() -> None:
        _raise(kind)

    await ctx.gather(part())


@ae.agent
def raises_odd_in_thread(ctx: ae.SyncContext, kind: str) -> None:
    """End so in a thread."""
    _raise(kind)


@ae.tool(effect="none")
async def odd_tool(kind: str) -> None:
    """Raise in the loop."""
    _raise(kind)


@ae.tool(effect="none")
def odd_tool_in_thread(kind: str) -> None:
    """Raise in a thread; next() of nothing, too."""
    if kind == "StopIteration":
        next(iter([]))
    _raise(kind)


@ae.agent
async def calls_odd(ctx: ae.Context, kind: str) -> list[str]:
    """Return what the tools' ends are called."""
    kinds = []
    for tool in (odd_tool, odd_tool_in_thread) if kind != "StopIteration" else (odd_tool_in_thread,):
        try:
            await ctx.call(tool, kind=kind)
        except ae.ToolFailed as error:
            kinds.append(error.kind)
    return kinds


def test_no_error_of_a_users_code_makes_its_job_go_round(database: Database) -> None:
    """Whatever it is: the job fails by its name, a tool's call fails so, and the worker lives on."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([raises_odd, raises_odd_in_thread, calls_odd], FAST)
            for kind in (odd.__name__ for odd in ODD):
                for agent in (raises_odd, raises_odd_in_thread):
                    record = await ended(system, await system.submit(agent, kind))
                    error = ending_of(record).error
                    assert error is not None
                    assert (record.row.status, error["kind"], error["message"]) == (JobStatus.FAILED, kind, "out")
                    assert record.row.epoch == 1
                    assert (await replay(agent, record)).same
                assert (await ended(system, await system.submit(calls_odd, kind))).result() == [kind, kind]
            assert (await ended(system, await system.submit(calls_odd, "StopIteration"))).result() == ["RuntimeError"]
            assert not system._workers[worker].done()

    run(work)


def test_a_ctrl_c_is_not_what_the_code_it_met_raised() -> None:
    """It ends the process, as asyncio's handler or Python's own has it; the job goes on elsewhere."""

    def met(handler: Callable[..., Any]) -> bool:
        before = signal.signal(signal.SIGINT, handler)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            return by_signal(error)
        finally:
            signal.signal(signal.SIGINT, before)
        return False

    def rude(*_: Any) -> None:
        raise KeyboardInterrupt

    def raised_itself(*_: Any) -> bool:
        before = signal.signal(signal.SIGINT, rude)
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            return by_signal(error)
        finally:
            signal.signal(signal.SIGINT, before)

    assert met(signal.default_int_handler)
    assert met(functools.partial(rude, 1))
    assert not raised_itself()


def test_a_once_tool_that_was_cut_off_is_in_doubt(database: Database) -> None:
    """What it awaited was cancelled, not the tool: whether the effect happened, nobody here knows."""

    @ae.tool
    async def cut_off() -> None:
        raise asyncio.CancelledError

    @ae.agent
    async def pays(ctx: ae.Context) -> None:
        await ctx.call(cut_off)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([pays], FAST)
            record = await at_rest(system, await system.submit(pays), "doubt 1 cut_off")
            assert record.row.status is JobStatus.PARKED

    run(work)
