"""Writes a job as an evidence package: reproducible to the byte, checked before it leaves, written whole or not at all.

The writer runs the verifier over what it made. What the verifier would fail is
not handed out as sound: it raises Corrupt, unless the caller asks for damaged
evidence, which says so in its manifest and still fails where it is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from aetheris.domain import events, ledger, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.errors import AetherisError, Corrupt, Refused
from aetheris.domain.ledger import Transition
from aetheris.domain.plain import printable
from aetheris.evidence import disclosures, format, seal
from aetheris.evidence.disclosures import Disclosure
from aetheris.evidence.overwrite import keep_other_than_package
from aetheris.evidence.parts import Parts, joined, ledger_bytes, package_bytes, sha256
from aetheris.evidence.seal import Seal
from aetheris.evidence.source import Source
from aetheris.evidence.verdict import UNUSABLE, Finding, Verdict
from aetheris.evidence.verify import verify
from aetheris.evidence.whole import write_whole


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written."""

    sha256: str
    size: int
    members: int
    events: int
    shown: int
    redacted: int
    erased: int
    sealed: bool
    damaged: bool
    verdict: Verdict


def write(source: Source, out: Path | BinaryIO, *, damaged: bool = False) -> Summary:
    """Write the job's package to `out`, all of it or nothing, and return what was written.

    The same source gives the same bytes. A finished job is sealed, an
    unfinished one is not. With `damaged`, a job whose record is broken is
    written too, and marked so; a sound one is written as ever.

    Errors: Corrupt when the record contradicts itself and `damaged` is false;
    Refused when it exceeds the format's limits, can't be written there, or a
    file that is no evidence zip is there already.
    """
    return deliver(*_package(source, damaged), out)


def seal_statement(source: Source) -> bytes:
    """Return the bytes of `seal.json` for a finished job: what a verifier of its package would pass, and nothing else.

    Errors: Corrupt when the record contradicts itself; Refused when the job has
    not ended, or is too large for a package.
    """
    _, _, parts = _package(source, damaged=False)
    if parts.seal.statement is None:
        raise Refused(f"job {printable(source.job)} has not ended: there is nothing to seal yet")
    return parts.seal.statement


def _package(source: Source, damaged: bool) -> tuple[bytes, Verdict, Parts]:
    faults: list[Finding] = []
    story = _Lines(source.lines, faults)
    cells = _disclose(source, story.commits, faults)
    rows = ledger_bytes([call.row() for call in ledger.collect(_ordered(source.transitions)).values()])
    _compare_ledger(source, story.transitions, faults)
    _compare_head(source, faults)
    parts = Parts(source.tenant, source.job, list(source.lines), rows, cells, source.seal, dict(source.trust))
    if story.ended and not faults:
        parts = _sealed(parts, story, faults)
    data = package_bytes(parts)
    verdict = _own_verdict(data)
    if verdict.failed or faults:
        if not damaged:
            raise _corrupt(source, verdict, faults)
        data = package_bytes(replace(parts, damaged=True))
        verdict = _own_verdict(data)
    return data, verdict, parts


def deliver(data: bytes, verdict: Verdict, parts: Parts, out: Path | BinaryIO) -> Summary:
    """Write a package's bytes to `out`, all or nothing, and return what was written.

    Errors: Refused when it can't be written there, or a file that is no evidence zip is there already.
    """
    if isinstance(out, Path):
        keep_other_than_package(out)
        write_whole(out, data)
    else:
        out.write(data)
    states = [cell.state for cell in parts.cells]
    return Summary(
        sha256=sha256(data),
        size=len(data),
        members=int.from_bytes(data[-12:-10], "little"),
        events=len(parts.lines),
        shown=states.count(disclosures.SHOWN),
        redacted=states.count(disclosures.REDACTED),
        erased=states.count(disclosures.ERASED),
        sealed=parts.seal.statement is not None,
        damaged=verdict.damaged,
        verdict=verdict,
    )


class _Lines:
    """What the source's lines say, as far as they can be read; judging them is the verifier's."""

    def __init__(self, lines: Sequence[bytes], faults: list[Finding]) -> None:
        self.genesis: events.Event | None = None
        self.last: events.Event | None = None
        self.commits: dict[tuple[int, str], str] = {}
        self.transitions: list[Transition] = []
        for number, line in enumerate(lines, 1):
            try:
                event = events.read(line)
            except Corrupt as error:
                faults.append(Finding(str(error), f"event {number}"))
                continue
            self.genesis = self.genesis or event
            self.last = event
            self.commits |= {(event.seq, name): commit for name, commit in event.cells.items()}
            transition = ledger.transition_of(event)
            self.transitions += [transition] if transition else []

    @property
    def ended(self) -> bool:
        return self.last is not None and self.last.type in events.TERMINAL_TYPES


