"""The engine of one job under one lease: replay its record, then go on live.

Replay and live are one loop: take the next resolution, deliver it, let the code
run until it waits. In replay the resolutions are the record's, in the order of
`seq`; afterwards they are what tools and timers bring, each written to the log
first and delivered in the order in which it was written. So what the code sees
is the same either way.

Only one side runs at a time: the event loop, or the thread of a plain `def`
job, which gets recorded results without leaving its thread and hands over to
the loop (`block_on`) for whatever is new.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import Diverged, Refused
from aetheris.domain.events import Event
from aetheris.runtime import metrics
from aetheris.runtime.agents import Agent
from aetheris.runtime.calls import Doubt, run_call
from aetheris.runtime.context import Context, SyncContext
from aetheris.runtime.history import History
from aetheris.runtime.joblog import JobLog
from aetheris.runtime.limiter import Limiter
from aetheris.runtime.steps import CheckpointStep, Step, TimerStep, ToolStep
from aetheris.runtime.threaded import JobThread
from aetheris.runtime.trampoline import Trampoline, Waitable

S = TypeVar("S", bound=Step)

#: A job that only sleeps, for longer than this, gives its worker back.
RELEASE_SLEEP_SECONDS = 1.0


class Suspended(Exception):
    """The job gives its worker back until `wake_at_us` (0: until someone tells it)."""

    def __init__(self, wake_at_us: int, reason: str = "", *, handing_over: bool = False) -> None:
        self.wake_at_us, self.reason, self.handing_over = wake_at_us, reason, handing_over


class Engine:
    """Drives one job's code. `drive` returns its result, or raises what ended it."""

    def __init__(self, agent: Agent, history: History, log: JobLog, *, leased_at: int, limiter: Limiter) -> None:
        self.agent, self.history, self.log, self.limiter = agent, history, log, limiter
        self.tenant, self.job = log.tenant, log.job
        checkpoint = history.checkpoint
        self.now_us = checkpoint.at if checkpoint else history.first_leased_at or leased_at
        self._next_step = checkpoint.step if checkpoint else 0
        self._trampoline = Trampoline(self._started)
        self._waiting: dict[int, Step] = {}
        self._tasks: dict[asyncio.Task[None], Step] = {}
        self._arrived: deque[tuple[Step, Event, list[tuple[str, bytes]]]] = deque()
        self._doubts: list[Doubt] = []
        self._failure: BaseException | None = None
        self._wake = asyncio.Event()
        self._live = False
        self._draining = False
        self._thread: JobThread | None = None

    # What ctx calls.

    def make(self, kind: Callable[..., S], *args: Any) -> S:
        """Return a new step under the next number. Its number is spent even if it is never awaited."""
        self._next_step += 1
        return kind(self._next_step, *args)

    def part(self, part: Waitable[Any] | Coroutine[Any, Any, Any]) -> Waitable[Any]:
        """Return what `gather` may wait for; a coroutine becomes a fiber of its own."""
        if isinstance(part, Waitable):
            return part
        if self._thread is None and isinstance(part, Coroutine):
            return self._trampoline.spawn(part, "gather")
        raise Refused(f"gather takes what ctx returned, not {type(part).__name__}")

    def random(self) -> float:
        """Return the recorded number of this step, or record a new one."""
        self._next_step += 1
        step = self._next_step
        recorded = self.history.randoms.get(step)
        if recorded is not None:
            return int(self.history.value(recorded, "value")) / 2**53
        if self.history.resolutions:
            raise _diverged(self.history.resolutions[0], "the code asks for a random number", "random")
        number = secrets.randbits(53)
        self._write(lambda: self.log.emit("random_recorded", step=step, bodies=[("value", body_bytes(number))]))
        return number / 2**53

    def block_on(self, waited: Waitable[Any]) -> Any:
        """Wait in the thread of a `def` job. Recorded results are delivered right here, without a hop."""
        assert self._thread is not None
        if not self._live:
            self._trampoline.begin(waited)
            while not waited.done and self.history.resolutions:
                self._deliver_recorded()
        if not waited.done:
            self._thread.hand_over(lambda: self._until(waited))
        return waited.outcome()

    # What the worker calls.

    async def drive(self) -> Any:
        """Run the job until it returns, and return its result.

        Errors: what the code raised; Suspended; Diverged; Lost and Conflict
        when the lease is gone.
        """
        try:
            if self.agent.is_async:
                root = self._trampoline.spawn(self.agent.fn(Context(self), *self._input()), self.agent.name)
                await self._until(root)
                result = root.outcome()
            else:
                self._thread = JobThread(lambda: self.agent.fn(SyncContext(self), *self._input()), self.agent.name)
                result = await self._thread.drive()
            if self.history.resolutions:
                raise _diverged(self.history.resolutions[0], "the code has ended", "the end")
            return result
        finally:
            await self._stop()

    # What calls and timers report.

    def arrived(self, step: Step, event: Event, bodies: list[tuple[str, bytes]]) -> None:
        """Queue a resolution that has just been written to the log."""
        self._arrived.append((step, event, bodies))
        self._wake.set()

    def doubt(self, doubt: Doubt) -> None:
        """Note that a call's outcome is unknown: the job parks once nothing else is under way."""
        self._doubts.append(doubt)
        self._wake.set()

    def drain(self) -> None:
        """Give the worker back as soon as no call is under way."""
        self._draining = True
        self._wake.set()

    def now_of_log(self) -> int:
        """The database's time as this worker knows it, microseconds."""
        return self.log.clock.now_us()

    def _input(self) -> tuple[Any, ...]:
        """Return what the code starts with: the job's input, or the state of its last checkpoint."""
        if not self.agent.takes_input:
            return ()
        event, name = self.history.genesis, "input"
        if self.history.checkpoint is not None:
            event, name = self.history.checkpoint, "state"
        cell = self.history.cells.get((event.seq, name))
        if cell is None or cell.body is None:
            raise Refused(f"the job's {name} was erased: it can't go on")
        return (self.agent.input_value(self.history.value(event, name)),)

    # The loop of replay and live.

    async def _until(self, waited: Waitable[Any]) -> None:
        self._trampoline.run()
        self._trampoline.begin(waited)
        while not waited.done:
            if self._failure is not None:
                raise self._failure
            if self.history.resolutions:
                self._deliver_recorded()
            elif not self._live:
                self._live = True
                for step in list(self._waiting.values()):
                    self._launch(step)
            elif self._draining:
                # What is under way ends and is recorded; nothing new begins. The next holder delivers it.
                if not self._calls_under_way():
                    raise Suspended(self.now_of_log(), handing_over=True)
                await self._woken()
            elif self._arrived:
                self._deliver_arrived()
            else:
                await self._idle()

    def _deliver_recorded(self) -> None:
        event = self.history.resolutions.popleft()
        step = self._waiting.pop(event.step, None)
        if step is None:
            raise _diverged(event, "the code doesn't wait for it", "nothing")
        self._compare(step, event)
        if isinstance(step, ToolStep):
            metrics.tool_restored(self.tenant, step.tool.name)
        self._settle(step, event)

    def _deliver_arrived(self) -> None:
        step, event, bodies = self._arrived.popleft()
        del self._waiting[step.step]
        self.history.remember(event, bodies)
        self._settle(step, event)
        self.history.forget(event)

    def _compare(self, step: Step, recorded: Event) -> None:
        """Return only if the step is the one on record, arguments included. Errors: Diverged."""
        step.check(recorded, self.history)
        asked = self.history.asked.get(step.step)
        if asked is not None and asked is not recorded:
            step.check(asked, self.history)

    def _settle(self, step: Step, event: Event) -> None:
        self.now_us = event.at
        step.settle(event, self.history)
        self._trampoline.run()

    def _started(self, waited: Waitable[Any]) -> None:
        if isinstance(waited, Step):
            self._waiting[waited.step] = waited
            if self._live:
                self._launch(waited)

    def _launch(self, step: Step) -> None:
        recorded = self.history.last_call.get(step.step) or self.history.timers.get(step.step)
        if recorded is not None:
            self._compare(step, recorded)
        if isinstance(step, CheckpointStep):
            self._checkpoint(step)
            return
        running = run_call(self, step, recorded) if isinstance(step, ToolStep) else self._sleep(step, recorded)
        task = asyncio.get_running_loop().create_task(running)
        self._tasks[task] = step
        task.add_done_callback(self._task_done)

    def _checkpoint(self, step: CheckpointStep) -> None:
        if len(self._waiting) > 1:
            raise Refused(f"step {step.step}: a checkpoint while other steps are under way; await them first")
        bodies = self.agent.state_cells(step.state)
        self.arrived(step, self.log.emit("state_checkpointed", step=step.step, bodies=bodies), bodies)

    async def _sleep(self, step: Step, recorded: Event | None) -> None:
        assert isinstance(step, TimerStep)
        if recorded is None:
            step.until_us = self.now_of_log() + int(step.seconds * 1e6)
            data = {"wait_type": "timer", "expires_at": step.until_us}
            self.log.emit("job_waiting", step=step.step, data=data)
        else:
            step.until_us = int(recorded.data["expires_at"])
        self._wake.set()
        while (left := step.until_us - self.now_of_log()) > 0:
            await asyncio.sleep(left / 1e6)
        self.arrived(step, self.log.emit("timer_fired", step=step.step), [])

    async def _idle(self) -> None:
        """Wait until something arrives. Errors: Suspended when the job should give its worker back."""
        timers = [step.until_us for step in self._tasks.values() if isinstance(step, TimerStep)]
        if len(timers) == len(self._tasks) and 0 not in timers:
            if self._doubts:
                raise Suspended(0, f"step {self._doubts[0].step} {self._doubts[0].tool}: {self._doubts[0].reason}")
            if not timers:
                raise Refused("the job waits for something that nothing will bring")
            if min(timers) - self.now_of_log() > RELEASE_SLEEP_SECONDS * 1e6:
                raise Suspended(min(timers))
        await self._woken()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _calls_under_way(self) -> bool:
        return any(isinstance(step, ToolStep) for step in self._tasks.values())

    def _task_done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
        self._wake.set()

    def _write(self, emit: Callable[[], Any]) -> None:
        # The log belongs to the loop: a job's thread must not write while the journal takes.
        if self._thread is None:
            emit()
            return

        async def in_loop() -> None:
            emit()

        self._thread.hand_over(in_loop)

    async def _stop(self) -> None:
        if self._thread is not None:
            self._thread.abandon()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _diverged(recorded: Event, says: str, actual: str) -> Diverged:
    name = History.describe(recorded)
    return Diverged(
        f"step {recorded.step}: the record holds {name}, {says}", step=recorded.step, recorded=name, actual=actual
    )
