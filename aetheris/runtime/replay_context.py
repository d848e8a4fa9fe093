"""ReplayContextBuilder: from what is stored of jobs to what their code is replayed against.

One statement brings, of any number of jobs, the newest snapshot and the events
after it. Then, per job, one of three:

    a sound snapshot        its packed part, and the events after it
    a checkpoint since      the events from there on: the code starts anew with its state
    neither                 all events

A snapshot that is cut, edited, of another job or place, or of a version or key
that this code doesn't know is reported (log, metric) and passed over; the next
older one, or the events themselves, serve instead. Replay is right either way,
only slower.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aetheris.domain.errors import Corrupt
from aetheris.runtime import metrics
from aetheris.runtime.history import History
from aetheris.runtime.packed import Packing
from aetheris.store import history, snapshots
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.history import Packed, Record

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReplayContext:
    """What one job is replayed against; `history` decodes results when their turn comes."""

    key: JobKey
    record: Record
    packed: Packing | None
    checkpoint_seq: int

    def history(self, head_leaf: bytes) -> History:
        """Return the history, once. Errors: Corrupt when the events are not sound up to `head_leaf`."""
        made = History(self.key[1], self.record, head_leaf, self.checkpoint_seq, self.packed)
        self.record, self.packed = Record(), None
        return made


@dataclass(slots=True)
class ReplayContextBuilder:
    """Builds replay contexts under the store's snapshot keys. `statements` counts what was asked of PostgreSQL."""

    keys: Mapping[int, bytes]
    use_snapshots: bool = True
    statements: int = field(default=0)

    async def build(
        self, connection: Connection, keys: Sequence[JobKey], checkpoints: Sequence[int]
    ) -> dict[JobKey, ReplayContext]:
        """Return the context of each job; `checkpoints` are the seqs of their last checkpoints, 0 for none."""
        built: dict[JobKey, ReplayContext] = {}
        wanted = dict(zip(keys, checkpoints, strict=True))
        before = dict.fromkeys(keys, history.NEWEST if self.use_snapshots else 0)
        while wanted:
            self.statements += 1
            records = await history.load(connection, list(wanted), list(wanted.values()), [before[k] for k in wanted])
            again: dict[JobKey, int] = {}
            for key, record in records.items():
                try:
                    packed = None if record.snapshot is None else self._sound(key, record.snapshot, record)
                except Corrupt as fault:
                    assert record.snapshot is not None
                    report(key, record.snapshot.seq, str(fault))
                    before[key], again[key] = record.snapshot.seq, wanted[key]
                    continue
                built[key] = ReplayContext(key, record, packed, wanted[key])
            wanted = again
        return built

    def _sound(self, key: JobKey, found: Packed, record: Record) -> Packing:
        """Return the snapshot's content. Errors: Corrupt when it may not be used."""
        if fault := snapshots.fault_of(found, key, self.keys, record.leaf_at(found.seq)):
            raise Corrupt(fault)
        return Packing.unpack(found.body)


def report(key: JobKey, seq: int, fault: str) -> None:
    """Say that a stored snapshot is not used, and why."""
    _log.error("job %s: the snapshot at event %d is passed over: %s", key[1][:8], seq, fault)
    metrics.snapshot_unsound(key[0])
