"""Snapshots as stored: found, kept, and thrown away. What they hold is the runtime's business.

Protocol. Whoever takes one opens a transaction, tries the job's advisory lock
(one taker at a time; the others go on to the next job), reads where the job
stands, reads its newest snapshot and the events after it, and writes. No row
of the job is locked: its holder appends meanwhile as if nobody were there.
The write compares leaf, lease epoch and time (sql/snapshot_put.sql), and
PostgreSQL ends the session of a taker that is silent for a lease in between,
so a paused worker can write none.

For erasure: `delete_all` drops every snapshot of a job in the caller's
transaction. `newest_sound` says which one a replay would begin with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aetheris.domain import snapshot
from aetheris.domain.snapshot import Place
from aetheris.store import history
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands at the moment of reading, by the database."""

    tenant: str
    job: str
    status: int
    epoch: int
    head_seq: int
    read_at_us: int


@dataclass(frozen=True, slots=True)
class Fold:
    """A stored snapshot's fold, and what it is bound to."""

    place: Place
    kind: str
    version: int
    key_id: int
    body: bytes
    mac: bytes

    def fault(self, keys: Mapping[int, bytes]) -> str:
        """Return why it may not be used, or ""."""
        return snapshot.fault(keys, self.place, self.version, self.key_id, "fold", self.body, self.mac)


@dataclass(frozen=True, slots=True)
class New:
    """A snapshot to be kept."""

    place: Place
    kind: str
    key_id: int
    body: bytes
    packed: bytes
    mac: bytes
    packed_mac: bytes


async def snapshot_keys(connection: Connection) -> dict[int, bytes]:
    """Return the keys that seal snapshots; the highest number seals."""
    with translated():
        cursor = await connection.execute("SELECT key_id, secret FROM aetheris.deployment_keys WHERE kind = 'snapshot'")
        return {r["key_id"]: bytes(r["secret"]) async for r in cursor}


async def due(connection: Connection, threshold: int, limit: int) -> list[JobKey]:
    """Return the jobs that have not ended and have more than `threshold` events since their last snapshot."""
    with translated():
        cursor = await connection.execute(_DUE, {"threshold": threshold, "limit": limit})
        return [(r["tenant_id"], r["job_id"]) async for r in cursor]


@asynccontextmanager
async def taking(connection: Connection, key: JobKey, within_seconds: float) -> AsyncIterator[Standing | None]:
    """Yield where the job stands, inside the transaction in which its snapshot is taken; None when another takes it.

    PostgreSQL ends the session when nothing is heard for `within_seconds`.
    """
    with translated():
        async with connection.transaction():
            await connection.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [f"{within_seconds:g}s"]
            )
            cursor = await connection.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, %s)) AS mine", ["/".join(key), _LOCK]
            )
            row = await cursor.fetchone()
            if row is None or not row["mine"]:
                yield None
                return
            cursor = await connection.execute(_STANDING, list(key))
            row = await cursor.fetchone()
            yield None if row is None else Standing(*key, **row)


async def put(connection: Connection, new: New, standing: Standing, *, keep: int, within_seconds: float) -> bool:
    """Keep the snapshot and the newest `keep` - 1 before it; False when its writer is late or it is there already."""
    with translated():
        cursor = await connection.execute(
            statement("snapshot_put"),
            {
                "tenant": new.place.tenant,
                "job": new.place.job,
                "seq": new.place.seq,
                "leaf": new.place.leaf,
                "kind": new.kind,
                "version": snapshot.VERSION,
                "key_id": new.key_id,
                "body": new.body,
                "packed": new.packed,
                "mac": new.mac,
                "packed_mac": new.packed_mac,
                "epoch": standing.epoch,
                "read_at_us": standing.read_at_us,
                "within": within_seconds,
                "keep": keep,
            },
        )
        return await cursor.fetchone() is not None


async def folds(connection: Connection, key: JobKey) -> list[Fold]:
    """Return the job's snapshots, newest first, each with its fold."""
    with translated():
        cursor = await connection.execute(_FOLDS, list(key))
        return [
            Fold(Place(*key, r["seq"], bytes(r["leaf"])), r["kind"], r["version"], r["key_id"], bytes(r["body"]),
                 bytes(r["mac"]))
            async for r in cursor
        ]  # fmt: skip


