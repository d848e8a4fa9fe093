"""From a job's record in the store to the source of its evidence."""

from __future__ import annotations

from aetheris.evidence import Erasure, SealMembers, Source
from aetheris.runtime.record import JobRecord
from aetheris.store.seals import Seal


def evidence_source(record: JobRecord) -> Source:
    """Return what an evidence package of this job is made of, byte for byte as stored."""
    row = record.row
    return Source(
        tenant=row.tenant,
        job=row.job,
        lines=record.stored.lines,
        cells=list(record.stored.cells.values()),
        transitions=record.ledger,
        erasures=[Erasure(e.seq, e.name, e.audit_seq) for e in record.erased],
        head=(row.head_seq, row.head_leaf.hex()),
        seal=members(record.seal),
    )


def members(seal: Seal | None) -> SealMembers:
    """Return a stored seal as the members of a package."""
    return SealMembers() if seal is None else SealMembers(seal.statement, seal.dsse, seal.tlog_proof, seal.timestamp)
