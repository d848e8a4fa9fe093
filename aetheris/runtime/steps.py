"""Steps: what a job's code asked for, what its record says of them, and how the two are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aetheris.domain.cells import commitment
from aetheris.domain.errors import Diverged
from aetheris.domain.events import Event
from aetheris.runtime.tools import Tool, ToolFailed
from aetheris.runtime.trampoline import Waitable

if TYPE_CHECKING:
    from aetheris.runtime.history import History


class Step(Waitable[Any]):
    """One thing that a job asked of ctx, numbered in program order from 1."""

    __slots__ = ("step",)
    #: The types of events that may stand in the record under this kind of step.
    types: ClassVar[frozenset[str]]

    def __init__(self, step: int, label: str) -> None:
        super().__init__(label)
        self.step = step

    def check(self, event: Event, history: History) -> None:
        """Return only if the recorded `event` is one of this step. Errors: Diverged."""
        if event.type not in self.types:
            raise self._diverged(history.describe(event))

    def settle(self, event: Event, history: History) -> None:
        """Resolve as the recorded or just written `event` says."""
        raise NotImplementedError

    def _diverged(self, recorded: str) -> Diverged:
        return Diverged(
            f"step {self.step}: the record holds {recorded}, the code asks for {self.label}",
            step=self.step,
            recorded=recorded,
            actual=self.label,
        )


class ToolStep(Step):
    """A call of a tool."""

    __slots__ = ("arguments", "bodies", "tool")
    types = frozenset(
        {
            "tool_invocation_started",
            "tool_invocation_finished",
            "tool_invocation_unknown",
            "tool_invocation_confirmed",
            "tool_invocation_resolved",
            "tool_call_refused",
        }
    )

    def __init__(self, step: int, tool: Tool[Any, Any], arguments: dict[str, Any]) -> None:
        super().__init__(step, f"tool {tool.name}")
        self.tool = tool
        self.arguments, self.bodies = tool.bind(arguments)

    def check(self, event: Event, history: History) -> None:
        """Also compares tool, effect and arguments: by commitment under the stored salt."""
        super().check(event, history)
        if event.data["tool_name"] != self.tool.name or event.data["effect"] != self.tool.effect:
            raise self._diverged(history.describe(event))
        if "args" not in event.cells:
            return
        recorded = {name for name in event.cells if name == "args" or name.startswith("args/")}
        if recorded != {name for name, _ in self.bodies}:
            raise self._diverged(f"{history.describe(event)} with other arguments")
        for name, body in self.bodies:
            cell = history.cells.get((event.seq, name))
            # An erased cell has no salt left to compare under: the commitment alone proves nothing.
            if cell is None or cell.salt is None:
                continue
            if commitment(history.job, event.seq, name, cell.salt, body).hex() != event.cells[name]:
                raise self._diverged(f"{history.describe(event)} with other arguments ({name})")

    def settle(self, event: Event, history: History) -> None:
        """Deliver the result, or raise what the tool raised."""
        outcome = event.data["outcome"]
        if outcome in ("success", "done") and "unstorable" not in event.data:
            self.resolve(self.tool.result_value(history.value(event, "result")))
        else:
            error = history.value(event, "error") or {}
            self.resolve(error=ToolFailed(self.tool.name, error.get("kind", outcome), error.get("message", "")))


class TimerStep(Step):
    """A durable sleep."""

    __slots__ = ("seconds", "until_us")
    types = frozenset({"job_waiting", "timer_fired"})

    def __init__(self, step: int, seconds: float) -> None:
        super().__init__(step, f"sleep {seconds:g} s")
        self.seconds = seconds
        self.until_us = 0  # not known before the deadline is written

    def settle(self, event: Event, history: History) -> None:
        """The time has come."""
        self.resolve()


class CheckpointStep(Step):
    """A resume point."""

    __slots__ = ("state",)
    types = frozenset({"state_checkpointed"})

    def __init__(self, step: int, state: Any) -> None:
        super().__init__(step, "checkpoint")
        self.state = state

    def settle(self, event: Event, history: History) -> None:
        """It is recorded."""
        self.resolve()