def _disclose(source: Source, commits: dict[tuple[int, str], str], faults: list[Finding]) -> list[Disclosure]:
    stored = {(cell.seq, cell.name): cell for cell in source.cells}
    erased = {(e.seq, e.name): e.audit_seq for e in source.erasures}
    for seq, name in sorted(stored.keys() - commits.keys()):
        faults.append(Finding("stored, and no event commits to it", f"event {seq}, cell {name}"))
    shown = []
    for key in commits:
        cell = stored.get(key, Cell(*key, None, None))
        shown.append(_disclosure(cell, erased.get(key), faults))
    return shown


def _disclosure(cell: Cell, audit_seq: int | None, faults: list[Finding]) -> Disclosure:
    where = f"event {cell.seq}, cell {cell.name}"
    if audit_seq is not None:
        if cell.salt is not None or cell.body is not None:
            faults.append(Finding("erased on record, and still stored", where))
        return Disclosure(cell.seq, cell.name, disclosures.ERASED, audit_seq=audit_seq)
    if cell.salt is None or cell.body is None:
        faults.append(Finding("missing: no erasure is on record", where))
        return Disclosure(cell.seq, cell.name, disclosures.MISSING)
    return Disclosure(cell.seq, cell.name, disclosures.SHOWN, cell.salt, cell.body)


def _ordered(transitions: Sequence[Transition]) -> list[Transition]:
    return sorted(transitions, key=lambda t: t.seq)


def _compare_ledger(source: Source, told: list[Transition], faults: list[Finding]) -> None:
    # Whole rows: the exported ones leave out what each transition carried.
    stored = _ordered(source.transitions)
    if stored == told:
        return
    odd = min((t.seq for t in set(stored) ^ set(told)), default=0)
    what = "the ledger's row is not what the event says" if odd else "the ledger holds one row twice"
    faults.append(Finding(what, f"event {odd}" if odd else "ledger"))


def _compare_head(source: Source, faults: list[Finding]) -> None:
    if source.head is None:
        return
    found = (len(source.lines), merkle.leaf_hash(source.lines[-1]).hex() if source.lines else events.GENESIS_PREV)
    if found != tuple(source.head):
        expected = f"{source.head[0]} events, head {source.head[1]}"
        faults.append(
            Finding("the job's row names another head", "job", expected, f"{found[0]} events, head {found[1]}")
        )


def _sealed(parts: Parts, story: _Lines, faults: list[Finding]) -> Parts:
    if story.genesis is None or story.genesis.type != "job_created":
        return parts
    leaves = [merkle.leaf_hash(line) for line in parts.lines]
    statement = seal.dumps(
        Seal(
            config_sha256=story.genesis.data["config_sha256"],
            event_count=len(leaves),
            head_leaf=leaves[-1].hex(),
            invocation_count=len(parts.rows),
            job=parts.job,
            ledger_sha256=sha256(joined(parts.rows)),
            merkle_root=merkle.root(leaves).hex(),
            tenant=parts.tenant,
        ),
        sha256(joined(parts.lines)),
    )
    if parts.seal.statement not in (None, statement):
        # The stored seal is the older witness: it stays, and the package fails against it.
        faults.append(Finding("the stored seal is not over these events and this ledger", format.SEAL))
        return parts
    return replace(parts, seal=replace(parts.seal, statement=statement))


def _own_verdict(data: bytes) -> Verdict:
    verdict = verify(data)
    if verdict.exit_code == UNUSABLE:
        raise Refused(f"the job is too large for one package: {verdict.layers[0].summary}; nothing was written")
    return verdict


def _corrupt(source: Source, verdict: Verdict, faults: list[Finding]) -> AetherisError:
    first = faults[0] if faults else verdict.failed[0].findings[0]
    return Corrupt(
        f"job {printable(source.job)} is not sound, {first.sentence}; nothing was written. "
        "Ask for it as damaged evidence to export what there is",
        where=first.where,
        expected=first.expected,
        found=first.found,
    )
