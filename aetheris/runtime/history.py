"""What a job's record says, indexed for replay: resolutions in order, starts, timers, values."""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from aetheris.domain import cells, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Corrupt
from aetheris.domain.events import Event
from aetheris.store.history import Record

_RESOLVES = frozenset(
    {
        "tool_invocation_finished",
        "tool_call_refused",
        "timer_fired",
        "state_checkpointed",
        "wait_completed",
        "approval_completed",
    }
)


class History:
    """One job's record. `resolutions` is consumed as the code is replayed against it."""

    def __init__(self, job: str, record: Record, head_leaf: bytes, checkpoint_seq: int) -> None:
        self.job = job
        self.cells = record.cells
        self.resolutions: deque[Event] = deque()
        #: step -> its last tool event: a start without an end stands here
        self.last_call: dict[int, Event] = {}
        #: step -> the event that holds its arguments: its start, or its end where there is no start
        self.asked: dict[int, Event] = {}
        self.timers: dict[int, Event] = {}
        self.randoms: dict[int, Event] = {}
        self.checkpoint: Event | None = None
        self.first_leased_at = 0
        self.last_at = 0
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
            self._index(event, checkpoint_seq)
        self.last_at, self.last_type = events[-1].at, events[-1].type
        return events[0]

    def _index(self, event: Event, checkpoint_seq: int) -> None:
        if event.type == "job_leased" and not self.first_leased_at:
            self.first_leased_at = event.at
        if event.seq <= checkpoint_seq:
            if event.seq == checkpoint_seq:
                self.checkpoint = event
            return
        if event.type.startswith("tool_invocation_"):
            self.last_call[event.step] = event
            if "args" in event.cells:
                self.asked[event.step] = event
        elif event.type == "job_waiting" and event.step:
            self.timers[event.step] = event
        elif event.type == "random_recorded":
            self.randoms[event.step] = event
        if self._resolves(event):
            self.resolutions.append(event)

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

    def remember(self, event: Event, bodies: list[tuple[str, bytes]]) -> None:
        """Add an event just written, so that it settles its step as a replay would."""
        for name, body in bodies:
            self.cells[event.seq, name] = Cell(event.seq, name, None, body)

    def forget(self, event: Event) -> None:
        """Let go of a delivered event's bodies: a long job must not hold them all."""
        for name in event.cells:
            self.cells.pop((event.seq, name), None)

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
