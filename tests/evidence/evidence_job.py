"""Builds jobs and packages for the evidence tests: seeded, and consistent unless a test says otherwise."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from aetheris.domain import cells, encode, events, ledger, merkle
from aetheris.domain.cells import Cell
from aetheris.evidence import archive, parts, seal
from aetheris.evidence.disclosures import Disclosure
from aetheris.evidence.dsse import Signer
from aetheris.evidence.parts import Parts
from aetheris.evidence.seal import Seal
from aetheris.evidence.source import Erasure, SealMembers, Source
from aetheris.evidence.verdict import FAILED, LAYERS, NOT_SHOWN, Verdict
from aetheris.evidence.verify import verify

TENANT, JOB, CONFIG = "acme", "7kq2m0v9d3x8t1c5z6b4n7h2j0r9f8s3w1g5y6k4", "c0" * 32
EMAIL = (4, "args/passenger/email")
INPUT = (1, "input")
#: The tests' own signers: who seals, and a stranger.
SIGNER, STRANGER = Signer("acme-2026", b"\x01" * 32), Signer("mallory", b"\x02" * 32)


@dataclass(frozen=True)
class Spec:
    """One event to be: cells hold bodies; `raw` may spoil the finished line."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, bytes] = field(default_factory=dict)
    step: int = 0
    epoch: int = 1
    at: int | None = None
    by: str = "worker/w1"
    seq: int | None = None
    prev: str | None = None
    raw: Callable[[bytes], bytes] | None = None


@dataclass
class Job:
    """A job's events and what a package shows of its cells."""

    specs: list[Spec]
    tenant: str = TENANT
    job: str = JOB
    hidden: dict[tuple[int, str], str] = field(default_factory=dict)
    seed: int = 7
    sealed: bool = True
    salt: bytes | None = None  # the same for all cells, where a test wants that
    leaf: Callable[[bytes], bytes] = merkle.leaf_hash
    lines: list[bytes] = field(default_factory=list)
    told: list[events.Event] = field(default_factory=list)
    stored: list[Cell] = field(default_factory=list)

    def build(self) -> Job:
        """Lay the chain anew from the specs."""
        self.lines, self.told, self.stored = [], [], []
        rng, prev, last = random.Random(self.seed), events.GENESIS_PREV, 1_700_000_000_000_000
        for number, spec in enumerate(self.specs, 1):
            seq = spec.seq or number
            new = [Cell(seq, name, self.salt or rng.randbytes(32), body) for name, body in spec.cells.items()]
            self.stored += new
            last = last + 1500 if spec.at is None else spec.at
            value = events.build(
                at=last,
                by=spec.by,
                cells={c.name: self._commit(c) for c in new},
                data=spec.data,
                epoch=spec.epoch,
                prev=prev if spec.prev is None else spec.prev,
                seq=seq,
                step=spec.step,
                type=spec.type,
            )
            line = encode.line_bytes(value)
            self.told.append(events.Event(**{k: v for k, v in value.items() if k != "v"}))
            self.lines.append(spec.raw(line) if spec.raw else line)
            prev = self.leaf(self.lines[-1]).hex()
        return self

    def _commit(self, cell: Cell) -> str:
        return cells.commitment(self.job, cell.seq, cell.name, cell.salt or b"", cell.body or b"").hex()

    def transitions(self) -> list[ledger.Transition]:
        """The ledger rows that the events tell."""
        return [t for t in map(ledger.transition_of, self.told) if t]

    def source(self) -> Source:
        """The job as the store would hand it to the writer; erased cells are gone, redacted ones not."""
        gone = [key for key, state in self.hidden.items() if state == "erased"]
        kept = [Cell(c.seq, c.name, None, None) if (c.seq, c.name) in gone else c for c in self.stored]
        erasures = [Erasure(seq, name, 41) for seq, name in gone]
        head = (len(self.lines), self.leaf(self.lines[-1]).hex())
        return Source(self.tenant, self.job, self.lines, kept, self.transitions(), erasures, head)

    def shown(self) -> list[Disclosure]:
        """The cells as the package discloses them."""
        return [self._disclosure(c) for c in sorted(self.stored, key=lambda c: (c.seq, c.name))]

    def _disclosure(self, cell: Cell) -> Disclosure:
        state = self.hidden.get((cell.seq, cell.name), "shown")
        if state == "shown":
            return Disclosure(cell.seq, cell.name, state, cell.salt, cell.body)
        return Disclosure(cell.seq, cell.name, state, audit_seq=41 if state == "erased" else None)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger's rows."""
        return [call.row() for call in ledger.collect(self.transitions()).values()]

    def parts(self, **changes: Any) -> Parts:
        """The package's parts, sealed as an attacker without the key could seal them."""
        rows = changes.pop("rows", None)
        made = Parts(
            self.tenant,
            self.job,
            self.lines,
            [encode.line_bytes(r) for r in (self.rows() if rows is None else rows)],
            self.shown(),
        )
        made = replace(made, **changes)
        if self.sealed and made.seal.statement is None:
            made = replace(made, seal=SealMembers(self.statement(made)))
        return made

    def statement(self, made: Parts, **wrong: Any) -> bytes:
        """The seal over these parts, with any field made wrong."""
        leaves = [self.leaf(line) for line in made.lines]
        fields: dict[str, Any] = {
            "config_sha256": CONFIG,
            "event_count": len(leaves),
            "head_leaf": leaves[-1].hex() if leaves else events.GENESIS_PREV,
            "invocation_count": len(made.rows),
            "job": made.job,
            "ledger_sha256": parts.sha256(parts.joined(made.rows)),
            "merkle_root": merkle.root(leaves).hex(),
            "tenant": made.tenant,
        }
        return seal.dumps(Seal(**(fields | wrong)), parts.sha256(parts.joined(made.lines)))

    def members(self, **changes: Any) -> dict[str, bytes]:
        """The package's members."""
        return parts.members(self.parts(**changes))

    def change(self, number: int, **fields: Any) -> Job:
        """This job with the event at line `number` otherwise, laid anew."""
        specs = list(self.specs)
        specs[number - 1] = replace(specs[number - 1], **fields)
        return replace(self, specs=specs).build()

    def with_specs(self, specs: list[Spec], **fields: Any) -> Job:
        """This job with other events, laid anew."""
        return replace(self, specs=specs, **fields).build()


