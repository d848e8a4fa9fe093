"""Packages spoilt on purpose, one layer at a time: what an auditor tries before believing a verdict.

Each is made as a clever hand would make it: what follows from the change
(leaves, manifest, seal) follows it, as far as it can without the key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aetheris.domain import canonical, events, merkle
from aetheris.evidence import Package, archive, format, open_package, seal, verify
from aetheris.evidence.dsse import Signer
from aetheris.evidence.parts import Parts, joined, members, sha256, with_manifest
from aetheris.evidence.redaction import parts_of
from aetheris.evidence.source import SealMembers
from aetheris.evidence.statement import PAYLOAD_TYPE


@dataclass(frozen=True, slots=True)
class Tampered:
    """A spoilt package: the layer that it aims at, what was done, and its bytes."""

    layer: str
    done: str
    data: bytes


def tampered(package: Path) -> list[Tampered]:
    """Return a package spoilt in each layer that a package without log and timestamp has. Errors: as `open_package`."""
    given = open_package(package)
    if verify(package).failed:
        raise ValueError("spoil a sound package: this one fails as it is")
    return [Tampered(layer, done, make(given)) for layer, (done, make) in _WAYS.items()]


def _container(given: Package) -> bytes:
    return given.data + b"\0"


def _integrity(given: Package) -> bytes:
    lines = list(given.lines(format.EVENTS))
    lines[1] = lines[1].replace(b'"by":"', b'"by":"x', 1)
    return _with(given, {format.EVENTS: joined(lines)})


def _completeness(given: Package) -> bytes:
    lines = list(given.lines(format.EVENTS))[:-1]
    rows = [row for row in given.lines(format.DISCLOSURES) if json.loads(row)["seq"] <= len(lines)]
    leaves = given.member(format.LEAVES)[: 32 * len(lines)]
    changed = {format.EVENTS: joined(lines), format.LEAVES: leaves, format.DISCLOSURES: joined(rows)}
    return _with(given, changed)


def _ledger(given: Package) -> bytes:
    rows = list(given.lines(format.INVOCATIONS))
    first = json.loads(rows[0])
    rows[0] = canonical.dumps(first | {"tool_name": first["tool_name"] + "_2"})
    return _with(given, {format.INVOCATIONS: joined(rows)})


def _authenticity(given: Package) -> bytes:
    stranger = Signer("stranger", b"\x07" * 32)
    envelope = json.loads(stranger.envelope(PAYLOAD_TYPE, given.member(format.SEAL)))
    if format.SEAL_DSSE in given:  # under the true signer's name
        true = json.loads(given.member(format.SEAL_DSSE))
        envelope["signatures"][0]["keyid"] = true["signatures"][0]["keyid"]
    return _with(given, {format.SEAL_DSSE: canonical.dumps(envelope)})


def _time(given: Package) -> bytes:
    """Date the last event before the one that it follows, and rebuild chain, leaves and seal over it."""
    parts = parts_of(given)
    lines = list(parts.lines)
    last = json.loads(lines[-1])
    lines[-1] = canonical.dumps(last | {"at": json.loads(lines[-2])["at"] - 1})
    leaves = [merkle.leaf_hash(line) for line in lines]
    old, _ = seal.loads(given.member(format.SEAL))
    new = replace(old, head_leaf=leaves[-1].hex(), merkle_root=merkle.root(leaves).hex())
    statement = seal.dumps(new, sha256(joined(lines)))
    rebuilt: Parts = replace(parts, lines=lines, seal=SealMembers(statement))
    assert events.read(lines[-1]).seq == len(lines)
    return archive.build(members(rebuilt))


def _disclosure(given: Package) -> bytes:
    rows = [json.loads(row) for row in given.lines(format.DISCLOSURES)]
    shown = [row for row in rows if row.get("salt")]
    shown[0]["salt"], shown[1]["salt"] = shown[1]["salt"], shown[0]["salt"]
    return _with(given, {format.DISCLOSURES: joined([canonical.dumps(row) for row in rows])})


def _with(given: Package, changed: dict[str, bytes]) -> bytes:
    whole = {name: given.member(name) for name in given.spans} | changed
    return archive.build(with_manifest(given.manifest.tenant, given.manifest.job, whole, damaged=False))


_WAYS: dict[str, tuple[str, Callable[[Package], bytes]]] = {
    "container": ("one byte added behind the archive", _container),
    "integrity": ("another actor written into event 2", _integrity),
    "completeness": ("the last event left out", _completeness),
    "ledger": ("another tool's name in a row of the ledger", _ledger),
    "authenticity": ("signed by a stranger in the signer's name", _authenticity),
    "time": ("the last event dated before its predecessor, chain and seal rebuilt", _time),
    "disclosure": ("the salts of two cells exchanged", _disclosure),
}
