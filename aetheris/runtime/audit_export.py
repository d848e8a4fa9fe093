"""A tenant's audit chain as it is handed out: its lines, and who says so where this process has a key."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from aetheris.domain.audit import Head, Line
from aetheris.domain.errors import Refused
from aetheris.evidence import audit_file, audit_statement
from aetheris.evidence.audit_statement import Export
from aetheris.evidence.dsse import Signer
from aetheris.runtime.clock import Clock
from aetheris.runtime.sealing import signed
from aetheris.store import audit
from aetheris.store.database import Connection
from aetheris.store.workers import clock_offset_us


@dataclass(frozen=True, slots=True)
class AuditExport:
    """The file's bytes, the chain's end, and the DSSE envelope over what is said of them, if anybody signed."""

    lines: bytes
    head: Head
    signature: bytes | None


async def audit_export(connection: Connection, tenant: str, signer: Signer | None) -> AuditExport:
    """Return the whole chain of the tenant that the connection is bound to, signed where a signer is given.

    Errors: Refused where there is no entry yet: a file without lines names no tenant, and nobody could tell it from
    one that lost them. Corrupt at a broken entry: nobody signs that. Unreachable.
    """
    rows = await audit.rows(connection, tenant)
    if not rows:
        raise Refused(f"the audit log of tenant {tenant} has no entry yet: there is nothing to export")
    out = io.BytesIO()
    head = audit_file.write(tenant, (Line(r.seq, r.leaf, r.line) for r in rows), out)
    lines = out.getvalue()
    if signer is None:
        return AuditExport(lines, head, None)
    # The clock that the entries have, and as in them never before the last one.
    at = max(Clock(await clock_offset_us(connection)).now_us(), head.at)
    said = Export(head.seq, at, head.leaf.hex(), tenant)
    return AuditExport(lines, head, signed(signer, audit_statement.dumps(said, hashlib.sha256(lines).hexdigest())))
