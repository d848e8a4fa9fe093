"""What a replay reads of a job up to an event, packed into a few columns.

A worker that replays 10,000 steps from events reads 20,000 lines and as many
cells, hashes and parses them, and then looks at a handful of fields. Packed,
a step is one entry: what was asked, what came of it, and the bodies of both,
in columns that cost nothing until the entry's turn comes. The code still runs
again from the top, and each call is still compared with what was recorded:
by its arguments' bytes here, by their commitment where events are read.

    entry   an event that resolves a step, with the event that told what was asked
    shape   what entries have in common: types, actor, data, names of cells
    kept    events that are not over: a call without an end, an open wait, a pause, a random number

A checkpoint empties it: nothing before one is read again. `add` follows
`History.index` event by event; a property holds that the history of a packing
and a tail is the history of all events.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from aetheris.domain.cells import Cell
from aetheris.domain.errors import Corrupt
from aetheris.domain.events import Event
from aetheris.runtime.resolving import WAITS, resolves

#: Fields of `data` that no replay reads; without them most entries share a shape.
_UNREAD = frozenset({"duration_us", "waited_us", "idempotency_key", "expires_at", "received_seq"})
_LEVEL = 3
#: A cell whose body is known to be as recorded, without its salt: it is compared by its bytes.
AS_RECORDED = b""


class Entry(NamedTuple):
    """One resolution: its event and its cells, and those of what was asked where that is another event."""

    event: Event
    cells: list[Cell]
    asked: Event | None
    asked_cells: list[Cell]


class Kept(NamedTuple):
    """An event that is kept as it stands."""

    event: Event
    line: bytes
    cells: list[Cell]


@dataclass(slots=True)
class _Shape:
    """What entries have in common."""

    key: bytes
    type: str
    by: str
    data: dict[str, Any]
    cells: dict[str, str]
    asked_type: str
    asked_data: dict[str, Any]
    asked_cells: dict[str, str]


@dataclass(slots=True)
class _Columns:
    shape: array[int] = field(default_factory=lambda: array("I"))
    step: array[int] = field(default_factory=lambda: array("q"))
    seq: array[int] = field(default_factory=lambda: array("q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    asked_seq: array[int] = field(default_factory=lambda: array("q"))
    #: of each body, in the order of its shape's cells; -1 where it was erased
    length: array[int] = field(default_factory=lambda: array("q"))

    def all(self) -> list[array[int]]:
        """Return them in the order in which they are stored."""
        return [self.shape, self.step, self.seq, self.at, self.asked_seq, self.length]


class Packing:
    """Everything a replay needs of the events up to `seq`; grows by `add`."""

    def __init__(self) -> None:
        self.seq = 0
        self.last_step = 0
        self.first_leased_at = 0
        self.checkpoint: Kept | None = None
        #: step -> what is not over; and what belongs to the job
        self._last: dict[int, Kept] = {}
        self._asked: dict[int, Kept] = {}
        self._others: dict[int, Kept] = {}
        self._shapes: dict[bytes, int] = {}
        self._known: list[_Shape] = []
        self._columns = _Columns()
        self._bodies = bytearray()

    def __len__(self) -> int:
        return len(self._columns.step)

    def add(self, event: Event, line: bytes, cells: Mapping[tuple[int, str], Cell]) -> None:
        """Take the next event into account."""
        self.seq = event.seq
        if event.type == "job_leased" and not self.first_leased_at:
            self.first_leased_at = event.at
        kept = Kept(event, line, [cells[event.seq, name] for name in event.cells if (event.seq, name) in cells])
        if event.type == "state_checkpointed":
            self._begin_anew(kept)
            return
        self.last_step = max(self.last_step, event.step)
        self._keep(kept)
        if resolves(event):
            asked = self._asked.pop(event.step, None) if event.step else None
            self._last.pop(event.step, None)
            self._append(kept, None if asked is None or asked.event.seq == event.seq else asked)

    def kept(self) -> list[Kept]:
        """Return what is not over and what belongs to the job, in order."""
        every = {k.event.seq: k for part in (self._last, self._asked, self._others) for k in part.values()}
        return [every[seq] for seq in sorted(every)]

    def entries(self) -> Iterator[Entry]:
        """Yield the resolutions in order, each unpacked when its turn comes."""
        columns, bodies = self._columns, bytes(self._bodies)
        shapes, lengths = self._known, columns.length
        at_length = at_body = 0
        rows = zip(columns.shape, columns.step, columns.seq, columns.at, columns.asked_seq, strict=True)
        for number, step, seq, at, asked_seq in rows:
            shape = shapes[number]
            cells: list[Cell] = []
            for name in shape.cells:
                length = lengths[at_length]
                at_length += 1
                cells.append(_cell(seq, name, bodies, at_body, length))
                at_body += max(length, 0)
            event = Event(at, shape.by, shape.cells, shape.data, 0, "", seq, step, shape.type)
            if not shape.asked_type:
                yield Entry(event, cells, None, [])
                continue
            asked_cells: list[Cell] = []
            for name in shape.asked_cells:
                length = lengths[at_length]
                at_length += 1
                asked_cells.append(_cell(asked_seq, name, bodies, at_body, length))
                at_body += max(length, 0)
            asked = Event(at, "", shape.asked_cells, shape.asked_data, 0, "", asked_seq, step, shape.asked_type)
            yield Entry(event, cells, asked, asked_cells)

    def pack(self) -> bytes:
        """Return it as stored, compressed."""
        head = orjson.dumps(
            {
                "checkpoint": None if self.checkpoint is None else _kept_value(self.checkpoint),
                "first_leased_at": self.first_leased_at,
                "kept": [_kept_value(k) for k in self.kept()],
                "last_step": self.last_step,
                "lengths": [len(column) for column in self._columns.all()],
                "seq": self.seq,
                "shapes": [shape.key.decode() for shape in self._known],
            }
        )
        columns = b"".join(column.tobytes() for column in self._columns.all())
        return zlib.compress(b"".join((len(head).to_bytes(8, "little"), head, columns, self._bodies)), _LEVEL)

    @classmethod
    def unpack(cls, stored: bytes) -> Packing:
        """Return what `pack` stored; the caller has checked its HMAC. Errors: Corrupt."""
        try:
            return cls._unpack(zlib.decompress(stored))
        except (zlib.error, ValueError, KeyError, TypeError, IndexError):
            raise Corrupt("a snapshot's packed part can't be read") from None

    @classmethod
    def _unpack(cls, data: bytes) -> Packing:
        size = int.from_bytes(data[:8], "little")
        head, at = orjson.loads(data[8 : 8 + size]), 8 + size
        self = cls()
        for column, length in zip(self._columns.all(), head["lengths"], strict=True):
            end = at + length * column.itemsize
            column.frombytes(data[at:end])
            at = end
        self._bodies = bytearray(data[at:])
        for key in head["shapes"]:
            self._shape(key.encode())
        self.first_leased_at, self.last_step, self.seq = head["first_leased_at"], head["last_step"], head["seq"]
        if head["checkpoint"] is not None:
            self.checkpoint = _kept_of(head["checkpoint"])
        for value in head["kept"]:
            self._keep(_kept_of(value))
        return self

    def _begin_anew(self, checkpoint: Kept) -> None:
        self.checkpoint, self.last_step = checkpoint, 0
        for part in (self._last, self._asked, self._others, self._shapes):
            part.clear()
        self._known, self._columns, self._bodies = [], _Columns(), bytearray()

    def _keep(self, kept: Kept) -> None:
        event = kept.event
        if event.type.startswith("tool_invocation_"):
            self._last[event.step] = kept
            if "args" in event.cells:
                self._asked[event.step] = kept
        elif event.type in WAITS and event.step:
            self._asked[event.step] = kept
        elif event.type in _OF_JOB:
            self._others[event.seq] = kept

    def _append(self, kept: Kept, asked: Kept | None) -> None:
        event, columns = kept.event, self._columns
        value: list[Any] = [event.type, event.by, _read_part(event), [c.name for c in kept.cells], "", {}, []]
        cells = kept.cells
        if asked is not None:
            value[4:] = [asked.event.type, _read_part(asked.event), [c.name for c in asked.cells]]
            cells = [*cells, *asked.cells]
        columns.shape.append(self._shape(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))
        columns.step.append(event.step)
        columns.seq.append(event.seq)
        columns.at.append(event.at)
        columns.asked_seq.append(asked.event.seq if asked is not None else 0)
        for cell in cells:
            columns.length.append(-1 if cell.body is None else len(cell.body))
            self._bodies += cell.body or b""

    def _shape(self, key: bytes) -> int:
        number = self._shapes.get(key)
        if number is None:
            number = self._shapes[key] = len(self._known)
            type_, by, data, cells, asked_type, asked_data, asked_cells = orjson.loads(key)
            self._known.append(
                _Shape(
                    key,
                    type_,
                    by,
                    data,
                    dict.fromkeys(cells, ""),
                    asked_type,
                    asked_data,
                    dict.fromkeys(asked_cells, ""),
                )
            )
        return number


#: Types that a replay must know of besides what was asked and what came of it.
_OF_JOB = frozenset(
    {
        "random_recorded",
        "patch_recorded",
        "pause_requested",
        "job_resumed",
        "cancel_requested",
        "confirmation_replay_failed",
    }
)


def _read_part(event: Event) -> dict[str, Any]:
    return {key: value for key, value in event.data.items() if key not in _UNREAD}


def _cell(seq: int, name: str, bodies: bytes, at: int, length: int) -> Cell:
    if length < 0:
        return Cell(seq, name, None, None)
    return Cell(seq, name, AS_RECORDED, bodies[at : at + length])


def _kept_value(kept: Kept) -> list[Any]:
    cells = [
        [c.name, None if c.salt is None else c.salt.hex(), None if c.body is None else c.body.decode()]
        for c in kept.cells
    ]
    return [kept.line.decode(), cells]


def _kept_of(value: list[Any]) -> Kept:
    line = value[0].encode()
    v = orjson.loads(line)
    event = Event(v["at"], v["by"], v["cells"], v["data"], v["epoch"], v["prev"], v["seq"], v["step"], v["type"])
    cells = [
        Cell(event.seq, name, None if salt is None else bytes.fromhex(salt), None if body is None else body.encode())
        for name, salt, body in value[1]
    ]
    return Kept(event, line, cells)
