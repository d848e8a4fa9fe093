"""What a job has under way: calls, waits, children, and the alarms of the job itself.

Begun only once the job is live. Each reports what it wrote to the log through
`engine.arrived`; a task that fails ends the hold of the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from aetheris.domain.errors import AetherisError, Refused
from aetheris.domain.events import Event
from aetheris.runtime.calls import run_call
from aetheris.runtime.children import Children
from aetheris.runtime.rest import CANCEL_GRACE_SECONDS, Suspended
from aetheris.runtime.steps import CheckpointStep, ContinueStep, Step, ToolStep
from aetheris.runtime.waits import ChildStep, WaitStep

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine

#: A job whose worker lacks what a call needs is taken up again after this.
LACKING_AGAIN_SECONDS = 60.0
_IN_DOUBT = ("tool_invocation_started", "tool_invocation_unknown")


class UnderWay:
    """The running part of one engine. `failure` is what ended a task that should not have ended so."""

    def __init__(self, engine: Engine, children: Children | None) -> None:
        self._engine, self._history = engine, engine.history
        self._children = children
        self.tasks: dict[asyncio.Task[None], Step] = {}
        self.failure: BaseException | None = None
        self._waits: dict[int, asyncio.Task[None]] = {}
        self._alarms: list[asyncio.TimerHandle] = []

    @property
    def calling(self) -> bool:
        """True while a tool is being called."""
        return any(isinstance(step, ToolStep) for step in self.tasks.values())

    @property
    def resting(self) -> bool:
        """True while no tool is being called, though one may be called again after a while."""
        return all(step.resting for step in self.tasks.values() if isinstance(step, ToolStep))

    @property
    def grace_over(self) -> bool:
        """True when a cancelled job has had its time to clean up: nothing new begins."""
        cancel = self._history.cancel
        return cancel is not None and self._engine.now_of_log() > cancel.at + CANCEL_GRACE_SECONDS * 1e6

    def call(self, step: ToolStep, recorded: Event | None) -> None:
        """Begin a call, or go on with a recorded one."""
        if lacking := step.tool.lacking():
            # Another worker may have it, or this one after a restart: the job waits, and says for what.
            again = self._engine.now_of_log() + int(LACKING_AGAIN_SECONDS * 1e6)
            self.failure = Suspended(again, f"step {step.step}: {lacking}", waits_for=step.tool.name)
            self._engine.look_again()
        elif not self.grace_over:
            self._spawn(run_call(self._engine, step, recorded), step)

    def wait(self, step: WaitStep, recorded: Event | None) -> None:
        """Begin a wait, or go on with a recorded one."""
        if recorded is None:
            recorded = self._request(step)
        step.until_us = recorded.data.get("expires_at")
        key = recorded.data.get("correlation_key")
        received = self._history.received.get(key) if key is not None else None
        if received is not None and recorded.type == "job_waiting":
            data = {"correlation_key": key, "received_seq": received.seq}
            self._engine.arrived(self._engine.log.emit("wait_completed", step=step.step, data=data), [])
        elif isinstance(step, ChildStep):
            step.child = recorded.data["child"]
            self._waits[step.step] = self._spawn(self._children_here().run(self._engine, step), step)
        else:
            self._waits[step.step] = self._spawn(self._until(step), step)

    def over(self, step: int) -> None:
        """Let go of a wait that was answered."""
        if (task := self._waits.pop(step, None)) is not None:
            task.cancel()

    def turn_over(self, step: CheckpointStep | ContinueStep, *, alone: bool) -> None:
        """Write a checkpoint, or that the job goes on as a new run. Errors: Refused while others are under way."""
        engine = self._engine
        if not alone:
            raise Refused(f"step {step.step}: a {step.label} while other steps are under way; await them first")
        if isinstance(step, ContinueStep):
            if self._history.genesis.data.get("parent"):
                raise Refused("a child job can't continue as new: its parent waits for this run; let the parent loop")
            data, bodies = {"continued_as": self._children_here().mint()}, step.bodies
            engine.arrived(engine.log.emit("run_continued", step=step.step, data=data, bodies=bodies), bodies)
            return
        bodies = engine.agent.state_cells(step.state)
        engine.arrived(engine.log.emit("state_checkpointed", step=step.step, bodies=bodies), bodies)
        engine.checkpointed()

    def child_ended(self, child: str) -> None:
        """Look at once whether this child's end can be recorded."""
        if self._children is not None:
            self._children.ended(child)

    def watch_clock(self) -> None:
        """Set the alarms of the job itself: its deadline, and the end of a cancelled job's grace."""
        deadline = self._history.genesis.data.get("expires_at")
        if self._history.cancel is not None:
            over = self._history.cancel.at + int(CANCEL_GRACE_SECONDS * 1e6) + 10_000
            self._alarm(over, self._engine.look_again)
        elif deadline is not None:
            self._alarm(deadline, self._overdue)

    async def settle(self, waiting: Mapping[int, Step]) -> None:
        """Let open calls end, and look into those in doubt, so that nothing is left unsaid."""
        for step in waiting.values():
            last = self._history.last_call.get(step.step)
            known = step in self.tasks.values() or step.step in self._engine.doubts
            if last is None or known or not isinstance(step, ToolStep) or step.tool.effect != "once":
                continue
            if last.type in _IN_DOUBT:
                self._spawn(run_call(self._engine, step, last, recover_only=True), step)
        calls = []
        for task, step in self.tasks.items():
            if isinstance(step, ToolStep) and (step.begun or step.step in self._history.last_call):
                calls.append(task)
            else:
                task.cancel()  # it still waits for its turn: nothing of it has begun
        if calls:
            await asyncio.wait(calls)
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        """End all tasks and alarms."""
        for alarm in self._alarms:
            alarm.cancel()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _request(self, step: WaitStep) -> Event:
        engine = self._engine
        until_us = None if step.seconds is None else engine.now_of_log() + int(step.seconds * 1e6)
        data, bodies = step.request(until_us)
        if isinstance(step, ChildStep):
            data["child"] = self._children_here().mint()
        event = engine.log.emit(step.asked, step=step.step, data=data, bodies=bodies)
        engine.arrived(event, bodies)
        return event

    async def _until(self, step: WaitStep) -> None:
        while step.until_us is None:
            await asyncio.Event().wait()
        while (left := step.until_us + step.on_its_way_us - self._engine.now_of_log()) > 0:
            await asyncio.sleep(left / 1e6)
        if step.step in self._history.waits:  # else an answer came first
            event = self._engine.log.emit(step.expire_type, step=step.step, data=step.expiry())
            self._engine.arrived(event, [])

    def _alarm(self, at_us: int, ring: Any) -> None:
        wait_seconds = (at_us - self._engine.now_of_log()) / 1e6
        if wait_seconds <= 0:
            ring()
            return
        # The loop's clock can't wait for ever at once; a job that old is looked at again on its next wake.
        self._alarms.append(asyncio.get_running_loop().call_later(min(wait_seconds, 86_400.0), ring))

    def _overdue(self) -> None:
        engine = self._engine
        if self._history.cancel is None and engine.now_of_log() >= self._history.genesis.data["expires_at"]:
            try:
                engine.arrived(engine.log.emit("cancel_requested", data={"reason": "timeout"}, by="system"), [])
            except AetherisError as error:  # the log is over: so is this hold
                self.failure = error
                engine.look_again()
                return
        self.watch_clock()

    def _children_here(self) -> Children:
        if self._children is None:
            raise Refused("child jobs need a worker: there is none here")
        return self._children

    def _spawn(self, running: Coroutine[Any, Any, None], step: Step) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(running)
        self.tasks[task] = step
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()
        # While another call is under way the job has something to do here: what this one brought has woken it.
        if self.failure is not None or not self.calling:
            self._engine.look_again()
