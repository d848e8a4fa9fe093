"""The audit chain in the store: appended to under its head's lock, read in order, checked whole.

`append` is for whoever has a transaction open: the entries become durable with
it or not at all. The tenant's chain is locked from the call to the end of that
transaction, so call it last, after every lock on jobs, and commit at once.
`runtime/audit.py` gathers entries and gives them transactions of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aetheris.domain.audit import Chain, Entry, Head, Line, extend
from aetheris.domain.errors import Conflict
from aetheris.store import arrays
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement

FETCH_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry as stored."""

    seq: int
    leaf: bytes
    line: bytes
    recorded_at: datetime


async def append(connection: Connection, tenant: str, entries: Sequence[Entry]) -> list[Line]:
    """Put `entries` on the tenant's chain, within the transaction that the caller has open; return their lines.

    The connection acts as the worker's role, as owner, or as the app bound to
    this tenant. On an empty chain the opening entry is written too. Errors:
    Denied, Unreachable, Refused (no such tenant).
    """
    if not entries:
        return []
    with translated():
        cursor = await connection.execute(statement("audit_lock"), {"tenant": tenant})
        row = await cursor.fetchone()
        assert row is not None
        old = Head(row["head_seq"], bytes(row["head_leaf"]), row["head_at"])
        new, made = extend(tenant, old, entries, row["now_us"])
        cursor = await connection.execute(
            statement("audit_append"),
            {
                "tenant": tenant,
                "old_seq": old.seq,
                "new_seq": new.seq,
                "new_leaf": new.leaf,
                "new_at": new.at,
                "seqs": arrays.int8([m.seq for m in made]),
                "leaves": arrays.bytea([m.leaf for m in made]),
                "lines": arrays.text([m.line for m in made]),
            },
        )
    if cursor.rowcount != len(made):
        raise Conflict(f"the audit chain of {tenant} was moved under its lock: nothing was written")
    return made[-len(entries) :]


async def holds(connection: Connection, tenant: str, line: Line) -> bool:
    """Return whether this very line is on the chain: what to ask after a connection lost in COMMIT.

    Waits for a writer whose client is gone and that may still be committing.
    """
    with translated():
        await connection.execute(statement("audit_lock"), {"tenant": tenant})
        cursor = await connection.execute(
            "SELECT leaf FROM aetheris.audit_log WHERE tenant_id = %s AND seq = %s", [tenant, line.seq]
        )
        row = await cursor.fetchone()
    return row is not None and bytes(row["leaf"]) == line.leaf


async def head(connection: Connection, tenant: str) -> Head:
    """Return the newest entry's number, leaf and time; number 0 where nothing was ever written."""
    with translated():
        cursor = await connection.execute(
            "SELECT head_seq, head_leaf, head_at FROM aetheris.audit_heads WHERE tenant_id = %s", [tenant]
        )
        row = await cursor.fetchone()
    return Head(0, b"", 0) if row is None else Head(row["head_seq"], bytes(row["head_leaf"]), row["head_at"])


async def rows(connection: Connection, tenant: str, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
    """Return entries after number `after`, in order."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, leaf, line, recorded_at FROM aetheris.audit_log"
            " WHERE tenant_id = %s AND seq > %s ORDER BY seq LIMIT %s",
            [tenant, after, limit],
        )
        return [_row(r) async for r in cursor]


async def newest(
    connection: Connection, tenant: str, *, before: int | None = None, limit: int, resource: str | None = None
) -> list[AuditRow]:
    """Return entries before number `before` (or from the head), newest first; of one resource, where it is named."""
    with translated():
        cursor = await connection.execute(
            "SELECT seq, leaf, line, recorded_at FROM aetheris.audit_log"
            " WHERE tenant_id = %(tenant)s AND seq < %(before)s"
            " AND (%(resource)s::text IS NULL OR line::jsonb #>> '{data,resource_id}' = %(resource)s)"
            " ORDER BY seq DESC LIMIT %(limit)s",
            {"tenant": tenant, "before": before or 2**62, "resource": resource, "limit": limit},
        )
        return [_row(r) async for r in cursor]


def _row(r: dict[str, Any]) -> AuditRow:
    return AuditRow(r["seq"], bytes(r["leaf"]), r["line"].encode(), r["recorded_at"])


async def verify(connection: Connection, tenant: str) -> Head:
    """Return the chain's head, only if every entry from the first on is sound and none is missing.

    Reads in batches, so memory stays small. Errors: Corrupt, naming the entry.
    """
    chain = Chain(tenant)
    # Entries may be added meanwhile: they lie after the head that is asked first.
    end = await head(connection, tenant)
    async for row in _all(connection, tenant, end.seq):
        chain.add(row.line, row.leaf)
    chain.close(end)
    return end


async def _all(connection: Connection, tenant: str, last: int) -> AsyncIterator[AuditRow]:
    after = 0
    while batch := await rows(connection, tenant, after=after, limit=FETCH_ROWS):
        for row in batch:
            if row.seq > last:
                return
            yield row
        after = batch[-1].seq
