"""Whose a signed thing is: envelopes held against the keys that the verifier was given.

A package's seal and an exported audit chain are judged by the same steps:
`envelope`, `signer`, `hold_to_its_time`, `whose`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aetheris.domain.errors import Corrupt
from aetheris.evidence import dsse, format, statement
from aetheris.evidence.dsse import Envelope, PublicKey
from aetheris.evidence.reader import Package
from aetheris.evidence.verdict import Findings

MANIFEST_TYPE = "application/vnd.aetheris.manifest+json"


def check(package: Package, trusted: Sequence[PublicKey], ended_at: int | None, findings: Findings) -> PublicKey | None:
    """Note what is wrong with the package's envelopes; return the given key that sealed it, if one did.

    `ended_at` is the last event's own time, microseconds UTC: without a
    timestamp it is what a key's validity is held against.
    """
    if format.MANIFEST_DSSE in package:
        _member_signer(package, format.MANIFEST_DSSE, format.MANIFEST, MANIFEST_TYPE, trusted, findings)
    if format.SEAL_DSSE not in package or format.SEAL not in package:
        return None
    key = _member_signer(package, format.SEAL_DSSE, format.SEAL, statement.PAYLOAD_TYPE, trusted, findings)
    if key is not None:
        hold_to_its_time(key, ended_at, format.SEAL_DSSE, findings, did="sealed", what="the job ended")
    return key


def envelope(data: bytes, name: str, wanted: str, limit: int, findings: Findings) -> Envelope | None:
    """Return the envelope over a document of the `wanted` type, or note why it is none. `name` is where it stands."""
    try:
        read = dsse.loads(data, limit)
    except Corrupt as error:
        findings.add("authenticity", str(error), name)
        return None
    if read.payload_type != wanted:
        findings.add("authenticity", "the signature is over another kind of document", name, wanted, read.payload_type)
        return None
    return read


def signer(envelope: Envelope, name: str, trusted: Sequence[PublicKey], findings: Findings) -> PublicKey | None:
    """Return the given key that signed, if one did.

    A signature under the hint of a given key that this key does not verify is a
    failure; one by a stranger shows nothing.
    """
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


def hold_to_its_time(key: PublicKey, at: int | None, name: str, findings: Findings, *, did: str, what: str) -> None:
    """Note where the key can't vouch: it is revoked, or `what` happened (`at`) outside the time it is valid for."""
    if key.revoked:
        findings.add("authenticity", f"{did} by {key.name}, which is revoked", name)
    elif at is not None and not (key.not_before or 0) <= at <= (key.not_after or 2**63):
        findings.add("authenticity", f"{what} outside the time that {key.name} is valid for", name)


def whose(key: PublicKey | None, trusted: Sequence[PublicKey], *, did: str, unsigned: str) -> tuple[str, str]:
    """Return what is said of the signer where it is known, and why it is not where it is not.

    `unsigned` says that there is no signature; "" where there is one.
    """
    if key is not None:
        return f"{did} by {key.name} (given by you)", ""
    if unsigned:
        return "", unsigned
    if trusted:
        return "", "signed by a key that you did not give"
    return "", "signed, but no key was given to check it by (--trust KEY.pub)"


def _member_signer(
    package: Package, name: str, signed: str, wanted: str, trusted: Sequence[PublicKey], findings: Findings
) -> PublicKey | None:
    read = envelope(package.member(name), name, wanted, package.limits.document_bytes, findings)
    if read is None:
        return None
    if read.payload != package.member(signed):
        findings.add("authenticity", f"the signature is not over this package's {signed}", name)
        return None
    return signer(read, name, trusted, findings)
