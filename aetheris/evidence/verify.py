"""Verifies an evidence package: eight layers, in order, each passed, failed or not shown.

    1  container      the archive is the one that the writer writes; the manifest lists its members
    2  integrity      lines, hashes, links, Merkle root
    3  completeness   as many events as the seal counts, from a first to a last
    4  ledger         events and tool ledger tell one story
    5  authenticity   the seal is well formed, over these bytes, and signed by a key that the verifier was given
    6  log            its place in a transparency log
    7  time           events in order of time; when it was sealed needs a timestamp
    8  disclosure     every cell shown true, or missing for a reason

After a failed container nothing else is judged. The standard library and
`cryptography` are all this stands on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from aetheris.domain.errors import Corrupt, Unusable
from aetheris.evidence import authenticity, disclosure, format, seal, story
from aetheris.evidence.disclosure import Counts
from aetheris.evidence.dsse import PublicKey
from aetheris.evidence.format import LIMITS, Limits
from aetheris.evidence.reader import Package, open_package
from aetheris.evidence.seal import Seal
from aetheris.evidence.story import Story
from aetheris.evidence.trust import given
from aetheris.evidence.verdict import (
    BROKEN,
    LAYERS,
    NOT_SHOWN,
    UNUSABLE,
    Findings,
    Layer,
    Verdict,
    exit_code,
)


def verify(source: Path | bytes, *, trust: Path | bytes | None = None, limits: Limits = LIMITS) -> Verdict:
    """Return what can be said of a package; no input makes it raise, write, or reach out.

    `trust` is a file of public keys, or its bytes, to hold the seal's signature
    against (trust.py). Errors: Refused, for a file that is none.
    """
    trusted = given(trust)
    try:
        package = open_package(source, limits)
        return judge(package, trusted)
    except Unusable as error:
        return _stopped(UNUSABLE, str(error), "")
    except Corrupt as error:
        return _stopped(BROKEN, str(error), error.where, error.expected, error.found)


def judge(package: Package, trusted: Sequence[PublicKey] = ()) -> Verdict:
    """Return the verdict on a package whose container is sound, given these keys. Errors: Unusable beyond a limit."""
    findings = Findings()
    the_story = story.read(package, findings)
    rows = disclosure.read_rows(package, findings)
    the_seal = _read_seal(package, findings)
    story.check_binding(package, the_story, the_seal, findings)
    story.check_completeness(the_story, the_seal, findings)
    story.check_ledger(package, the_story, the_seal, findings)
    signer = authenticity.check(package, trusted, the_story.last.at if the_story.last else None, findings)
    counts = disclosure.check(package, the_story, rows, findings)
    if package.manifest.damaged and not any(findings.by_layer.values()):
        # Whoever exported it saw damage: a package that can't show it must not pass for sound.
        findings.add("integrity", "the exporter marked it damaged", format.MANIFEST)
    unsigned = "" if format.SEAL_DSSE in package else "no signature over a seal"
    whose = authenticity.whose(signer, trusted, did="sealed", unsigned=unsigned)
    layers = _layers(package, the_story, the_seal, counts, findings, whose)
    manifest = package.manifest
    return Verdict(layers, exit_code(layers), manifest.tenant, manifest.job, manifest.damaged)


def _read_seal(package: Package, findings: Findings) -> Seal | None:
    data = package.member(format.SEAL) if format.SEAL in package else None
    digest = None if data is None else hashlib.sha256(data).hexdigest()
    if package.manifest.seal != digest:
        what = "the manifest names another seal"
        findings.add("authenticity", what, format.MANIFEST, package.manifest.seal or "none", digest or "none")
    if data is None:
        return None
    try:
        the_seal, subject = seal.loads(data)
    except Corrupt as error:
        findings.add("authenticity", str(error), format.SEAL, error.expected, error.found)
        return None
    events_sha256 = hashlib.sha256(package.member(format.EVENTS)).hexdigest()
    if fault := seal.subject_fault(subject, events_sha256):
        findings.add("authenticity", fault, format.SEAL)
    return the_seal


def _layers(
    package: Package,
    story: Story,
    the_seal: Seal | None,
    counts: Counts,
    findings: Findings,
    whose: tuple[str, str],
) -> tuple[Layer, ...]:
    sealed = format.SEAL in package
    unsealed = "" if the_seal else ("the seal can't be read" if sealed else "no seal: nothing says how many events")
    judged = (
        ("container", f"{len(package.spans)} members, stored, no bytes between them", ""),
        ("integrity", f"{story.count} events, head {story.head[:8]}…", ""),
        ("completeness", f"{story.count} of {story.count} counted by the seal", unsealed),
        ("ledger", f"{len(story.rows)} call{'' if len(story.rows) == 1 else 's'}, events and ledger agree", ""),
        ("authenticity", *whose),
        ("log", "", _absent(package, format.TLOG_PROOF, "log proof")),
        ("time", "", _absent(package, format.TIMESTAMP, "timestamp")),
        ("disclosure", _shown(counts), ""),
    )
    return tuple(findings.layer(name, passed, not_shown=reason) for name, passed, reason in judged)


def _absent(package: Package, name: str, thing: str) -> str:
    if name in package:
        return f"a {thing} is here, but no key was given to check it by"
    return f"no {thing} in this package"


def _shown(counts: Counts) -> str:
    words = [f"{counts.shown} of {counts.total} cells shown"]
    words += [f"{counts.redacted} redacted"] if counts.redacted else []
    words += [f"{counts.erased} erased on record"] if counts.erased else []
    return ", ".join(words)


def _stopped(code: int, what: str, where: str, expected: str = "", found: str = "") -> Verdict:
    findings = Findings()
    findings.add("container", what, where, expected, found)
    rest = (Layer(name, NOT_SHOWN, "the container failed") for name in LAYERS[1:])
    return Verdict((findings.layer("container", ""), *rest), code)
