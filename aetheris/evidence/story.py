"""Integrity, completeness and ledger: do the lines, the seal and the tool ledger tell one story?

    1  each line is hashed, then read         integrity
    2  each event against its predecessor     integrity (links, genesis), completeness (numbers, end),
                                              ledger (epochs), time (order)
    3  leaves.bin against the lines           integrity
    4  genesis against manifest and seal      integrity
    5  head and Merkle root                   integrity, where the seal counts as many events as there are
    6  the seal's count, and a proper end     completeness
    7  tool calls told by the events          ledger: legal moves, nothing open at the end
    8  invocations.jsonl against them         ledger: the same rows, the digest that the seal names

A count that differs is told as completeness, not as a wrong head: that is what
a cut tail looks like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from aetheris.domain import canonical, events, ledger, merkle
from aetheris.domain.errors import Corrupt
from aetheris.evidence import format
from aetheris.evidence.reader import Package
from aetheris.evidence.seal import Seal
from aetheris.evidence.verdict import Findings

_LAYER_OF_RULE = {
    "seq": "completeness",
    "prev": "integrity",
    "genesis": "integrity",
    "time": "time",
    "epoch": "ledger",
    "end": "completeness",
}
_ROW_TYPES: dict[str, type] = {
    "args_hash": str,
    "attempt": int,
    "effect": str,
    "idempotency_key": str,
    "outcome": str,
    "result_hash": str,
    "status": str,
    "step": int,
    "tool_name": str,
    "transitions": list,
}
_MOVE_TYPES = {"epoch": int, "seq": int, "status": str}


@dataclass(slots=True)
class Story:
    """What the lines say, and what was gathered on the way."""

    count: int = 0
    leaves: list[bytes] = field(default_factory=list)
    leaves_agree: bool = True
    genesis: events.Event | None = None
    last: events.Event | None = None
    #: (seq, cell name) -> commitment in hex, in order
    commits: dict[tuple[int, str], str] = field(default_factory=dict)
    transitions: list[ledger.Transition] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The last line's leaf in hex; 64 zeros when there is none."""
        return self.leaves[-1].hex() if self.leaves else events.GENESIS_PREV

    @property
    def ended(self) -> bool:
        """Whether the last event ends the job."""
        return self.last is not None and self.last.type in events.TERMINAL_TYPES


def read(package: Package, findings: Findings) -> Story:
    """Return the story, with whatever breaks integrity, order or time noted (steps 1 to 3)."""
    story, chain, stored = Story(), events.Chain(), package.member(format.LEAVES)
    try:
        for line in package.lines(format.EVENTS):
            leaf = merkle.leaf_hash(line)
            _check_leaf(stored, leaf, story, findings)
            _take(line, leaf, story, chain, findings)
    except Corrupt as error:
        findings.add("integrity", str(error), error.where)
    story.genesis, story.last, story.count = chain.genesis, chain.last, chain.count
    if len(stored) != 32 * story.count and story.leaves_agree:
        what = "not as many leaves as there are events"
        findings.add("integrity", what, format.LEAVES, 32 * story.count, len(stored))
    story.rows = _read_rows(package, findings)
    return story


def check_binding(package: Package, story: Story, seal: Seal | None, findings: Findings) -> None:
    """Note where genesis, manifest and seal name different jobs, or the seal another tree (steps 4, 5)."""
    if story.genesis is not None:
        data = story.genesis.data
        sides = [("manifest.json", "tenant", package.manifest.tenant), ("manifest.json", "job", package.manifest.job)]
        if seal is not None:
            sides += [("seal.json", "tenant", seal.tenant), ("seal.json", "job", seal.job)]
            sides += [("seal.json", "config_sha256", seal.config_sha256)]
        for member, name, said in sides:
            if said != data[name]:
                findings.add("integrity", f"{member} names another {name} than event 1", member, data[name], said)
    if seal is not None and seal.event_count == story.count:
        root = merkle.root(story.leaves).hex()
        if seal.head_leaf != story.head:
            findings.add("integrity", "the seal names another head", format.SEAL, seal.head_leaf, story.head)
        if seal.merkle_root != root:
            findings.add("integrity", "the seal names another Merkle root", format.SEAL, seal.merkle_root, root)


def check_completeness(story: Story, seal: Seal | None, findings: Findings) -> None:
    """Note what is missing or too much by the seal's count and the job's end (step 6)."""
    if seal is None:
        return
    if seal.event_count != story.count:
        findings.add("completeness", "the seal counts other events", format.SEAL, seal.event_count, story.count)
    if not story.count:
        findings.add("completeness", "a sealed job without events", format.EVENTS)
    elif not story.ended:
        findings.add("completeness", "a sealed job whose last event does not end it", f"event {story.count}")


