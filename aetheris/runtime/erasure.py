"""Erasure and legal hold of one job: what a person asks for, on the tenant's audit chain with who and why.

An erasure takes salt and body of cells away; the chain still verifies, because
a line holds only the commitment. It is done in the store at once and in the
lake by `archive.erase_in_lake`; the entry of the audit chain is what tells an
erased cell from a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from aetheris.domain.errors import Conflict, Refused
from aetheris.lake import open_lake
from aetheris.runtime.audit import entry
from aetheris.store import audit, erasing, retention, tombstones
from aetheris.store.database import Connection, Database, transaction
from aetheris.store.erasing import CellKey

#: Cells that one entry of the audit chain names.
CELLS_PER_ENTRY = 100
_CELL = re.compile(r"([1-9][0-9]{0,17})/(.{1,1000})\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure took, or with `dry_run` would take; `before` were erased already."""

    job: str
    cells: tuple[CellKey, ...]
    before: tuple[CellKey, ...]
    audit_seqs: tuple[int, ...]
    dry_run: bool = False


def cell_key(text: str) -> CellKey:
    """Return the cell that SEQ/NAME names. Errors: Refused."""
    found = _CELL.match(text)
    if found is None:
        raise Refused(f"{text[:80]!r} names no cell: give EVENT/NAME, such as 4/args or 4/args/passenger/email")
    return int(found[1]), found[2]


async def erase(
    database: Database,
    lake: Path,
    tenant: str,
    job: str,
    cells: Sequence[CellKey] | None,
    *,
    by: str,
    reason: str,
    dry_run: bool = False,
) -> Erased:
    """Take these cells (None: all) of a finished job away in the store; a cell's parts go with it.

    `lake` is looked into for a job whose rows left the store. Errors: Refused
    (no such cell, no reason, the job is held or has not ended), Unreachable.
    """
    _require_reason(reason)
    async with await database.connect("keeper") as connection, transaction(connection):
        standing = await erasing.lock(connection, tenant, job)
        if standing.held is not None:
            raise Refused(f"job {job[:8]} is under legal hold ({standing.held}): release it first")
        if standing.status is None and await tombstones.find(connection, tenant, job) is None:
            raise Refused(f"no job {job[:8]} of {tenant}: nothing is erased")
        if standing.status is not None and not standing.status.terminal:
            raise Conflict(f"job {job[:8]} is {standing.status.word} and may need its values: erase when it has ended")
        before = await erasing.erased(connection, tenant, job)
        there = await _cells(connection, lake, tenant, job, collected=standing.status is None)
        wanted = _chosen(job, there, cells)
        left = sorted(wanted - before)
        done = tuple(sorted(wanted & before))
        if dry_run or not left:
            return Erased(job, tuple(left), done, (), dry_run)
        entries = [
            entry(
                "erase_cells", by=by, resource_id=job,
                data={"cells": [f"{seq}/{name}" for seq, name in part], "reason": reason},
            )
            for part in _parts(left)
        ]  # fmt: skip
        lines = await audit.append(connection, tenant, entries)
        for part, line in zip(_parts(left), lines, strict=True):
            await erasing.erase(connection, tenant, job, part, audit_seq=line.seq, by=by, reason=reason)
    return Erased(job, tuple(left), done, tuple(line.seq for line in lines))


async def hold(database: Database, tenant: str, job: str, *, by: str, reason: str) -> bool:
    """Keep the job from collection and erasure until it is released; False when it is held already. Errors: Refused."""
    _require_reason(reason)
    async with await database.connect("keeper") as connection, transaction(connection):
        placed = await retention.place_hold(connection, tenant, job, by, reason)
        if placed:
            await audit.append(connection, tenant, [entry("hold_job", by=by, resource_id=job, data={"reason": reason})])
    return placed


async def release(database: Database, tenant: str, job: str, *, by: str, reason: str) -> bool:
    """End the job's hold; False when none is open. Errors: Refused."""
    _require_reason(reason)
    async with await database.connect("keeper") as connection, transaction(connection):
        ended = await retention.release_hold(connection, tenant, job, by, reason)
        if ended:
            told = entry("release_job", by=by, resource_id=job, data={"reason": reason})
            await audit.append(connection, tenant, [told])
    return ended


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise Refused("say why: it stays on the audit chain")
    if len(reason) > 1000:
        raise Refused(f"the reason has {len(reason)} characters; 1000 stay on record")


async def _cells(connection: Connection, lake: Path, tenant: str, job: str, *, collected: bool) -> set[CellKey]:
    if not collected:
        rows = await retention.keys_of(connection, "cells", ["seq", "name"], [(tenant, job)])
        return {(seq, name) for seq, name in rows}
    table = open_lake(lake).tables["cells"].read(["job_id", "seq", "name"], tenant=tenant)
    own = table.filter(pc.equal(table["job_id"], job))
    return set(zip(own["seq"].to_pylist(), own["name"].to_pylist(), strict=True))


def _chosen(job: str, there: set[CellKey], wanted: Sequence[CellKey] | None) -> set[CellKey]:
    if wanted is None:
        return there
    chosen: set[CellKey] = set()
    for seq, name in wanted:
        found = {(s, n) for s, n in there if s == seq and (n == name or n.startswith(name + "/"))}
        if not found:
            others = ", ".join(sorted(n for s, n in there if s == seq)) or "none"
            raise Refused(f"event {seq} of job {job[:8]} has no cell {name!r} (it has {others}): nothing is erased")
        chosen |= found
    return chosen


def _parts(cells: Sequence[CellKey]) -> list[Sequence[CellKey]]:
    return [cells[at : at + CELLS_PER_ENTRY] for at in range(0, len(cells), CELLS_PER_ENTRY)]
