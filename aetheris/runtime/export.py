"""From a job's record in the store to the source of its evidence."""

from __future__ import annotations

from aetheris.evidence import Source
from aetheris.runtime.record import JobRecord


def evidence_source(record: JobRecord) -> Source:
    """Return what an evidence package of this job is made of, byte for byte as stored."""
    row = record.row
    return Source(
        tenant=row.tenant,
        job=row.job,
        lines=record.stored.lines,
        cells=list(record.stored.cells.values()),
        transitions=record.ledger,
        head=(row.head_seq, row.head_leaf.hex()),
    )
