"""Taking snapshots: by a timer, at checkpoints, and when a person asks; never in a job's way.

A snapshot is made from what is stored (the last snapshot and the events after
it), by any worker, whoever holds the job. Its holder notices nothing: no lease
is taken, no row is locked. What is read is checked as a replay would check it,
and each cell against its commitment, so a snapshot never makes a broken record
look whole: such a job gets none, and is reported.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from aetheris.domain import snapshot
from aetheris.domain.cells import commitment
from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Lost, Refused
from aetheris.domain.fold import JobState, apply, dumps, loads
from aetheris.domain.snapshot import Place
from aetheris.runtime import metrics
from aetheris.runtime.config import Snapshots
from aetheris.runtime.failpoints import reach
from aetheris.runtime.history import read_events
from aetheris.runtime.packed import Packing
from aetheris.runtime.replay_context import report
from aetheris.store import history, snapshots
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.history import Record
from aetheris.store.snapshots import New, Standing

Kind = Literal["timer", "checkpoint", "asked"]
#: A snapshot beyond this is not kept: it would cost more to read than it saves. Use a checkpoint.
PACKED_BYTES_LIMIT = 256 * 1024 * 1024
#: A worker looks for the first time within so long of its start, so that many don't look at once.
FIRST_LOOK_SECONDS = 60.0

#: A thread of its own: tools may keep a worker's threads busy, and a worker that left has none any more.
_BUILDER = ThreadPoolExecutor(1, thread_name_prefix="aetheris-snapshot")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was written."""

    key: JobKey
    seq: int
    #: Events since the one before.
    events: int
    body_bytes: int
    packed_bytes: int


@dataclass(slots=True)
class _Base:
    """What a snapshot is built on: the last one, or nothing."""

    seq: int
    state: JobState
    packing: Packing


class Snapshotter:
    """Takes snapshots under the store's keys. One per worker; `run` is its duty there."""

    def __init__(self, settings: Snapshots, *, within_seconds: float) -> None:
        self.settings = settings
        self._within = within_seconds
        self._asked: dict[JobKey, None] = {}
        self._wake = asyncio.Event()
        self._next_look: float | None = None

    def ask(self, key: JobKey) -> None:
        """Look at this job soon: it has just passed a checkpoint."""
        if self.settings.enabled:
            self._asked[key] = None
            self._wake.set()

    async def run(self, connection: Connection) -> None:
        """Take what is asked for at once and what is due by the timer, for ever."""
        clock = asyncio.get_running_loop()
        if self._next_look is None:  # else the connection broke: the timer goes on as it was
            self._next_look = clock.time() + random.random() * min(self.settings.interval, FIRST_LOOK_SECONDS)
        while True:
            while self._asked:
                key = next(iter(self._asked))
                del self._asked[key]
                await self._try(connection, key, "checkpoint")
            if clock.time() >= self._next_look:
                self._next_look = clock.time() + self.settings.interval
                await self.round(connection)
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self._next_look):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def round(self, connection: Connection) -> list[Taken]:
        """Take a snapshot of every job that is due, up to the batch limit."""
        taken = []
        for key in await snapshots.due(connection, self.settings.event_threshold, self.settings.batch_limit):
            if (made := await self._try(connection, key, "timer")) is not None:
                taken.append(made)
        return taken

    async def _try(self, connection: Connection, key: JobKey, kind: Kind) -> Taken | None:
        try:
            return await self.take(connection, key, kind, threshold=self.settings.event_threshold)
        except Lost as error:
            _log.info("%s", error)
            if connection.closed:
                raise  # silent for too long: PostgreSQL ended the session
            return None
        except (Corrupt, Conflict, Refused) as error:
            # The record is left as it is; a replay of it says the same.
            _log.error("job %s: no snapshot: %s", key[1][:8], error)
            return None

    async def take(self, connection: Connection, key: JobKey, kind: Kind, *, threshold: int = 0) -> Taken | None:
        """Take a snapshot of the job as it stands.

        None when another takes it just now, or there are no more than
        `threshold` events since the last. Errors: Corrupt when the record is
        broken; Refused when it is too large; Lost when the job changed hands
        meanwhile or this process was silent for a lease: nothing was written.
        """
        async with snapshots.taking(connection, key, self._within) as standing:
            if standing is None:
                return None
            keys = await snapshots.snapshot_keys(connection)
            base, record = await self._read(connection, key, keys)
            if standing.head_seq - base.seq <= threshold:
                return None
            before = base.seq
            building = asyncio.get_running_loop().run_in_executor(_BUILDER, _build, key, base, record)
            place, body, packed = await building
            new = _sealed(place, kind, keys, body, packed)
            reach("snapshot.before")
            keep = self.settings.keep_latest
            if not await snapshots.put(connection, new, standing, keep=keep, within_seconds=self._within):
                raise _why_not(key, standing)
        reach("snapshot.after")
        metrics.snapshot_taken(key[0], kind)
        return Taken(key, place.seq, place.seq - before, len(body), len(packed))

    async def _read(self, connection: Connection, key: JobKey, keys: Mapping[int, bytes]) -> tuple[_Base, Record]:
        """Return the newest snapshot, if it is sound, and the events after it; else all events."""
        record = (await history.load(connection, [key], [0], [history.NEWEST]))[key]
        if record.snapshot is None:
            return _Base(0, JobState(), Packing()), record
        packed, seq = record.snapshot, record.snapshot.seq
        fold = (await snapshots.folds(connection, key))[0]
        fault = fold.fault(keys) or snapshots.fault_of(packed, key, keys, record.leaf_at(seq))
        try:
            if not fault:
                return _Base(seq, loads(fold.body), Packing.unpack(packed.body)), record
        except Corrupt as error:
            fault = str(error)
        report(key, seq, fault)
        await snapshots.delete_one(connection, key, seq)
        return _Base(0, JobState(), Packing()), (await history.load(connection, [key], [0]))[key]


