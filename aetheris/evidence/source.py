"""What a package is made of: one job as the store or the lake holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aetheris.domain.cells import Cell
from aetheris.domain.ledger import Transition


@dataclass(frozen=True, slots=True)
class Erasure:
    """One cell's erasure as the tenant's audit chain records it, at its entry `audit_seq`."""

    seq: int
    name: str
    audit_seq: int


@dataclass(frozen=True, slots=True)
class SealMembers:
    """What was made once, when the job was sealed, and is stored: the same bytes in every export.

    `statement` is `seal.json`, `dsse` the signature over it, `tlog_proof` its
    place in the transparency log, `timestamp` an RFC 3161 token over it.
    """

    statement: bytes | None = None
    dsse: bytes | None = None
    tlog_proof: bytes | None = None
    timestamp: bytes | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One job: its lines, byte for byte and without LF, and everything kept beside them.

    `cells` and `transitions` come in any order. A cell whose salt and body are
    None is erased if `erasures` says so, else missing. A cell named
    `artifact/...` is a file, of any bytes. `head` is what the job's own row
    says of (last seq, leaf in hex), where there is such a row. `trust` maps
    member names below `trust/` to keys or certificates.
    """

    tenant: str
    job: str
    lines: Sequence[bytes]
    cells: Sequence[Cell] = ()
    transitions: Sequence[Transition] = ()
    erasures: Sequence[Erasure] = ()
    head: tuple[int, str] | None = None
    seal: SealMembers = field(default_factory=SealMembers)
    trust: Mapping[str, bytes] = field(default_factory=dict)
