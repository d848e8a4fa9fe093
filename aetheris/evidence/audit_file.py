"""A tenant's audit chain as a file: its lines, byte for byte as hashed, each ending in one LF, and nothing else.

The first line binds tenant and format, each later one its predecessor, so the
file needs no wrapping to be verified. What it can't show by itself is where
the chain ends: hold it against a head that was noted elsewhere (`head`, or any
later export, which must begin with the same lines).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from aetheris.domain import audit, canonical, events
from aetheris.domain.audit import Chain, Head, Line
from aetheris.domain.errors import Corrupt, Refused
from aetheris.evidence.verdict import LAYERS, UNUSABLE, Findings, Layer, Verdict, exit_code

MEDIA_TYPE = "application/jsonl"
MAGIC = b'{"at":'
_NONE = {
    "ledger": "an audit chain holds no calls",
    "authenticity": "no signature in this file",
    "log": "no log proof in this file",
    "time": "no timestamp in this file",
    "disclosure": "an audit chain has no cells",
}


def write(tenant: str, lines: Iterable[Line], out: BinaryIO) -> Head:
    """Write the whole chain to `out` and return its head. Errors: Corrupt at a broken entry: then it is no evidence."""
    chain = Chain(tenant)
    for line in lines:
        chain.add(line.line, line.leaf)
        out.write(line.line + b"\n")
    return chain.head


def verify(path: Path, *, head: str | None = None) -> Verdict:
    """Return what can be said of an exported audit chain; no input makes it raise.

    `head` is a leaf in hex, noted elsewhere, that the chain must hold.
    """
    findings = Findings()
    chain, seen, tenant = None, head is None, ""
    try:
        for line in _lines(path):
            if chain is None:
                tenant = _tenant(line)
                chain = Chain(tenant)
            try:
                chain.add(line)
            except Corrupt as error:
                findings.add("integrity", str(error).partition(": ")[2], error.where, error.expected, error.found)
                break
            seen = seen or chain.head.leaf.hex() == head
    except Refused as error:
        findings.add("container", str(error))
        return Verdict((findings.layer("container", ""), *_rest("the file can't be read")), UNUSABLE)
    except Corrupt as error:
        findings.add("container", str(error))
        return Verdict((findings.layer("container", ""), *_rest("the container failed")), 1)
    assert chain is not None
    if not seen and not findings.by_layer["integrity"]:
        findings.add(
            "completeness", "the head that you gave is not in this chain", "", head or "", chain.head.leaf.hex()
        )
    told = {
        "container": ("lines of one form, each ended", ""),
        "integrity": (f"{chain.head.seq} entries, head {chain.head.leaf.hex()[:16]}…", ""),
        "completeness": ("the head that you gave is in it", "" if head else "give a head noted elsewhere to see"),
    }
    layers = tuple(
        findings.layer(name, told[name][0], not_shown=told[name][1]) if name in told else Layer(name, "not shown", why)
        for name, why in ((n, _NONE.get(n, "")) for n in LAYERS)
    )
    return Verdict(layers, exit_code(layers), tenant, "")


def _rest(why: str) -> Iterator[Layer]:
    return (Layer(name, "not shown", why) for name in LAYERS[1:])


def _tenant(line: bytes) -> str:
    first = events.read(line)
    tenant = first.data.get("tenant")
    if first.type != audit.OPENED or not isinstance(tenant, str):
        raise Corrupt("the first line opens no audit chain")
    return tenant


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines without their line feed. Errors: Refused (can't be read), Corrupt (not lines)."""
    limit = canonical.LINE_BYTES_LIMIT
    try:
        with open(path, "rb") as file:
            empty = True
            while line := file.readline(limit + 2):
                empty = False
                if not line.endswith(b"\n"):
                    raise Corrupt("a line is cut off, or longer than any entry")
                yield line[:-1]
            if empty:
                raise Corrupt("the file is empty")
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or str(error)).lower()}") from None
