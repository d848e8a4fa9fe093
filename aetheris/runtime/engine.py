"""The engine of one job under one lease: replay its record, then go on live.

Replay and live are one loop: take the next resolution, deliver it, let the code
run until it waits. In replay the resolutions are the record's, in the order of
`seq`; afterwards they are what tools, timers and the inbox bring, each written
to the log first and delivered in the order in which it was written. So what
the code sees is the same either way.

Only one side runs at a time: the event loop, or the thread of a plain `def`
job, which gets recorded results without leaving its thread and hands over to
the loop (`block_on`) for whatever is new.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import Conflict, Diverged, Lost, Refused
from aetheris.domain.events import Event
from aetheris.runtime import confirm, metrics
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Abandoned, Cancelled, Continued
from aetheris.runtime.children import Children
from aetheris.runtime.context import Context, SyncContext
from aetheris.runtime.foreign import passable
from aetheris.runtime.history import History
from aetheris.runtime.joblog import JobLog
from aetheris.runtime.limiter import Limiter
from aetheris.runtime.llm.model import Models
from aetheris.runtime.rest import Doubt, Suspended, rest_of
from aetheris.runtime.steps import CheckpointStep, ContinueStep, Step, ToolStep, diverged
from aetheris.runtime.threaded import JobThread
from aetheris.runtime.trampoline import Fiber, Trampoline, Waitable
from aetheris.runtime.underway import UnderWay
from aetheris.runtime.waits import WaitStep

S = TypeVar("S", bound=Step)


class Engine:
    """Drives one job's code. `drive` returns its result, or raises what ended it."""

    def __init__(
        self,
        agent: Agent,
        history: History,
        log: JobLog,
        *,
        leased_at: int,
        limiter: Limiter,
        children: Children | None = None,
        models: Models | None = None,
        read_only: bool = False,
        checkpointed: Callable[[], None] = lambda: None,
    ) -> None:
        self.checkpointed = checkpointed
        #: A replay without the world: where the record ends, the log refuses, and nothing begins.
        self.read_only = read_only
        self.agent, self.history, self.log, self.limiter = agent, history, log, limiter
        self.tenant, self.job, self.models = log.tenant, log.job, models or Models()
        checkpoint = history.checkpoint
        self.now_us = checkpoint.at if checkpoint else history.first_leased_at or leased_at
        self.doubts: dict[int, Doubt] = {}
        self.resting = False  # once true, what comes is for whoever holds the job next
        self.underway = UnderWay(self, children)
        self.cancelled: Cancelled | None = None
        #: The last step of a run that goes on as another, once it is delivered.
        self.continued: ContinueStep | None = None
        #: The number of the last step that the code asked for.
        self.last_step = checkpoint.step if checkpoint else 0
        self._trampoline = Trampoline(self._started)
        self._root: Fiber | None = None
        self._waiting: dict[int, Step] = {}
        self._patches: dict[str, bool] = {}
        self._interrupt: Cancelled | None = None
        self._wake = asyncio.Event()
        self._live = self._draining = self._over = False
        self._thread: JobThread | None = None

    # What ctx calls.

    def make(self, kind: Callable[..., S], *args: Any) -> S:
        """Return a new step under the next number. Its number is spent even if it is never awaited."""
        if self._over:
            raise Abandoned
        if self.continued is not None:
            self.continued.outcome()
        self.last_step += 1
        step = kind(self.last_step, *args)
        frame = sys._getframe(2)  # whoever called ctx
        step.where = frame.f_code.co_filename, frame.f_lineno
        return step

    def part(self, part: Waitable[Any] | Coroutine[Any, Any, Any]) -> Waitable[Any]:
        """Return what `gather` may wait for; a coroutine becomes a fiber of its own."""
        if isinstance(part, Waitable):
            return part
        if self._thread is None and isinstance(part, Coroutine):
            return self._trampoline.spawn(part, "gather")
        raise Refused(f"gather takes what ctx returned, not {type(part).__name__}")

    def random(self) -> float:
        """Return the recorded number of this step, or record a new one."""
        self.last_step += 1
        step = self.last_step
        recorded = self.history.randoms.get(step)
        if recorded is not None:
            return int(self.history.value(recorded, "value")) / 2**53
        if not self.history.fresh(step - 1):
            raise diverged(self.history.next(), "the code asks for a random number", "random", step)
        number = secrets.randbits(53)
        self._write(lambda: self.log.emit("random_recorded", step=step, bodies=[("value", body_bytes(number))]))
        return number / 2**53

    def patched(self, patch: str) -> bool:
        """Return whether this job takes the new way at `patch`: recorded at the first live pass."""
        known = self._patches.get(patch)
        if known is None:
            known = self._patches[patch] = patch in self.history.patches or self.history.fresh(self.last_step)
            if known and patch not in self.history.patches:
                self._write(lambda: self.log.emit("patch_recorded", data={"patch": patch}))
        return known

    def block_on(self, waited: Waitable[Any]) -> Any:
        """Wait in the thread of a `def` job. Recorded results are delivered right here, without a hop."""
        assert self._thread is not None
        if not self._live:
            self._trampoline.begin(waited)
            while not waited.done and self._interrupt is None and self._deliverable_here():
                self._deliver()
        if not waited.done and self._interrupt is None:
            self._thread.hand_over(lambda: self._until(waited))
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
            raise interrupt
        return waited.outcome()

    async def drive(self) -> Any:
        """Run the job until it returns, and return its result.

        Errors: what the code raised; Cancelled; Suspended; Diverged; Lost and Conflict when the lease is gone.
        """
        try:
            if self.history.cancel is not None and not self.history.last_step:
                self._take_interrupt(self.history.cancel)
                assert self.cancelled is not None
                raise self.cancelled  # nothing has begun: the code is not run at all
            try:
                result, error = await self._run_code(), None
            except (Suspended, Diverged, Lost, Conflict):
                raise
            except (Exception, SystemExit, Cancelled, Continued) as raised:  # noqa: BLE001  its own end, once nothing is open
                result, error = None, raised
            self._live = True
            if not self.read_only:
                await self.underway.settle(self._waiting)
            if self.doubts:
                raise Suspended.in_doubt(self.doubts)  # such a job can't end
            if self.continued is not None:
                self.continued.outcome()
            if error is not None:
                raise error
            return result
        except (Suspended, Diverged):
            self.resting = True
            raise
        finally:
            await self._stop()

    def drain(self) -> None:
        """Give the worker back as soon as no call is under way."""
        self._draining = True
        self._wake.set()

    def arrived(self, event: Event, bodies: list[tuple[str, bytes]]) -> None:
        """Queue what has just been written to the log; a resolution is delivered in its turn."""
        self.history.add(event, bodies)
        self._wake.set()

    def doubt(self, doubt: Doubt) -> None:
        """Note that a call's outcome is unknown: the job parks once nothing else is under way."""
        self.doubts[doubt.step] = doubt
        self._wake.set()

    def resolved(self, step: int, *, again: bool) -> None:
        """Note that a person ended a doubt; `again`: by saying that the attempt did not happen."""
        self.doubts.pop(step, None)
        if again and self._live and step in self._waiting:
            self._launch(self._waiting[step])
        self._wake.set()

    def look_again(self) -> None:
        """Ask anew whether the job has anything left to do here."""
        self._wake.set()

    def now_of_log(self) -> int:
        """The database's time as this worker knows it, microseconds."""
        return self.log.clock.now_us()

    # The loop of replay and live.

    async def _run_code(self) -> Any:
        values = self.history.start_values(self.agent)
        if self.agent.is_async:
            self._root = self._trampoline.spawn(self.agent.fn(Context(self), *values), self.agent.name)
            await self._until(self._root)
            result, error = self._root.settled()
        else:
            self._thread = JobThread(lambda: self.agent.fn(SyncContext(self), *values), self.agent.name)
            result, error = await self._thread.drive()
        if error is not None:
            raise passable(error)
        left = [e for e in self.history.resolutions.drain() if e.step not in self._waiting and e.step]
        if left:
            raise diverged(left, "the code has ended", "the end")
        return result

    async def _until(self, waited: Waitable[Any]) -> None:
        self._trampoline.run()
        self._trampoline.begin(waited)
        while not waited.done and self._interrupt is None:
            if self.underway.failure is not None:
                raise self.underway.failure
            if self._next_is_recorded():
                await confirm.recorded_result(self, self._waiting, self.history.resolutions.first)
                self._deliver()
            elif not self._live:
                self._go_live()
            elif rest := rest_of(self, draining=self._draining):
                raise rest
            elif self._draining or self.history.paused_by or not self.history.resolutions:
                await self._wake.wait()
                self._wake.clear()
            else:
                self._deliver()

    def _go_live(self) -> None:
        if self.read_only:
            for step in self._waiting.values():
                self._compare_begun(step)
            self.log.emit("")
        if self.history.paused_by:
            raise Suspended(0, f"paused by {self.history.paused_by}", waits_for="paused")
        self._live = True
        self.underway.watch_clock()
        if not self.history.resolutions:  # else its time was over already: nothing begins any more
            for step in list(self._waiting.values()):
                self._launch(step)

    def _next_is_recorded(self) -> bool:
        # What the inbox brought at the very start counts as on record: it precedes all that is new.
        queue = self.history.resolutions
        return bool(queue) and (not self._live or self.history.recorded(queue.first))

    def _deliverable_here(self) -> bool:
        queue = self.history.resolutions
        return bool(queue) and not confirm.wanted(self, self._waiting.get(queue.first.step), queue.first)

    def _deliver(self) -> None:
        event = self.history.resolutions.popleft()
        if event.type == "cancel_requested":
            self._take_interrupt(event)
            return
        step = self._waiting.pop(event.step, None)
        self.underway.over(event.step)
        if step is None:
            raise diverged([event], "the code doesn't wait for it", "nothing")
        if event.seq <= self.history.recorded_head:
            self._compare(step, event)
            if isinstance(step, ToolStep) and step.tool.kind == "tool" and not self.read_only:
                metrics.tool_restored(self.tenant, step.tool.name)
        elif (asked := self.history.asked.get(event.step)) is not None and asked.seq <= self.history.recorded_head:
            # The inbox ended what an earlier holder began, whose code may have been another.
            step.check(asked, self.history)
        self.now_us = event.at
        step.settle(event, self.history)
        if isinstance(step, ContinueStep):
            self.continued = step
        self.history.forget(event)
        self._trampoline.run()

    def _take_interrupt(self, event: Event) -> None:
        self.now_us = event.at
        self.cancelled = Cancelled(event.data["reason"], event.by)
        if self._root is not None:
            self._trampoline.throw(self._root, self.cancelled)
            self._trampoline.run()
        else:
            self._interrupt = self.cancelled

    def _compare(self, step: Step, recorded: Event) -> None:
        """Return only if the step is the one on record, arguments included. Errors: Diverged."""
        step.check(recorded, self.history)
        asked = self.history.asked.get(step.step)
        if asked is not None and asked is not recorded:
            step.check(asked, self.history)

    def _started(self, waited: Waitable[Any]) -> None:
        if isinstance(waited, Step):
            self._waiting[waited.step] = waited
            if self._live:
                self._launch(waited)

    def _compare_begun(self, step: Step) -> Event | None:
        recorded = self.history.last_call.get(step.step) or self.history.waits.get(step.step)
        if recorded is not None:
            self._compare(step, recorded)
        return recorded

    def _launch(self, step: Step) -> None:
        recorded = self._compare_begun(step)
        if isinstance(step, CheckpointStep | ContinueStep):
            self.underway.turn_over(step, alone=len(self._waiting) == 1)
        elif isinstance(step, WaitStep):
            self.underway.wait(step, recorded)
        elif isinstance(step, ToolStep):
            self.underway.call(step, recorded)

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
        self._over = True
        self._trampoline.abandon()
        await self.underway.stop()
