"""Erasure in the lake: rows rewritten without salt and body, then every older file that still has them deleted.

A file is looked into by its rows, not by its bytes: Parquet compresses. Only
two tables can hold a cell's body: `cells`, and `snapshots`, whose rows of the
job are dropped whole (they are derived). Bodies stand in no statistics and in
no manifest (schema.py), so metadata needs no rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aetheris.domain.errors import Corrupt
from aetheris.lake import layout
from aetheris.lake.rewrite import Rewritten, rewrite
from aetheris.lake.tables import Head, files_at

HOLDERS = ("cells", "snapshots")
#: (tenant, job) -> cells as (seq, name)
Wanted = Mapping[tuple[str, str], list[tuple[int, str]]]


def holding(folder: Path, table: str, wanted: Wanted) -> list[Path]:
    """Return every file under the table's folder, named by the index or not, that still holds what is wanted.

    Errors: Corrupt for a data file that can't be read: what it holds can't be told.
    """
    tenants = sorted({tenant for tenant, _ in wanted})
    return [p for t in tenants for p in _files(folder / table / "data" / t) if _holds(p, table, wanted)]


def erase_from(head: Head, folder: Path, wanted: Wanted) -> Rewritten | None:
    """Commit the table without what is wanted; None when its current files hold nothing of it. Errors as `rewrite`."""
    name = head.shape.name
    # Nobody else's are looked into: a damaged file of one tenant must not keep what another wants gone.
    whose = {None, *(tenant for tenant, _ in wanted)}
    current = [f.path for f in files_at(head, folder, None, ()) if layout.tenant_of(f.path) in whose]
    paths = [path for path in current if _holds(folder / path, name, wanted)]
    if not paths:
        return None

    def without(rows: pa.Table) -> pa.Table:
        hit = _hits(rows, name, wanted)
        if name != "cells":
            return rows.filter(pc.invert(hit))
        for column in ("salt", "body"):
            place = rows.schema.get_field_index(column)
            empty = pa.scalar(None, rows.schema.field(column).type)
            rows = rows.set_column(place, rows.schema.field(column), pc.if_else(hit, empty, rows[column]))
        return rows

    return rewrite(head, folder, paths, without)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _holds(path: Path, table: str, wanted: Wanted) -> bool:
    columns = ["tenant_id", "job_id", "seq", "name", "salt", "body"] if table == "cells" else ["tenant_id", "job_id"]
    jobs = pa.array([job for _, job in wanted])
    try:
        rows = pq.read_table(path, columns=columns, filters=pc.field("job_id").isin(jobs), partitioning=None)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        text = f"{path}: can't be read, so what it holds can't be told ({' '.join(str(error).split())[:120]})"
        raise Corrupt(text, where=str(path)) from None
    return bool(pc.any(_hits(rows, table, wanted)).as_py())


def _hits(rows: pa.Table, table: str, wanted: Wanted) -> pa.Array:
    """Return which rows hold what is wanted: a cell's with salt or body, any snapshot's of the job."""
    jobs = zip(rows["tenant_id"].to_pylist(), rows["job_id"].to_pylist(), strict=True)
    if table != "cells":
        return pa.array([job in wanted for job in jobs], pa.bool_())
    there = pc.or_(pc.is_valid(rows["salt"]), pc.is_valid(rows["body"])).to_pylist()
    cells = zip(rows["seq"].to_pylist(), rows["name"].to_pylist(), strict=True)
    sought = {job: set(names) for job, names in wanted.items()}
    hits = [full and cell in sought.get(job, ()) for job, cell, full in zip(jobs, cells, there, strict=True)]
    return pa.array(hits, pa.bool_())
