"""`ctx`: the only way for a job's code to reach the world, wait, or learn something new.

What a job calls gets its step number when it is called, in program order, so
the same code makes the same steps in every run. Nothing begins until it is
awaited.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aetheris.domain.errors import Refused
from aetheris.runtime.steps import CheckpointStep, Step, TimerStep, ToolStep
from aetheris.runtime.tools import Tool
from aetheris.runtime.trampoline import Gather, Waitable

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine


class _Shared:
    """What both forms of ctx offer without waiting."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def job(self) -> str:
        """The job's id."""
        return self._engine.job

    @property
    def tenant(self) -> str:
        """The tenant that the job belongs to."""
        return self._engine.tenant

    def now(self) -> datetime:
        """Return the time of the last thing delivered to this job, UTC: the same in every replay.

        It stands still while the code computes; it moves with each await.
        """
        return datetime.fromtimestamp(self._engine.now_us / 1e6, UTC)

    def random(self) -> float:
        """Return a number from 0 to below 1 by the operating system, recorded: the same in every replay."""
        return self._engine.random()


class Context(_Shared):
    """The ctx of an `async def` agent."""

    def call(self, tool: Tool[Any, Any], /, **arguments: Any) -> Step:
        """Return the call of `tool`; await it for its result.

        Errors: Refused at once for arguments that don't validate; where it is
        awaited, ToolFailed when the tool raised.
        """
        return self._engine.make(ToolStep, tool, arguments)

    def gather(
        self, *parts: Waitable[Any] | Coroutine[Any, Any, Any], return_exceptions: bool = False
    ) -> Waitable[list[Any]]:
        """Return all results in order once every part is through; parts run concurrently.

        A part is anything ctx returned, or a coroutine that awaits only such.
        If parts failed, the first in order raises, after all are through.
        """
        return Gather([self._engine.part(p) for p in parts], keep_errors=return_exceptions)

    def sleep(self, duration: timedelta | float) -> Step:
        """Wait for `duration` (or seconds) by the database's clock; workers may come and go meanwhile."""
        return self._engine.make(TimerStep, seconds(duration))

    def checkpoint(self, state: Any) -> Step:
        """Record `state` as a resume point: from here on the code starts anew as fn(ctx, state).

        Nothing earlier is read again. Refused while other steps are under way.
        """
        return self._engine.make(CheckpointStep, state)


class SyncContext(_Shared):
    """The ctx of a plain `def` agent, which runs in a thread: calls return results."""

    def call(self, tool: Tool[Any, Any], /, **arguments: Any) -> Any:
        """Call `tool` and return its result. Errors: Refused, ToolFailed."""
        return self._engine.block_on(self._engine.make(ToolStep, tool, arguments))

    def start(self, tool: Tool[Any, Any], /, **arguments: Any) -> Step:
        """Return a call for `gather`; nothing begins yet."""
        return self._engine.make(ToolStep, tool, arguments)

    def gather(self, *parts: Waitable[Any], return_exceptions: bool = False) -> list[Any]:
        """Run what `start` returned concurrently and return the results in order."""
        return list(self._engine.block_on(Gather([self._engine.part(p) for p in parts], keep_errors=return_exceptions)))

    def sleep(self, duration: timedelta | float) -> None:
        """Wait for `duration` (or seconds), durably."""
        self._engine.block_on(self._engine.make(TimerStep, seconds(duration)))

    def checkpoint(self, state: Any) -> None:
        """Record `state` as a resume point, as `Context.checkpoint` does."""
        self._engine.block_on(self._engine.make(CheckpointStep, state))


def seconds(duration: timedelta | float) -> float:
    """Return a duration in seconds. Errors: Refused when negative or beyond a century."""
    value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= value <= 100 * 366 * 86_400:
        raise Refused(f"can't sleep for {value:g} seconds: from 0 to a century")
    return value
