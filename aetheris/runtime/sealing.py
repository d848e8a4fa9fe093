"""Sealing: what a finished job was, said once and kept, before anything of it may leave.

A job is sealed when a verifier would pass its whole record at that moment. One
that contradicts itself is never sealed; it is marked, told of, and stays where
it is until a person looks. Several sealers at once do no harm: the first seal
stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from aetheris.domain.audit import Entry
from aetheris.domain.errors import Corrupt, Refused
from aetheris.evidence import LIMITS, Erasure, Source, dsse, seal_statement
from aetheris.evidence.dsse import PublicKey, Signer
from aetheris.evidence.dsse import signer as made_signer
from aetheris.evidence.statement import PAYLOAD_TYPE
from aetheris.runtime import metrics
from aetheris.runtime.audit import entry
from aetheris.runtime.config import EvidenceSigning
from aetheris.runtime.export import members
from aetheris.store import audit, history, seals
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database, transaction

JOBS_PER_ROUND = 500
EVENTS_PER_BATCH = 20_000

log = logging.getLogger(__name__)

KEY_MISSING = (
    "security.evidence_signing is enabled and there is no key: set AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY "
    "(`aetheris keys new NAME` makes one)"
)


def signer_of(keys: EvidenceSigning) -> Signer | None:
    """Return who signs seals, or None where signing is off. Errors: Refused, when it is on and no key is given."""
    if lacks_key(keys):
        raise Refused(KEY_MISSING)
    return signer_here(keys)


def lacks_key(keys: EvidenceSigning) -> bool:
    """Return whether signing is on and this process was given no key, as one may not be that seals nothing."""
    return keys.enabled and keys.private_key_base64 is None


def signer_here(keys: EvidenceSigning) -> Signer | None:
    """Return who signs in this process, or None where signing is off or the key isn't here.

    Errors: Refused, for a key that is none.
    """
    if not keys.enabled or keys.private_key_base64 is None:
        return None
    return made_signer(keys.key_id, keys.private_key_base64.get_secret_value())


def signature_holds(public: PublicKey, statement: bytes, envelope: bytes) -> bool:
    """Return whether the stored envelope is this key's over this statement, and count what was found."""
    try:
        found = dsse.loads(envelope, LIMITS.document_bytes)
    except Corrupt:
        ok = False
    else:
        message = dsse.pae(PAYLOAD_TYPE, statement)
        whole = found.payload_type == PAYLOAD_TYPE and found.payload == statement
        ok = whole and any(public.verifies(signature, message) for _, signature in found.signatures)
    metrics.signature_checked(ok=ok)
    return ok


def signed(signer: Signer, statement: bytes) -> bytes:
    """Return the envelope over a statement. Errors: Corrupt, where it would not verify.

    What is kept or handed out is what verifies: a signature spoilt in the making would stand for ever.
    """
    envelope = signer.envelope(PAYLOAD_TYPE, statement)
    if not signature_holds(signer.public, statement, envelope):
        raise Corrupt("its signature does not verify")
    return envelope


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one round did; `broken` are jobs whose record contradicts itself, each with the reason."""

    count: int
    broken: tuple[tuple[JobKey, str], ...]
    more: bool


async def seal_finished(
    database: Database, *, by: str, signer: Signer | None = None, limit: int = JOBS_PER_ROUND
) -> Sealed:
    """Seal up to `limit` finished jobs that have no seal yet; each batch is on its tenants' audit chains.

    Errors: Unreachable, Unusable.
    """
    count = 0
    broken: list[tuple[JobKey, str]] = []
    async with await database.connect("keeper") as connection:
        waiting = await seals.unsealed(connection, limit)
        for batch in _batches(waiting):
            sources = [await source_of(connection, key) for key in batch]
            judged = await asyncio.to_thread(lambda sources=sources: [_judge(s, signer) for s in sources])  # type: ignore[misc]
            good = [(key, *said) for key, (said, _) in zip(batch, judged, strict=True) if said is not None]
            bad = [(key, why) for key, (said, why) in zip(batch, judged, strict=True) if said is None]
            async with transaction(connection):
                count += await seals.put(connection, good, [key for key, _ in bad])
                for tenant in sorted({tenant for tenant, _ in batch}):
                    await audit.append(connection, tenant, _entries(tenant, by, good, bad))
            for key, why in bad:
                log.error("job %s of %s can't be sealed: %s", key[1][:8], key[0], why)
            broken += bad
    return Sealed(count, tuple(broken), len(waiting) == limit)


async def source_of(connection: Connection, key: JobKey) -> Source:
    """Return the job as a package's source, its seal and its erasures included."""
    tenant, job = key
    record = (await history.load(connection, [key], [1]))[key]
    ledger = await history.load_ledger(connection, tenant, job)
    erased = [Erasure(e.seq, e.name, e.audit_seq) for e in await seals.erased(connection, tenant, job)]
    return Source(
        tenant, job, record.lines, list(record.cells.values()), ledger, erased,
        seal=members(await seals.find(connection, tenant, job)),
    )  # fmt: skip


def _judge(source: Source, signer: Signer | None) -> tuple[tuple[bytes, bytes | None] | None, str]:
    try:
        statement = seal_statement(source)
        return (statement, None if signer is None else signed(signer, statement)), ""
    except (Corrupt, Refused) as error:
        return None, str(error)


def _batches(waiting: Sequence[tuple[JobKey, int]]) -> list[list[JobKey]]:
    batches: list[list[JobKey]] = []
    room = 0
    for key, events in waiting:
        if not batches or events > room:
            batches.append([])
            room = EVENTS_PER_BATCH
        batches[-1].append(key)
        room -= events
    return batches


def _entries(
    tenant: str,
    by: str,
    good: Sequence[tuple[JobKey, bytes, bytes | None]],
    bad: Sequence[tuple[JobKey, str]],
) -> list[Entry]:
    sealed = [key[1] for key, _, _ in good if key[0] == tenant]
    entries = [entry("seal_jobs", by=by, resource_id=sealed[0], data={"jobs": len(sealed)})] if sealed else []
    return entries + [
        entry("seal_jobs", by=by, success=False, resource_id=key[1]) for key, _ in bad if key[0] == tenant
    ]