async def take_asked(connection: Connection, key: JobKey, settings: Snapshots, within_seconds: float) -> Taken | None:
    """Take a snapshot because a person asked; None when there is one of the job as it stands.

    Errors: as `Snapshotter.take`; Refused when the job has ended.
    """
    async with snapshots.taking(connection, key, within_seconds) as standing:
        if standing is None:
            raise Conflict(f"job {key[1][:8]}: a worker takes a snapshot of it just now")
        if standing.status in (2, 3, 4):
            raise Refused(f"job {key[1][:8]} has ended: nothing will replay it, so it needs no snapshot")
    return await Snapshotter(settings, within_seconds=within_seconds).take(connection, key, "asked")


def _build(key: JobKey, base: _Base, record: Record) -> tuple[Place, bytes, bytes]:
    """Return place, fold and packed part of a snapshot at the record's end. Errors: Corrupt, Refused."""
    state, packing = base.state, base.packing
    seq = base.seq
    for event, line in zip(read_events(key[1], record.lines, record.leaves), record.lines, strict=True):
        if event.seq <= base.seq:
            continue  # the first event, signals, and the one that the last snapshot ends with
        if event.seq != seq + 1:
            raise Corrupt(f"job {key[1][:8]}: no event {seq + 1}; run `aetheris check`")
        seq = event.seq
        for name, commit in event.cells.items():
            cell = record.cells.get((seq, name))
            if cell is None:
                raise Corrupt(f"job {key[1][:8]}: event {seq} has no cell {name}; run `aetheris check`")
            if cell.salt is not None and commitment(key[1], seq, name, cell.salt, cell.body or b"").hex() != commit:
                raise Corrupt(f"job {key[1][:8]}: cell {name} of event {seq} is not what it committed to")
        apply(state, event)
        packing.add(event, line, record.cells)
    packed = packing.pack()
    if len(packed) > PACKED_BYTES_LIMIT:
        raise Refused(f"it would have {len(packed):,} bytes, more than {PACKED_BYTES_LIMIT:,}: let the code checkpoint")
    return Place(*key, seq, record.leaves[-1]), dumps(state), packed


def _sealed(place: Place, kind: Kind, keys: Mapping[int, bytes], body: bytes, packed: bytes) -> New:
    key_id = max(keys)
    return New(
        place,
        kind,
        key_id,
        body,
        packed,
        snapshot.mac(keys[key_id], place, snapshot.VERSION, "fold", body),
        snapshot.mac(keys[key_id], place, snapshot.VERSION, "replay", packed),
    )


def _why_not(key: JobKey, standing: Standing) -> AetherisError:
    return Lost(
        f"job {key[1][:8]}: the snapshot was not written: the job changed hands since epoch {standing.epoch},"
        " or its writer was silent for a lease"
    )
