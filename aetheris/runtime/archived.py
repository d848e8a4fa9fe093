"""A collected job's record, read from the lake: the same as the store held, so trace and export don't change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aetheris.domain import events
from aetheris.domain.cells import Cell
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.domain.jobs import STATUS_AFTER
from aetheris.domain.ledger import Transition
from aetheris.lake import layout, open_lake
from aetheris.lake.opened import OpenedTable, check_bytes, read_files
from aetheris.runtime.record import JobRecord
from aetheris.store.history import Record
from aetheris.store.jobs import JobRow
from aetheris.store.seals import ErasedCell, Seal
from aetheris.store.tombstones import Tombstone

_DAY_US = 86_400_000_000


def archived(lake: Path, stone: Tombstone) -> JobRecord:
    """Return the collected job's record from the lake in this folder.

    Errors: Unusable (no lake there), Corrupt (the lake lacks part of the job, or
    a file's bytes are not what they were).
    """
    try:
        tables = open_lake(lake).tables
    except Unusable as error:
        raise Unusable(f"job {stone.job[:8]} was collected and is in the lake only: {error}") from None
    lines = _rows(tables["events"], stone, "seq", "leaf", "line")
    if len(lines) != stone.event_count or bytes(lines[-1]["leaf"]) != stone.head_leaf:
        raise Corrupt(
            f"job {stone.job[:8]}: the lake holds {len(lines)} events, its tombstone counts {stone.event_count}",
            where=str(lake),
        )
    stored = Record(
        seqs=[row["seq"] for row in lines],
        leaves=[row["leaf"] for row in lines],
        lines=[row["line"].encode() for row in lines],
    )
    for row in _rows(tables["cells"], stone, "seq", "name", "salt", "body"):
        body = None if row["body"] is None else row["body"].encode()
        stored.cells[row["seq"], row["name"]] = Cell(row["seq"], row["name"], row["salt"], body)
    ledger = [_transition(row) for row in _rows(tables["ledger"], stone, *_LEDGER)]
    seals = _rows(tables["seals"], stone, "seal", "dsse", "tlog_proof", "timestamp")
    erased = _rows(tables["erasures"], stone, "seq", "name", "audit_seq")
    return JobRecord(
        _row(stone, stored),
        stored,
        ledger,
        _seal(seals[0]) if seals else None,
        [ErasedCell(**row) for row in erased],
    )


_LEDGER = (
    "seq", "step", "attempt", "tool_name", "effect", "status", "epoch", "outcome", "idempotency_key", "args_hash",
    "result_hash",
)  # fmt: skip


def _rows(table: OpenedTable, stone: Tombstone, *columns: str) -> list[dict[str, Any]]:
    files = [f for f in table.files if _can_hold(f.path, stone)]
    for file in files:
        check_bytes(table.folder, file)
    order = [name for name in ("seq", "name") if name in columns]
    wanted = ["job_id", *columns]
    rows = read_files(table.folder, table.shape, files, wanted, tenant=stone.tenant, jobs=[stone.job])
    rows = rows.drop_columns(["job_id"])
    return list((rows.sort_by([(name, "ascending") for name in order]) if order else rows).to_pylist())


def _can_hold(path: str, stone: Tombstone) -> bool:
    # Rows are partitioned by the day they were written: none of the job's before it was created.
    partition = layout.partition_of(path)
    first = int(stone.created_at.timestamp() * 1_000_000) // _DAY_US
    return partition is None or (partition[0] == stone.tenant and partition[1] >= first)


def _row(stone: Tombstone, stored: Record) -> JobRow:
    told = [events.read(stored.lines[0]), events.read(stored.lines[-1])]
    return JobRow(
        tenant=stone.tenant,
        job=stone.job,
        agent=stone.agent,
        agent_version=str(told[0].data.get("agent_version", "")),
        status=STATUS_AFTER[told[1].type],
        key=stone.key,
        head_seq=stone.event_count,
        head_leaf=stone.head_leaf,
        epoch=told[1].epoch,
        open_calls=0,
        created_at=stone.created_at,
        updated_at=stone.ended_at,
        lease_owner=None,
    )


def _seal(row: dict[str, Any]) -> Seal:
    dsse, proof = (None if row[name] is None else row[name].encode() for name in ("dsse", "tlog_proof"))
    return Seal(row["seal"].encode(), dsse, proof, row["timestamp"])


def _transition(row: dict[str, Any]) -> Transition:
    digests = {name: (row[name] or b"").hex() for name in ("idempotency_key", "args_hash", "result_hash")}
    return Transition(**{**row, **digests})