async def newest_sound(connection: Connection, key: JobKey) -> int:
    """Return the seq of the newest snapshot that a replay of the job may begin with; 0 when there is none.

    Sound is: of a version and a key of this store, both parts match their
    HMAC, and the event at its seq has its leaf.
    """
    keys = await snapshot_keys(connection)
    before = history.NEWEST
    for fold in await folds(connection, key):
        record = (await history.load(connection, [key], [0], [before]))[key]
        packed = record.snapshot
        if packed is None:
            return 0
        if not fold.fault(keys) and not fault_of(packed, key, keys, record.leaf_at(packed.seq)):
            return packed.seq
        before = packed.seq
    return 0


def fault_of(packed: history.Packed, key: JobKey, keys: Mapping[int, bytes], leaf: bytes) -> str:
    """Return why a replay may not begin with this snapshot, or ""; `leaf` is that of the event at its seq."""
    place = Place(*key, packed.seq, packed.leaf)
    fault = snapshot.fault(keys, place, packed.version, packed.key_id, "replay", packed.body, packed.mac)
    if not fault and packed.leaf != leaf:
        fault = OTHER_LEAF
    return fault


async def delete_one(connection: Connection, key: JobKey, seq: int) -> None:
    """Delete one snapshot that may not be used, so that a sound one can take its place."""
    with translated():
        await connection.execute(
            "DELETE FROM aetheris.job_snapshots WHERE tenant_id = %s AND job_id = %s AND seq = %s", [*key, seq]
        )


async def delete_all(connection: Connection, tenant: str, job: str) -> int:
    """Delete every snapshot of the job, as an erasure must, and return how many there were.

    In the caller's transaction, the one that takes the bodies away. Waits for
    a taker that may have read them before, and keeps the next one out until
    that transaction ends. As a worker, or as whoever may delete.
    """
    with translated():
        await connection.execute(_LOCKED, ["/".join((tenant, job)), _LOCK])
        cursor = await connection.execute(
            "DELETE FROM aetheris.job_snapshots WHERE tenant_id = %s AND job_id = %s", [tenant, job]
        )
        return cursor.rowcount


async def look(connection: Connection, limit: int) -> tuple[int, list[tuple[JobKey, int, str]]]:
    """Return how many of the newest `limit` snapshots were looked at, and (job, seq, why) of those of no use."""
    keys = await snapshot_keys(connection)
    count, unsound = 0, []
    with translated():
        cursor = await connection.execute(_NEWEST, [limit])
        async for r in cursor:
            count += 1
            place = Place(r["tenant_id"], r["job_id"], r["seq"], bytes(r["leaf"]))
            version, key_id = r["version"], r["key_id"]
            why = snapshot.fault(keys, place, version, key_id, "fold", bytes(r["body"]), bytes(r["mac"]))
            packed, mac = bytes(r["packed"]), bytes(r["packed_mac"])
            why = why or snapshot.fault(keys, place, version, key_id, "replay", packed, mac)
            if not why and place.leaf != bytes(r["event_leaf"] or b""):
                why = OTHER_LEAF
            if why:
                unsound.append(((place.tenant, place.job), place.seq, why))
    return count, unsound


OTHER_LEAF = "its leaf is not that of the event at its place"
_LOCK = 0x736E617073686F74  # "snapshot": no other advisory lock counts from here
_LOCKED = "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))"
_DUE = """
SELECT j.tenant_id, j.job_id
FROM aetheris.jobs j
LEFT JOIN LATERAL (
    SELECT max(s.seq) AS seq FROM aetheris.job_snapshots s WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id
) s ON true
WHERE (j.status IN (0, 5, 6, 7) OR j.status = 1) AND j.head_seq > %(threshold)s
  AND j.head_seq - coalesce(s.seq, 0) > %(threshold)s
ORDER BY j.head_seq - coalesce(s.seq, 0) DESC
LIMIT %(limit)s
"""
_STANDING = """
SELECT status, lease_epoch AS epoch, head_seq, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS read_at_us
FROM aetheris.jobs WHERE tenant_id = %s AND job_id = %s
"""
_FOLDS = """
SELECT seq, kind, version, key_id, leaf, body, mac FROM aetheris.job_snapshots
WHERE tenant_id = %s AND job_id = %s ORDER BY seq DESC
"""
_NEWEST = """
SELECT s.*, e.leaf AS event_leaf
FROM (SELECT * FROM aetheris.job_snapshots ORDER BY recorded_at DESC LIMIT %s) s
LEFT JOIN aetheris.job_events e USING (tenant_id, job_id, seq)
ORDER BY s.tenant_id, s.job_id, s.seq
"""
