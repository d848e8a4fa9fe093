"""Steps that wait for something from outside: time, a signal, a person, a child job."""

from __future__ import annotations

from typing import Any

from aetheris.domain.encode import body_bytes
from aetheris.domain.events import Event
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Approval, ChildFailed, Expired
from aetheris.runtime.history import History
from aetheris.runtime.steps import Step, other_cell

Bodies = list[tuple[str, bytes]]
#: A yes counts by when it was sent. From there to the worker that holds the job it takes a few milliseconds.
ANSWER_ON_ITS_WAY_US = 250_000


class WaitStep(Step):
    """A step whose resolution the runtime waits for, without a call of its own.

    `asked` is the event that begins the wait; `expire_type`, where the wait
    may end by the clock, the event that then ends it.
    """

    __slots__ = ("seconds", "until_us")
    asked = "job_waiting"
    expire_type = "wait_completed"
    #: So long after its end an answer that was sent before may still come.
    on_its_way_us = 0

    def __init__(self, step: int, label: str, seconds: float | None) -> None:
        super().__init__(step, label)
        self.seconds = seconds
        self.until_us: int | None = None  # None: no end by the clock, or not yet written

    @property
    def waits_for(self) -> str:
        """What it waits for, in words that stand in a list of jobs."""
        return self.label

    def request(self, until_us: int | None) -> tuple[dict[str, Any], Bodies]:
        """Return data and cells of the event that begins the wait."""
        raise NotImplementedError

    def expiry(self) -> dict[str, Any]:
        """Return the data of the event that ends the wait by the clock."""
        return {}

    def check(self, event: Event, history: History) -> None:
        """Also compares what is waited for with the record."""
        super().check(event, history)
        if event.type != self.asked:
            return
        data, bodies = self.request(None)
        same = all(event.data.get(key) == value for key, value in data.items())
        if not same or other_cell(event, bodies, history):
            raise self._diverged(f"{history.describe(event)} for something else")


class TimerStep(WaitStep):
    """A durable sleep."""

    __slots__ = ()
    types = frozenset({"job_waiting", "timer_fired"})
    expire_type = "timer_fired"

    def __init__(self, step: int, seconds: float) -> None:
        super().__init__(step, f"sleep {seconds:g} s", seconds)

    @property
    def waits_for(self) -> str:
        """Time."""
        return "time"

    def request(self, until_us: int | None) -> tuple[dict[str, Any], Bodies]:
        """The deadline is computed once, and recorded."""
        return {"wait_type": "timer", **_until(until_us)}, []

    def settle(self, event: Event, history: History) -> None:
        """The time has come."""
        self.resolve()


class SignalStep(WaitStep):
    """A wait for a signal by its key."""

    __slots__ = ("key",)
    types = frozenset({"job_waiting", "wait_completed"})

    def __init__(self, step: int, key: str, seconds: float | None) -> None:
        super().__init__(step, f"signal {key}", seconds)
        self.key = key

    def request(self, until_us: int | None) -> tuple[dict[str, Any], Bodies]:
        """The key stands in the open."""
        return {"correlation_key": self.key, "wait_type": "signal", **_until(until_us)}, []

    def expiry(self) -> dict[str, Any]:
        """No signal came."""
        return {"correlation_key": self.key, "expired": True}

    def settle(self, event: Event, history: History) -> None:
        """Deliver the payload, which stands with the event that received it."""
        received = history.received.get(self.key)
        if event.data.get("expired") or received is None:
            self.resolve(error=Expired(f"no signal {self.key!r} came in time"))
        else:
            self.resolve(history.value(received, "payload"))


class ApprovalStep(WaitStep):
    """A wait for a person's yes or no."""

    __slots__ = ("role", "title")
    types = frozenset({"approval_requested", "approval_completed"})
    asked = "approval_requested"
    expire_type = "approval_completed"
    on_its_way_us = ANSWER_ON_ITS_WAY_US

    def __init__(self, step: int, title: str, role: str | None, seconds: float | None) -> None:
        super().__init__(step, f"approval {step}", seconds)
        self.title, self.role = title, role

    def request(self, until_us: int | None) -> tuple[dict[str, Any], Bodies]:
        """The title may be sensitive: it is a cell."""
        data = {
            "approver_type": "role" if self.role else "anyone",
            "correlation_key": approval_key(self.step),
            **({"role": self.role} if self.role else {}),
            **_until(until_us),
        }
        return data, [("title", body_bytes(self.title))]

    def expiry(self) -> dict[str, Any]:
        """Nobody answered."""
        return {"correlation_key": approval_key(self.step), "decision": "expired"}

    def settle(self, event: Event, history: History) -> None:
        """Deliver who said what, and why."""
        decision = event.data["decision"]
        why = history.value(event, "why")
        by = "" if decision == "expired" else event.by
        self.resolve(Approval(decision == "approved", by, str(why or ""), expired=decision == "expired"))


class ChildStep(WaitStep):
    """A child job, from its submission to its end."""

    __slots__ = ("agent", "child", "child_left", "value")
    types = frozenset({"child_requested", "child_completed"})
    asked = "child_requested"

    def __init__(self, step: int, agent: Agent, value: Any) -> None:
        super().__init__(step, f"child {agent.name}", None)
        self.agent, self.value = agent, value
        if agent.takes_input:
            agent.input_cells(value)  # refused here, in the code's own line, rather than at its submission
        self.child = ""  # its id, minted when the request is recorded
        self.child_left = False  # it has run long enough for the parent to go

    def request(self, until_us: int | None) -> tuple[dict[str, Any], Bodies]:
        """Which agent; the id of the child is added by the engine."""
        return {"agent": self.agent.name}, []

    def settle(self, event: Event, history: History) -> None:
        """Deliver the child's result, or raise how it ended."""
        erased = event.data.get("erased")  # before this job took it: nothing is put in its place
        if event.data["status"] == "completed" and not erased:
            self.resolve(self.agent.result_value(history.value(event, "result")))
            return
        error = history.value(event, "error") or {}
        message = "what it left was erased" if erased else str(error.get("message", ""))
        self.resolve(error=ChildFailed(event.data["child"], event.data["status"], message))


def approval_key(step: int) -> str:
    """Return the correlation key of the approval that a step asks for."""
    return f"approval/{step}"


def _until(until_us: int | None) -> dict[str, int]:
    return {} if until_us is None else {"expires_at": until_us}
