"""An evidence zip as tables of the lake's shapes, read by our strict reader and handed to DuckDB as Arrow.

Missing cells have no row, as nothing of them is there; erased and redacted ones
stand in `erasures`, with what the disclosure says of them: a redacted one has
no audit entry (0), for it is gone from this package alone. `recorded_at`
is each event's own time: a package doesn't carry the database's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from aetheris.domain.canonical import strict_json
from aetheris.domain.errors import AetherisError, Corrupt, Unusable
from aetheris.evidence import Package, disclosures, format, open_package
from aetheris.forensics.session import Session
from aetheris.lake.schema import TABLES

Rows = list[dict[str, Any]]


def open_zip(path: Path) -> Session:
    """Return a session over an evidence zip. Errors: Unusable, Corrupt, naming the package."""
    try:
        package = open_package(path)
        return Session.over_tables(tables(package), hashlib.sha256(package.data).hexdigest(), str(path))
    except (Unusable, Corrupt) as error:
        raise type(error)(f"{path}: {error}") from None


def tables(package: Package) -> dict[str, pa.Table]:
    """Return the package's events, cells, ledger and erasures. Errors: Corrupt."""
    events, cells, erasures, ledger = _events(package), *_cells(package), _ledger(package)
    tenant, job = _whose(events)
    found = {"events": events, "cells": cells, "erasures": erasures, "ledger": ledger}
    times = {row["seq"]: row["recorded_at"] for row in events}
    for rows in found.values():
        for row in rows:
            row |= {"tenant_id": tenant, "job_id": job, "xid": 0}
            row.setdefault("recorded_at", times.get(row["seq"], 0))
    return {name: _table(name, rows) for name, rows in found.items()}


def _events(package: Package) -> Rows:
    leaves = package.member(format.LEAVES)
    rows = []
    for number, line in enumerate(package.lines(format.EVENTS)):
        value = strict_json(line)
        if type(value) is not dict or type(value.get("seq")) is not int or type(value.get("at")) is not int:
            raise Corrupt("not an event", where=f"{format.EVENTS} line {number + 1}")
        leaf = leaves[32 * number : 32 * number + 32]
        rows.append({"seq": value["seq"], "leaf": leaf, "line": line.decode(), "recorded_at": value["at"]})
    return rows


def _whose(events: Rows) -> tuple[str, str]:
    data = strict_json(events[0]["line"].encode()).get("data", {}) if events else {}
    return str(data.get("tenant", "")), str(data.get("job", ""))


def _cells(package: Package) -> tuple[Rows, Rows]:
    cells: Rows = []
    erasures: Rows = []
    for line in package.lines(format.DISCLOSURES):
        row = disclosures.read(line, package.limits.disclosure_line_bytes)
        if row.state == disclosures.SHOWN and row.slot is not None and row.salt is not None:
            body = _member(package.body, row.slot)
            if not format.is_artifact(row.name):
                cells.append({"seq": row.seq, "name": row.name, "salt": bytes.fromhex(row.salt), "body": body.decode()})
        elif row.state == disclosures.ERASED:
            told = {"audit_seq": row.audit_seq or 0, "erased_by": "", "reason": "as the package tells"}
            erasures.append({"seq": row.seq, "name": row.name, **told})
        elif row.state == disclosures.REDACTED:
            erasures.append({"seq": row.seq, "name": row.name, "audit_seq": 0, "erased_by": "", "reason": "redacted"})
    return cells, erasures


def _member(read: Callable[[format.Slot], bytes], slot: format.Slot) -> bytes:
    try:
        return read(slot)
    except KeyError:
        raise Corrupt(f"a cell's body should stand in {slot.member}, which isn't there") from None


def _ledger(package: Package) -> Rows:
    rows: Rows = []
    for line in package.lines(format.INVOCATIONS):
        call = strict_json(line)
        try:
            for place, move in enumerate(call["transitions"]):
                ends = move["status"] in ("committed", "failed", "confirmed", "resolved")
                rows.append(
                    {
                        "seq": move["seq"],
                        "step": call["step"],
                        "attempt": call["attempt"],
                        "tool_name": call["tool_name"],
                        "effect": call["effect"],
                        "status": move["status"],
                        "epoch": move["epoch"],
                        "idempotency_key": _bytes(call["idempotency_key"] if place == 0 else ""),
                        "args_hash": _bytes(call["args_hash"] if place == 0 else ""),
                        "result_hash": _bytes(call["result_hash"] if ends else ""),
                        "outcome": call["outcome"] if move["status"] in ("confirmed", "resolved") else "",
                    }
                )
        except (KeyError, TypeError, ValueError):
            raise Corrupt("not a row of the tool ledger", where=format.INVOCATIONS) from None
    return rows


def _bytes(text: str) -> bytes | None:
    return bytes.fromhex(text) if text else None


def _table(name: str, rows: Rows) -> pa.Table:
    shape = TABLES[name]
    columns = [[row[column] for row in rows] for column in shape.source]
    try:
        return pa.Table.from_batches([shape.batch(columns)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, AetherisError) as error:
        raise Corrupt(f"{name} holds what no row can: {' '.join(str(error).split())[:200]}") from None
