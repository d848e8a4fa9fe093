"""A job's record as stored: lines, cells, ledger. Read whole or from a snapshot on, never repaired."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from psycopg.rows import tuple_row

from aetheris.domain.cells import Cell
from aetheris.domain.errors import Refused
from aetheris.domain.ledger import Transition
from aetheris.store import arrays
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement

#: Later than any event: no snapshot is left out.
NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class Packed:
    """The replay part of a snapshot as stored: not yet known to be sound."""

    seq: int
    kind: str
    version: int
    key_id: int
    leaf: bytes
    body: bytes
    mac: bytes


@dataclass(slots=True)
class Record:
    """What stands in the store of one job, from `first_seq` on; or from its snapshot on, where it has one."""

    first_seq: int = 1
    seqs: list[int] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)
    ledger: list[Transition] = field(default_factory=list)
    snapshot: Packed | None = None

    def leaf_at(self, seq: int) -> bytes:
        """Return the leaf of event `seq`; b"" when it is not here."""
        at = bisect_left(self.seqs, seq)
        return self.leaves[at] if at < len(self.seqs) and self.seqs[at] == seq else b""


async def load(
    connection: Connection, keys: Sequence[JobKey], since: Sequence[int], before: Sequence[int] = ()
) -> dict[JobKey, Record]:
    """Return events and cells of many jobs in one statement; of job i from event `since[i]` on.

    The first event always comes too (it holds the job's input), and so do signals that came
    before: the code may still wait for one. With `before`, the job's newest snapshot after
    `since[i]` and before event `before[i]` takes the place of the events up to it; whether it
    is sound is the caller's to find out.
    """
    records = [Record(first) for first in since]
    events: list[list[tuple[int, bytes, bytes]]] = [[] for _ in keys]
    columns = {
        "tenants": arrays.text([k[0] for k in keys]),
        "jobs": arrays.text([k[1] for k in keys]),
        "since": arrays.int8(list(since)),
        "before": arrays.int8(list(before) or [0] * len(keys)),
    }
    with translated():
        async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(statement("load"), columns)
            for number, what, seq, name, digest, content in await cursor.fetchall():
                if what == "e":
                    events[number - 1].append((seq, bytes(digest), content.encode()))
                elif what == "c":
                    salt = None if digest is None else bytes(digest)
                    body = None if content is None else content.encode()
                    records[number - 1].cells[seq, name] = Cell(seq, name, salt, body)
                else:
                    records[number - 1].snapshot = _packed(seq, bytes(digest), content)
    for record, rows in zip(records, events, strict=True):
        rows.sort()
        record.seqs = [seq for seq, _, _ in rows]
        record.leaves = [leaf for _, leaf, _ in rows]
        record.lines = [line for _, _, line in rows]
    return dict(zip(keys, records, strict=True))


def _packed(seq: int, body: bytes, told: str) -> Packed:
    v = orjson.loads(told)
    return Packed(seq, v["kind"], v["version"], v["key_id"], bytes.fromhex(v["leaf"]), body, bytes.fromhex(v["mac"]))


async def lines(
    connection: Connection, tenant: str, job: str, *, after: int, limit: int
) -> list[tuple[int, bytes, bytes]]:
    """Return (seq, line, leaf) of up to `limit` events after number `after`, in order."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, line, leaf FROM aetheris.job_events WHERE tenant_id = %s AND job_id = %s AND seq > %s"
            " ORDER BY seq LIMIT %s",
            [tenant, job, after, limit],
        )
        return [(r["seq"], r["line"].encode(), bytes(r["leaf"])) async for r in cursor]


async def load_ledger(connection: Connection, tenant: str, job: str) -> list[Transition]:
    """Return the job's ledger transitions in order."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, step, attempt, tool_name, effect, status, epoch, idempotency_key, args_hash, result_hash,"
            " outcome FROM aetheris.ledger WHERE tenant_id = %s AND job_id = %s ORDER BY seq",
            [tenant, job],
        )
        return [
            Transition(
                seq=r["seq"],
                step=r["step"],
                attempt=r["attempt"],
                tool_name=r["tool_name"],
                effect=r["effect"],
                status=r["status"],
                epoch=r["epoch"],
                idempotency_key=bytes(r["idempotency_key"] or b"").hex(),
                args_hash=bytes(r["args_hash"] or b"").hex(),
                result_hash=bytes(r["result_hash"] or b"").hex(),
                outcome=r["outcome"],
            )
            async for r in cursor
        ]


async def stands(connection: Connection, key: JobKey) -> tuple[bytes, int]:
    """Return the leaf of the job's last event, and the seq of its last checkpoint (0: none)."""
    with translated():
        cursor = await connection.execute(
            "SELECT head_leaf, checkpoint_seq FROM aetheris.jobs WHERE tenant_id = %s AND job_id = %s", list(key)
        )
        row = await cursor.fetchone()
    if row is None:
        raise Refused(f"no job {key[1][:8]}: `aetheris jobs` lists them")
    return bytes(row["head_leaf"]), row["checkpoint_seq"]
