"""Whose the seal is: envelopes held against the keys that the verifier was given."""

from __future__ import annotations

from collections.abc import Sequence

from aetheris.domain.errors import Corrupt
from aetheris.evidence import dsse, format, seal
from aetheris.evidence.dsse import Envelope, PublicKey
from aetheris.evidence.reader import Package
from aetheris.evidence.verdict import Findings

MANIFEST_TYPE = "application/vnd.aetheris.manifest+json"


def check(package: Package, trusted: Sequence[PublicKey], ended_at: int | None, findings: Findings) -> PublicKey | None:
    """Note what is wrong with the package's envelopes; return the given key that sealed it, if one did.

    A signature under the hint of a given key that this key does not verify is a
    failure; one by a stranger shows nothing. `ended_at` is the last event's own
    time, microseconds UTC: without a timestamp it is what a key's validity is
    held against.
    """
    if format.MANIFEST_DSSE in package:
        _signer(package, format.MANIFEST_DSSE, format.MANIFEST, MANIFEST_TYPE, trusted, findings)
    if format.SEAL_DSSE not in package or format.SEAL not in package:
        return None
    key = _signer(package, format.SEAL_DSSE, format.SEAL, seal.PAYLOAD_TYPE, trusted, findings)
    if key is None:
        return None
    if key.revoked:
        findings.add("authenticity", f"sealed by {key.name}, which is revoked", format.SEAL_DSSE)
    elif ended_at is not None and not (key.not_before or 0) <= ended_at <= (key.not_after or 2**63):
        findings.add("authenticity", f"the job ended outside the time that {key.name} is valid for", format.SEAL_DSSE)
    return key


def _signer(
    package: Package, name: str, signed: str, wanted: str, trusted: Sequence[PublicKey], findings: Findings
) -> PublicKey | None:
    try:
        envelope = dsse.loads(package.member(name), package.limits.document_bytes)
    except Corrupt as error:
        findings.add("authenticity", str(error), name)
        return None
    if envelope.payload_type != wanted:
        findings.add(
            "authenticity", "the signature is over another kind of document", name, wanted, envelope.payload_type
        )
        return None
    if envelope.payload != package.member(signed):
        findings.add("authenticity", f"the signature is not over this package's {signed}", name)
        return None
    return _judge(envelope, name, trusted, findings)


def _judge(envelope: Envelope, name: str, trusted: Sequence[PublicKey], findings: Findings) -> PublicKey | None:
    message = dsse.pae(envelope.payload_type, envelope.payload)
    found: list[PublicKey] = []
    for keyid, signature in envelope.signatures:
        if signature[:32] in dsse.SMALL_ORDER:
            findings.add("authenticity", "a signature whose point is of small order: it fits many messages", name)
            return None
        # The hint decides nothing: each given key is tried.
        by = next((key for key in trusted if key.verifies(signature, message)), None)
        if by is not None and by in found:
            findings.add("authenticity", f"two signatures by {by.name}: one key counts once", name)
            return None
        found += [by] if by is not None else []
        claimed = next((key for key in trusted if key.keyid == keyid), None)
        if claimed is not None and by is not claimed:
            findings.add("authenticity", f"a signature claims the key {claimed.name}, which does not verify it", name)
            return None
    return found[0] if found else None
