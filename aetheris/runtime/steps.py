"""Steps: what a job's code asked for, what its record says of them, and how the two are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from aetheris.domain.cells import commitment
from aetheris.domain.errors import Diverged, Refused
from aetheris.domain.events import Event
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Continued
from aetheris.runtime.history import History
from aetheris.runtime.packed import AS_RECORDED
from aetheris.runtime.tools import Tool, ToolFailed
from aetheris.runtime.trampoline import Waitable


class Step(Waitable[Any]):
    """One thing that a job asked of ctx, numbered in program order from 1."""

    __slots__ = ("step", "where")
    #: The types of events that may stand in the record under this kind of step.
    types: ClassVar[frozenset[str]]

    def __init__(self, step: int, label: str) -> None:
        super().__init__(label)
        self.step = step
        self.where: tuple[str, int] | None = None  # file and line of the job's code that asked

    def check(self, event: Event, history: History) -> None:
        """Return only if the recorded `event` is one of this step. Errors: Diverged."""
        if event.type not in self.types:
            raise self._diverged(history.describe(event))

    def settle(self, event: Event, history: History) -> None:
        """Resolve as the recorded or just written `event` says."""
        raise NotImplementedError

    def _diverged(self, recorded: str) -> Diverged:
        at = f" at {self.where[0]}:{self.where[1]}" if self.where else ""
        return Diverged(
            f"step {self.step}: the record holds {recorded}, the code asks for {self.label}{at}",
            step=self.step,
            recorded=recorded,
            actual=self.label,
        )


class ToolStep(Step):
    """A call of a tool."""

    __slots__ = ("arguments", "begun", "bodies", "resting", "tool")
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
        if not isinstance(tool, Tool):
            raise Refused(f"{tool!r} is no tool: call what @aetheris.tool declared, not its name or its function")
        super().__init__(step, f"tool {tool.name}")
        self.tool = tool
        self.begun = False  # here and now: it waits for no turn any more
        self.resting = False  # between two attempts
        self.arguments, self.bodies = tool.bind(arguments)

    def check(self, event: Event, history: History) -> None:
        """Also compares tool, effect and arguments: by commitment under the stored salt."""
        super().check(event, history)
        if event.data["tool_name"] != self.tool.name or event.data["effect"] != self.tool.effect:
            raise self._diverged(history.describe(event))
        if "args" not in event.cells:
            return
        given = [(name, body) for name, body in self.bodies if _is_argument(name)]
        if {name for name in event.cells if _is_argument(name)} != {name for name, _ in given}:
            raise self._diverged(f"{history.describe(event)} with other arguments")
        if other := other_cell(event, given, history):
            raise self._diverged(f"{history.describe(event)} with other arguments ({other})")

    def settle(self, event: Event, history: History) -> None:
        """Deliver the result, or raise what the tool raised."""
        outcome = event.data["outcome"]
        if outcome in ("success", "done") and "unstorable" not in event.data:
            self.resolve(self.delivered(self.tool.result_value(history.value(event, "result"))))
        else:
            error = history.value(event, "error") or {}
            self.resolve(error=ToolFailed(self.tool.name, error.get("kind", outcome), error.get("message", "")))

    def delivered(self, value: Any) -> Any:
        """Return what the code gets for a result as it is stored."""
        return value


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


class ContinueStep(Step):
    """The end of this run, and the state with which the next begins."""

    __slots__ = ("bodies", "state", "told")
    types = frozenset({"run_continued"})

    def __init__(self, step: int, agent: Agent, state: Any) -> None:
        super().__init__(step, "continue as new")
        self.state, self.bodies = state, agent.state_cells(state)
        self.told: Event | None = None  # the event that names the next run, once it is delivered

    def check(self, event: Event, history: History) -> None:
        """Also compares the state."""
        super().check(event, history)
        if other_cell(event, self.bodies, history):
            raise self._diverged(f"{history.describe(event)} with another state")

    def settle(self, event: Event, history: History) -> None:
        """The code of this run ends here."""
        self.told = event
        self.resolve(error=Continued(event.data["continued_as"]))


def _is_argument(cell: str) -> bool:
    return cell == "args" or cell.startswith("args/")


def other_cell(event: Event, bodies: Sequence[tuple[str, bytes]], history: History) -> str:
    """Return the name of the first of `bodies` that is not what `event` committed to, under the stored salt; or ""."""
    for name, body in bodies:
        cell = history.cells.get((event.seq, name))
        # An erased cell has no salt left to compare under: the commitment alone proves nothing.
        if cell is None or cell.salt is None:
            continue
        if cell.salt == AS_RECORDED:  # of a sound snapshot
            if cell.body != body:
                return name
        elif commitment(history.job, event.seq, name, cell.salt, body).hex() != event.cells[name]:
            return name
    return ""


def diverged(recorded: Sequence[Event], says: str, actual: str, step: int = 0) -> Diverged:
    """Return the error for a record that holds what the code does not ask for."""
    name = History.describe(recorded[0]) if recorded else "another step"
    number = recorded[0].step if recorded else step
    return Diverged(f"step {number}: the record holds {name}, {says}", step=number, recorded=name, actual=actual)