def base() -> Job:
    """A finished job with every kind of call, a takeover, a doubt, files, a redacted and an erased cell."""
    return Job(list(_script()), hidden={EMAIL: "redacted", INPUT: "erased"}).build()


def genesis(tenant: str = TENANT, job: str = JOB) -> Spec:
    """The first event."""
    data = {
        "format": events.FORMAT,
        "tenant": tenant,
        "job": job,
        "agent": "rebook",
        "agent_version": "4",
        "config_sha256": CONFIG,
    }
    return Spec("job_created", data, {"input": b'{"ticket":881}'}, epoch=0, by="user/desk")


def started(step: int, effect: str, attempt: int = 1, **more: Any) -> Spec:
    """A call's start record."""
    tool = more.pop("tool", "refund")
    data = {"attempt": attempt, "effect": effect, "idempotency_key": f"{step:064x}", "tool_name": tool}
    bodies = more.pop("cells", {"args": b'{"amount_cents":1250}'})
    return Spec("tool_invocation_started", data, bodies, step=step, **more)


def finished(step: int, effect: str, outcome: str = "success", attempt: int = 1, **more: Any) -> Spec:
    """A call's end."""
    tool = more.pop("tool", "refund")
    data = {"attempt": attempt, "duration_us": 900, "effect": effect, "outcome": outcome, "tool_name": tool}
    bodies = more.pop("cells", {"result": b'"ok"'} if outcome == "success" else {"error": b'"no"'})
    return Spec("tool_invocation_finished", data, bodies, step=step, **more)