def check_ledger(package: Package, story: Story, seal: Seal | None, findings: Findings) -> None:
    """Note where the tool calls break the rules, or the rows tell another story (steps 7, 8)."""
    try:
        ledger.fold(story.transitions)
    except Corrupt as error:
        findings.add("ledger", str(error).removeprefix(f"{error.where}: "), error.where)
    calls = ledger.collect(story.transitions)
    if story.ended:
        for call in calls.values():
            if call.open:
                findings.add(
                    "ledger", f"the job ended while {_call(call.row())} was {call.status}", f"event {story.count}"
                )
    _compare([call.row() for call in calls.values()], story.rows, findings)
    if seal is None:
        return
    digest = hashlib.sha256(package.member(format.INVOCATIONS)).hexdigest()
    if seal.ledger_sha256 != digest:
        findings.add("ledger", "the seal names another ledger", format.INVOCATIONS, seal.ledger_sha256, digest)
    if seal.invocation_count != len(story.rows):
        found = len(story.rows)
        findings.add("ledger", "the seal counts other calls", format.INVOCATIONS, seal.invocation_count, found)


def _take(line: bytes, leaf: bytes, story: Story, chain: events.Chain, findings: Findings) -> None:
    try:
        event = events.read(line)
    except Corrupt as error:
        findings.add("integrity", str(error), f"event {chain.count + 1}", error.expected, error.found)
        chain.skip(leaf)
        return
    for broken in chain.breaks(event, leaf):
        findings.add(_LAYER_OF_RULE[broken.rule], broken.message, broken.where, broken.expected, broken.found)
    for name, commit in event.cells.items():
        story.commits[event.seq, name] = commit
    transition = ledger.transition_of(event)
    if transition is not None:
        story.transitions.append(transition)


def _check_leaf(stored: bytes, leaf: bytes, story: Story, findings: Findings) -> None:
    # The first difference is told: one line too few moves all that follow.
    at = 32 * len(story.leaves)
    if story.leaves_agree and stored[at : at + 32] != leaf:
        story.leaves_agree = False
        what, there = "its hash is not the one in leaves.bin", stored[at : at + 32].hex()
        findings.add("integrity", what, f"event {len(story.leaves) + 1}", there or "nothing", leaf.hex())
    story.leaves.append(leaf)


def _read_rows(package: Package, findings: Findings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(package.lines(format.INVOCATIONS), 1):
            try:
                row = canonical.loads(line)
                _check_row(row)
                rows.append(row)
            except Corrupt as error:
                findings.add("integrity", str(error), f"{format.INVOCATIONS} line {number}")
    except Corrupt as error:
        findings.add("integrity", str(error), error.where)
    return rows


def _check_row(row: dict[str, Any]) -> None:
    _check_types(row, _ROW_TYPES)
    for move in row["transitions"]:
        if type(move) is not dict:
            raise Corrupt("a transition is not an object")
        _check_types(move, _MOVE_TYPES)


def _check_types(value: dict[str, Any], types: dict[str, type]) -> None:
    if value.keys() != types.keys():
        odd = min(value.keys() ^ types.keys())
        raise Corrupt(f"field {odd[:40]!r} is {'missing' if odd in types else 'not one of the ledger'}")
    for name, kind in types.items():
        if type(value[name]) is not kind:
            raise Corrupt(f"field {name!r} is not of type {kind.__name__}")


def _compare(told: list[dict[str, Any]], rows: list[dict[str, Any]], findings: Findings) -> None:
    if told == rows:
        return
    keyed = {(row["step"], row["attempt"]): row for row in told}
    seen: set[tuple[int, int]] = set()
    for number, row in enumerate(rows, 1):
        where, key = f"{format.INVOCATIONS} line {number}", (row["step"], row["attempt"])
        event = keyed.get(key)
        if key in seen:
            findings.add("ledger", f"a second row for {_call(row)}", where)
        elif event is None:
            findings.add("ledger", f"{_call(row)} is in the ledger and in no event", where)
        else:
            for name in _ROW_TYPES:
                if row[name] != event[name]:
                    what = f"{_call(row)}: {name} is not what the events say"
                    findings.add("ledger", what, where, _side(event[name]), _side(row[name]))
        seen.add(key)
    for key, event in keyed.items():
        if key not in seen:
            findings.add("ledger", f"{_call(event)} is in the events and not in the ledger", _first(event))
    if [(r["step"], r["attempt"]) for r in rows] != list(keyed) and len(seen) == len(rows) == len(keyed):
        findings.add("ledger", "the rows are not in order of start", format.INVOCATIONS)


def _call(row: dict[str, Any]) -> str:
    return f"call {row['step']} attempt {row['attempt']} ({row['tool_name'][:60]})"


def _first(row: dict[str, Any]) -> str:
    return f"event {row['transitions'][0]['seq']}"


def _side(value: Any) -> str:
    if type(value) is list:
        return " ".join(f"{move['seq']}:{move['status']}@{move['epoch']}" for move in value) or "none"
    return str(value) or "nothing"
