"""What a job's record says, indexed for replay: resolutions in order, starts, timers, values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from aetheris.domain import cells, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.decisions import Decisions
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Corrupt, Erased
from aetheris.domain.events import Event
from aetheris.runtime.agents import Agent
from aetheris.runtime.packed import Entry, Packing
from aetheris.runtime.resolving import WAITS, Resolutions, resolves
from aetheris.store.history import Record


class History:
    """One job's record. `resolutions` is consumed as the code is replayed against it.

    With `packed`, a sound snapshot's part, the record's events up to its seq
    are not needed and not looked at.
    """

    def __init__(
        self, job: str, record: Record, head_leaf: bytes, checkpoint_seq: int, packed: Packing | None = None
    ) -> None:
        self.job = job
        self.cells = record.cells
        self.resolutions = Resolutions()
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
        #: The answers of models so far, for their scores; what a snapshot leaves out is not in it.
        self.decisions = Decisions()
        self.last_at = 0
        #: Events up to here were on record when this worker took the job.
        self.recorded_head = 0
        self.last_type = ""
        if packed is not None:
            self._begin_with(packed)
            checkpoint_seq = packed.seq
        self.genesis = self._read(record, head_leaf, checkpoint_seq)

    def _begin_with(self, packed: Packing) -> None:
        self.first_leased_at, self.last_step = packed.first_leased_at, packed.last_step
        kept = packed.kept()
        if packed.checkpoint is not None:
            self.checkpoint = packed.checkpoint.event
            kept.insert(0, packed.checkpoint)
        for event, _, held in kept:
            self.cells.update(((event.seq, cell.name), cell) for cell in held)
            if event is not self.checkpoint:
                self._note(event)
        self.resolutions.begin_with(packed.entries(), len(packed), self._unpacked)

    def _unpacked(self, entry: Entry) -> None:
        for cell in entry.cells:
            self.cells[cell.seq, cell.name] = cell
        if entry.asked is not None:
            self.asked[entry.event.step] = entry.asked
            for cell in entry.asked_cells:
                self.cells[cell.seq, cell.name] = cell

    def _read(self, record: Record, head_leaf: bytes, checkpoint_seq: int) -> Event:
        events = read_events(self.job, record.lines, record.leaves)
        if not events or events[0].type != "job_created" or record.leaves[-1] != head_leaf:
            raise Corrupt(f"job {self.job[:8]}: the stored events do not end at the job's head; run `aetheris check`")
        for event in events:
            self.decisions.note(event)
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
        elif event.seq == checkpoint_seq and event.type == "state_checkpointed" and self.checkpoint is None:
            self.checkpoint = event

    def index(self, event: Event) -> None:
        """Take one more event into account: from the record, or just written."""
        self.last_step = max(self.last_step, event.step)
        self._note(event)
        if resolves(event):
            self.waits.pop(event.step, None)
            self.resolutions.append(event)

    def _note(self, event: Event) -> None:
        if event.type.startswith("tool_invocation_"):
            self.last_call[event.step] = event
            if "args" in event.cells:
                self.asked[event.step] = event
        elif event.type in WAITS and event.step:
            self.waits[event.step] = self.asked[event.step] = event
        elif event.type == "random_recorded":
            self.randoms[event.step] = event
        else:
            self._index_of_job(event)

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

    def recorded(self, event: Event) -> bool:
        """Return whether the event was on record when this worker took the job."""
        return event.seq <= self.recorded_head

    def next(self) -> list[Event]:
        """Return the next to be delivered, if there is one."""
        return [self.resolutions.first] if self.resolutions else []

    def fresh(self, last_step: int) -> bool:
        """Return whether code that has made `last_step` is past all that was on record."""
        return self.last_step <= last_step and not any(map(self.recorded, self.next()))

    def value(self, event: Event, name: str) -> Any:
        """Return the value of cell `name` of `event`, its sensitive parts in place; None when there is none.

        Errors: Erased, for the value or any part of it.
        """
        if name not in event.cells:
            return None
        cell = self.cells.get((event.seq, name))
        if cell is None:
            return None
        if cell.body is None:
            raise _erased(event, name)
        value = body_value(cell.body)
        if b'$cell"' not in cell.body:
            return value
        inside = f"{name}/"
        bodies = {name: value}
        for part in event.cells:
            found = self.cells.get((event.seq, part)) if part.startswith(inside) else None
            if found is not None and found.body is None:
                raise _erased(event, part)
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
            raise _erased(event, name)
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
        if (asked := self.asked.pop(event.step, None)) is not None:
            for name in asked.cells:
                self.cells.pop((asked.seq, name), None)

    @staticmethod
    def describe(event: Event) -> str:
        """Name a recorded event as the code's author would."""
        if "tool_name" in event.data:
            return f"tool {event.data['tool_name']} (event {event.seq})"
        return f"{event.type} (event {event.seq})"


def read_events(job: str, lines: Sequence[bytes], leaves: Sequence[bytes]) -> list[Event]:
    """Return the events of stored lines, each checked against its leaf and its predecessor. Errors: Corrupt."""
    read: list[Event] = []
    before, seq = "", -1
    for line, leaf in zip(lines, leaves, strict=True):
        if merkle.leaf_hash(line) != leaf:
            raise Corrupt(f"job {job[:8]}: a stored line does not match its leaf; run `aetheris check`")
        # The leaf has just been checked, and only our own append writes lines: parse, don't re-validate.
        v = orjson.loads(line)
        event = Event(v["at"], v["by"], v["cells"], v["data"], v["epoch"], v["prev"], v["seq"], v["step"], v["type"])
        if event.seq == seq + 1 and event.prev != before:
            raise Corrupt(f"job {job[:8]}: event {event.seq} does not follow its predecessor")
        read.append(event)
        before, seq = leaf.hex(), event.seq
    return read


def _erased(event: Event, name: str) -> Erased:
    return Erased(f"event {event.seq}: its {name} was erased, so what the code made of it can't be run again")
