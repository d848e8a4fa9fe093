"""A tenant's audit chain as a file: its lines, byte for byte as hashed, each ending in one LF, and nothing else.

The first line binds tenant and format, each later one its predecessor, so the
file needs no wrapping to be verified. Who exported it, and how many entries it
had then, says the signature beside it, if there is one (audit_statement.py);
it is judged as a package's seal is. What neither can show is what came later,
or was left out by the exporter: hold the chain against a head that was noted
elsewhere (`head`, or any later export, which must begin with the same lines).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aetheris.domain import audit, canonical, events
from aetheris.domain.audit import Chain, Head, Line
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.domain.plain import printable
from aetheris.evidence import audit_statement, authenticity, overwrite, whole
from aetheris.evidence.audit_statement import Export, signature_path
from aetheris.evidence.dsse import PublicKey
from aetheris.evidence.format import LIMITS
from aetheris.evidence.statement import PAYLOAD_TYPE
from aetheris.evidence.trust import given
from aetheris.evidence.verdict import BROKEN, LAYERS, UNUSABLE, Findings, Layer, Verdict, exit_code
from aetheris.evidence.whole import write_whole

MEDIA_TYPE = "application/jsonl"
SUFFIX = ".jsonl"
_FORMAT_FAMILY = audit.FORMAT.rpartition("/")[0] + "/"


def write(tenant: str, lines: Iterable[Line], out: BinaryIO) -> Head:
    """Write the whole chain to `out` and return its head. Errors: Corrupt at a broken entry: then it is no evidence."""
    chain = Chain(tenant)
    for line in lines:
        chain.add(line.line, line.leaf)
        out.write(line.line + b"\n")
    return chain.head


def end_of(path: Path) -> Head:
    """Return the head of the chain in a file, every line of it checked. Errors: Corrupt, Unusable."""
    chain = None
    for line in _lines(path):
        chain = Chain(_tenant(line)) if chain is None else chain
        chain.add(line)
    assert chain is not None  # an empty file is refused
    return chain.head


def deliver(data: bytes, signature: bytes | None, path: Path) -> None:
    """Write a chain's bytes to `path` and its signature beside it, both or neither; without one, none stays there.

    Errors: Refused when they can't be written there, or when what is there is neither an exported chain nor a
    signature of one.
    """
    overwrite.keep_other_than_chain(path)
    write_whole(path, data, beside=(signature_path(path), signature))


def land(partial: Path, signature: bytes | None, path: Path) -> None:
    """Put a chain that has arrived at `path`, as `deliver` does. Errors: OSError, Refused."""
    overwrite.keep_other_than_chain(path)
    whole.land(partial, path, beside=(signature_path(path), signature))


def is_chain(path: Path) -> bool:
    """Return whether a file is to be read as an audit chain: by its name, so that a broken one still is."""
    return path.suffix == SUFFIX


def verify(path: Path, *, head: str | None = None, trust: Path | bytes | None = None) -> Verdict:
    """Return what can be said of an exported audit chain and of the signature beside it; neither makes it raise.

    `head` is a leaf in hex, noted elsewhere, that the chain must hold. `trust`
    is a file of public keys, or its bytes, to hold the signature against.
    Errors: Refused, for keys that are none.
    """
    trusted = given(trust)
    findings = Findings()
    try:
        signature = _signature(path)
        read = _read(path, head, findings)
    except Unusable as error:
        findings.add("container", str(error))
        return Verdict((findings.layer("container", ""), *_rest("it can't be read")), UNUSABLE)
    except Corrupt as error:
        findings.add("container", str(error))
        return Verdict((findings.layer("container", ""), *_rest("the container failed")), BROKEN)
    end, name = read.chain.head, signature_path(path).name
    said, key = (None, None) if signature is None else _judge(signature, name, read, trusted, findings)
    if not (read.seen or read.broken):
        findings.add("completeness", "the head that you gave is not in this chain", "", head or "", end.leaf.hex())
    counted = [f"{end.seq} of {end.seq} counted by the signature"] if said and not read.broken else []
    counted += ["the head that you gave is in it"] if head and read.seen else []
    unsigned = "no signature beside this file" if signature is None else ""
    whose, unknown = authenticity.whose(key, trusted, did="signed", unsigned=unsigned)
    layers = (
        findings.layer("container", "lines of one form, each ended"),
        findings.layer("integrity", f"{end.seq} entries, head {end.leaf.hex()[:16]}…"),
        findings.layer("completeness", ", ".join(counted), not_shown="" if counted else _uncounted(read, signature)),
        findings.layer("ledger", "", not_shown="an audit chain holds no calls"),
        findings.layer("authenticity", whose, not_shown=unknown),
        findings.layer("log", "", not_shown="no log proof in this file"),
        findings.layer("time", "", not_shown="no timestamp in this file"),
        findings.layer("disclosure", "", not_shown="an audit chain has no cells"),
    )
    return Verdict(layers, exit_code(layers), read.chain.tenant, "")


@dataclass(slots=True)
class _Read:
    """A file whose lines were all read: the chain up to its first break, and the digest of the whole."""

    chain: Chain
    sha256: str
    seen: bool
    broken: bool


def _read(path: Path, head: str | None, findings: Findings) -> _Read:
    digest = hashlib.sha256()
    chain, seen, broken = None, head is None, False
    for line in _lines(path):
        digest.update(line + b"\n")
        if chain is None:
            chain = Chain(_tenant(line))
        if broken:
            continue
        try:
            chain.add(line)
        except Corrupt as error:
            findings.add("integrity", str(error).partition(": ")[2], error.where, error.expected, error.found)
            broken = True
        seen = seen or chain.head.leaf.hex() == head
    assert chain is not None
    return _Read(chain, digest.hexdigest(), seen, broken)


def _judge(
    data: bytes, name: str, read: _Read, trusted: Sequence[PublicKey], findings: Findings
) -> tuple[Export | None, PublicKey | None]:
    """Return what the signature says of the chain, and the given key that made it; note where either is wrong."""
    envelope = authenticity.envelope(data, name, PAYLOAD_TYPE, LIMITS.document_bytes, findings)
    if envelope is None:
        return None, None
    try:
        said, subject = audit_statement.loads(envelope.payload)
    except Corrupt as error:
        findings.add("authenticity", str(error), name, error.expected, error.found)
        return None, None
    if fault := audit_statement.subject_fault(subject, read.sha256):
        findings.add("authenticity", fault, name)
    _compare(said, name, read, findings)
    key = authenticity.signer(envelope, name, trusted, findings)
    if key is not None:
        what = "the chain was exported"
        authenticity.hold_to_its_time(key, said.exported_at, name, findings, did="signed", what=what)
    return said, key


def _compare(said: Export, name: str, read: _Read, findings: Findings) -> None:
    end, tenant = read.chain.head, read.chain.tenant
    if said.tenant != tenant:
        findings.add("integrity", f"{name} names another tenant than entry 1", name, tenant, said.tenant)
    if read.broken:  # where it ends isn't known
        return
    if said.entries != end.seq:
        findings.add("completeness", "the signature counts other entries", name, said.entries, end.seq)
    elif said.head != end.leaf.hex():
        findings.add("integrity", "the signature names another head", name, said.head, end.leaf.hex())
    elif said.exported_at < end.at:
        findings.add("time", "exported before its last entry", name, f"{end.at} or later", said.exported_at)


def _uncounted(read: _Read, signature: bytes | None) -> str:
    if read.broken:
        return "the chain is broken before its end"
    return "give a head noted elsewhere to see" if signature is None else "the signature can't be read"


def _rest(why: str) -> Iterator[Layer]:
    return (Layer(name, "not shown", why) for name in LAYERS[1:])


def _tenant(line: bytes) -> str:
    first = events.read(line)
    tenant, made = first.data.get("tenant"), first.data.get("format")
    if first.type != audit.OPENED or not isinstance(tenant, str):
        raise Corrupt("the first line opens no audit chain")
    if isinstance(made, str) and made.startswith(_FORMAT_FAMILY) and made != audit.FORMAT:
        raise Unusable(f"format {made[:80]} is not one this verifier reads ({audit.FORMAT}); use a later one")
    return tenant


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines without their line feed. Errors: Unusable (can't be read), Corrupt (not lines)."""
    limit = canonical.LINE_BYTES_LIMIT
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(limit + 2):
                number += 1
                if len(line) > limit + 1:
                    raise Unusable(f"line {number} is beyond a limit ({limit} bytes a line)")
                if not line.endswith(b"\n"):
                    raise Corrupt("a line is cut off")
                yield line[:-1]
            if not number:
                raise Corrupt("the file is empty")
    except OSError as error:
        raise Unusable(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _signature(chain: Path) -> bytes | None:
    """Return what lies where a chain's signature lies, or None where nothing does. Errors: Unusable."""
    path, limit = signature_path(chain), LIMITS.document_bytes
    try:
        # Whoever laid a pipe there would have the verifier wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unusable(f"{printable(path.name)} is no file")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{printable(path.name)}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > limit:
        raise Unusable(f"{printable(path.name)} is beyond a limit ({limit} bytes)")
    return data
