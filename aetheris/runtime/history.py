"""What a job's record says, indexed for replay: resolutions in order, starts, timers, values."""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from aetheris.domain import cells, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.events import Event
from aetheris.runtime.agents import Agent
from aetheris.store.history import Record

_RESOLVES = frozenset(
    {
        "tool_invocation_finished",
        "tool_call_refused",
        "timer_fired",
        "state_checkpointed",
        "wait_completed",
        "approval_completed",
        "child_completed",
        "cancel_requested",  # delivered to the job itself, in its place among the others
    }
)
#: They begin a wait that an event of _RESOLVES ends.
_WAITS = frozenset({"job_waiting", "approval_requested", "child_requested"})


class History:
    """One job's record. `resolutions` is consumed as the code is replayed against it."""

    def __init__(self, job: str, record: Record, head_leaf: bytes, checkpoint_seq: int) -> None:
        self.job = job
        self.cells = record.cells
        self.resolutions: deque[Event] = deque()
        #: step -> its last tool event: a start without an end stands here
        self.last_call: dict[int, Event] = {}
        #: step -> the event that tells what was asked: the beginning of a wait, or what holds a call's arguments
        self.asked: dict[int, Event] = {}
        #: step -> the event that began a wait which is not over
        self.waits: dict[int, Event] = {}
        #: correlation key -> the event that received this signal
        self.received: dict[str, Event] = {}
        self.patches: set[str] = set()
        #: steps whose recorded result the world did not confirm, with their tools; and those that a person let pass
        self.unconfirmed: dict[int, str] = {}
        self.excused: set[int] = set()
        self.paused_by = ""
        self.cancel: Event | None = None
        self.last_step = 0  # the highest step number on record
        self.randoms: dict[int, Event] = {}
        self.checkpoint: Event | None = None
        self.first_leased_at = 0
        #: Of the submitter, else of the first hold: where a later one hangs its spans.
        self.traceparent = ""
        self.last_at = 0
        #: Events up to here were on record when this worker took the job.
        self.recorded_head = 0
        self.last_type = ""
        self.genesis = self._read(record, head_leaf, checkpoint_seq)

    def _read(self, record: Record, head_leaf: bytes, checkpoint_seq: int) -> Event:
        events = []
        for line, leaf in zip(record.lines, record.leaves, strict=True):
            if merkle.leaf_hash(line) != leaf:
                raise Corrupt(f"job {self.job[:8]}: a stored line does not match its leaf; run `aetheris check`")
            events.append(_event(line))
        if not events or events[0].type != "job_created" or record.leaves[-1] != head_leaf:
            raise Corrupt(f"job {self.job[:8]}: the stored events do not end at the job's head; run `aetheris check`")
        previous: tuple[Event, bytes] | None = None
        for event, leaf in zip(events, record.leaves, strict=True):
            if previous is not None and event.seq == previous[0].seq + 1 and event.prev != previous[1].hex():
                raise Corrupt(f"job {self.job[:8]}: event {event.seq} does not follow its predecessor")
            previous = event, leaf
            self._index_from(event, checkpoint_seq)
        self.last_at, self.recorded_head, self.last_type = events[-1].at, events[-1].seq, events[-1].type
        return events[0]

    def _index_from(self, event: Event, checkpoint_seq: int) -> None:
        if event.type == "job_leased" and not self.first_leased_at:
            self.first_leased_at = event.at
            self.traceparent = self.traceparent or event.data.get("traceparent", "")
        elif event.type == "job_created":
            self.traceparent = event.data.get("traceparent", "")
        if event.seq > checkpoint_seq or event.type == "signal_received":
            self.index(event)
        elif event.seq == checkpoint_seq:
            self.checkpoint = event

    def index(self, event: Event) -> None:
        """Take one more event into account: from the record, or just written."""
        self.last_step = max(self.last_step, event.step)
        if event.type.startswith("tool_invocation_"):
            self.last_call[event.step] = event
            if "args" in event.cells:
                self.asked[event.step] = event
        elif event.type in _WAITS and event.step:
            self.waits[event.step] = self.asked[event.step] = event
        elif event.type == "random_recorded":
            self.randoms[event.step] = event
        else:
            self._index_of_job(event)
        if self._resolves(event):
            self.waits.pop(event.step, None)
            self.resolutions.append(event)

    def _index_of_job(self, event: Event) -> None:
        match event.type:
            case "signal_received":
                self.received[event.data["correlation_key"]] = event
            case "patch_recorded":
                self.patches.add(event.data["patch"])
            case "pause_requested":
                self.paused_by = event.by
            case "job_resumed":
                self.paused_by = ""
                self.excused |= self.unconfirmed.keys()
            case "cancel_requested":
                self.cancel, self.paused_by = event, ""
            case "confirmation_replay_failed":
                self.unconfirmed[event.step] = event.data["tool_name"]

    def unconfirmed_tools(self) -> list[str]:
        """Return the tools of recorded results that the world did not confirm and nobody has let pass yet."""
        return [tool for step, tool in self.unconfirmed.items() if step not in self.excused]

    @staticmethod
    def _resolves(event: Event) -> bool:
        if event.type in ("tool_invocation_confirmed", "tool_invocation_resolved"):
            return bool(event.data["outcome"] != "not_done")
        return event.type in _RESOLVES and "retry_after_us" not in event.data

    def value(self, event: Event, name: str) -> Any:
        """Return the value of cell `name` of `event`, its sensitive parts in place; None when there is none."""
        if name not in event.cells:
            return None
        cell = self.cells.get((event.seq, name))
        if cell is None or cell.body is None:
            return None
        value = body_value(cell.body)
        if b'$cell"' not in cell.body:
            return value
        inside = f"{name}/"
        bodies = {name: value}
        for part in event.cells:
            found = self.cells.get((event.seq, part)) if part.startswith(inside) else None
            if found is not None and found.body is not None:
                bodies[part] = body_value(found.body)
        return cells.assemble(name, bodies)

    def start_values(self, agent: Agent) -> tuple[Any, ...]:
        """Return what the code starts with: the job's input, or the state of its last checkpoint."""
        if not agent.takes_input:
            return ()
        event, name = (self.genesis, "input") if self.checkpoint is None else (self.checkpoint, "state")
        cell = self.cells.get((event.seq, name))
        if cell is None or cell.body is None:
            raise Refused(f"the job's {name} was erased: it can't go on")
        return (agent.input_value(self.value(event, name)),)

    def add(self, event: Event, bodies: list[tuple[str, bytes]]) -> None:
        """Add an event just written, so that it settles its step as a replay would."""
        for name, body in bodies:
            self.cells[event.seq, name] = Cell(event.seq, name, None, body)
        self.index(event)

    def forget(self, event: Event) -> None:
        """Let go of what a delivered event stands on: a long job must not hold it all."""
        for name in event.cells:
            self.cells.pop((event.seq, name), None)
        self.last_call.pop(event.step, None)
        self.asked.pop(event.step, None)

    @staticmethod
    def describe(event: Event) -> str:
        """Name a recorded event as the code's author would."""
        if "tool_name" in event.data:
            return f"tool {event.data['tool_name']} (event {event.seq})"
        return f"{event.type} (event {event.seq})"


def _event(line: bytes) -> Event:
    # The leaf has just been checked, and only our own append writes lines: parse, don't re-validate.
    v = orjson.loads(line)
    return Event(v["at"], v["by"], v["cells"], v["data"], v["epoch"], v["prev"], v["seq"], v["step"], v["type"])