def doubt(kind: str, step: int, attempt: int = 1, **more: Any) -> Spec:
    """A call in doubt: unknown, confirmed or resolved."""
    data = {"attempt": attempt, "effect": "once", "tool_name": "refund"} | more.pop("data", {})
    return Spec(f"tool_invocation_{kind}", data, {}, step=step, **more)


def _script() -> Iterator[Spec]:
    yield genesis()  # 1
    yield Spec("job_leased", {"worker_id": "w1"})  # 2
    search = {"args": b'{"from":"FRA","to":"LIS"}', "result": b'[{"flight":"TP577","price":129.9}]'}
    yield finished(1, "none", tool="search", cells=search)  # 3
    booking = {"args": b'{"amount_cents":1250,"passenger":{"email":{"$cell":"args/passenger/email"}}}'}
    yield started(2, "once", cells=booking | {"args/passenger/email": b'"ada@example.org"'})  # 4
    yield doubt("unknown", 2, data={"reason": "worker killed"})  # 5
    yield Spec("job_parked", {"reason": "call 2 in doubt"})  # 6
    yield Spec("job_leased", {"worker_id": "w2"}, epoch=2, by="worker/w2")  # 7
    yield doubt("resolved", 2, data={"outcome": "not_done"}, epoch=2, by="user/ops")  # 8
    yield started(2, "once", attempt=2, epoch=2, cells={"args": b'{"amount_cents":1250}'})  # 9
    yield finished(2, "once", attempt=2, epoch=2)  # 10
    yield started(3, "idempotent", tool="notify", epoch=2)  # 11
    yield finished(3, "idempotent", "failure", tool="notify", epoch=2)  # 12
    yield Spec("random_recorded", {}, {"value": b"0.25"}, step=4, epoch=2)  # 13
    files = {"artifact/ticket.pdf": b"%PDF-1.7\n\x00\xff", "artifact/trace.bin": bytes(range(40))}
    yield Spec("state_changed", {"resource_type": "ticket"}, files, step=4, epoch=2)  # 14
    yield Spec("job_waiting", {"wait_type": "timer"}, step=5, epoch=2)  # 15
    yield Spec("timer_fired", {}, step=5, epoch=2)  # 16
    yield Spec("job_completed", {}, {"result": b'{"refunded":true}'}, epoch=2)  # 17


def package(members: dict[str, bytes], *, tenant: str = TENANT, job: str = JOB, damaged: bool = False) -> bytes:
    """The archive of members, with a manifest that follows them."""
    return archive.build(parts.with_manifest(tenant, job, members, damaged=damaged))


def edited(line: bytes, **fields: Any) -> bytes:
    """A line with other fields, canonical again."""
    return dumps(json.loads(line) | fields)


def dumps(value: Any) -> bytes:
    """Canonical bytes without the domain's checks, so that what breaks them can be built."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def judged(data: bytes, layer: str, code: int, trust: bytes | None = None) -> Verdict:
    """Verify, and hold the verdict to the layer and exit code that the table names."""
    return held(verify(data, trust=trust), layer, code)


def held(verdict: Verdict, layer: str, code: int) -> Verdict:
    """Hold a verdict to the layer and exit code that the table names."""
    said = f"\n{verdict}"
    assert verdict.exit_code == code, said
    json.loads(json.dumps(verdict.to_dict()))
    assert all(c == "\n" or c.isprintable() for c in str(verdict)), said
    if layer == "none":
        assert not verdict.failed, said
        return verdict
    if code == 3:
        assert verdict[layer].status == NOT_SHOWN, said
        assert not verdict.failed, said
        return verdict
    assert verdict[layer].status == FAILED, said
    assert verdict[layer].findings, said
    before = LAYERS[: LAYERS.index(layer)]
    assert all(verdict[name].status != FAILED for name in before), said
    if layer == "container":
        assert all(verdict[name].status == NOT_SHOWN for name in LAYERS[1:]), said
    return verdict


LAYER = {
    "CON": "container", "INT": "integrity", "COM": "completeness", "LED": "ledger", "AUT": "authenticity",
    "LOG": "log", "TIM": "time", "DIS": "disclosure", "none": "none",
}  # fmt: skip
