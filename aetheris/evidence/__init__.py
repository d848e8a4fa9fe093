"""Evidence: a job as a zip that a stranger verifies offline. No database.

    write(source, out)           a job's package, checked before it leaves
    redact(package, out, drop)   the same package without some cells, under the same seal
    seal_statement(source)       what is sealed of a finished job, once
    verify(package)              eight layers, one exit code
    open_package(package)        its members, strictly read, for whoever queries them
    keep_other_than_package(path), keep_other_than_chain(path)   refuse to overwrite what is something else
    arriving(path), land(partial, path)   a file that comes in parts: there whole, or not at all
    audit_file                   a tenant's audit chain as a file, written and verified, with its signature

The standard library and `cryptography` alone stand below all of it.
"""

from aetheris.evidence import audit_file
from aetheris.evidence.format import LIMITS, Limits
from aetheris.evidence.overwrite import keep_other_than_chain, keep_other_than_package
from aetheris.evidence.reader import Package, open_package
from aetheris.evidence.redaction import CellSelector, redact
from aetheris.evidence.source import Erasure, SealMembers, Source
from aetheris.evidence.verdict import Finding, Layer, Verdict
from aetheris.evidence.verify import verify
from aetheris.evidence.whole import arriving, land
from aetheris.evidence.writer import Summary, seal_statement, write

__all__ = [
    "LIMITS",
    "CellSelector",
    "Erasure",
    "Finding",
    "Layer",
    "Limits",
    "Package",
    "SealMembers",
    "Source",
    "Summary",
    "Verdict",
    "arriving",
    "audit_file",
    "keep_other_than_chain",
    "keep_other_than_package",
    "land",
    "open_package",
    "redact",
    "seal_statement",
    "verify",
    "write",
]
