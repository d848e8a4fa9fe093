"""A job written by hand, event by event, and the rows it leaves in a lake. No clock, no chance.

A `Script` is what happened; `lay` makes the chain, the cells and the ledger of
it, with the domain's own functions. What the operating system would draw is
derived from the job and the place instead: salts and ids here can be guessed,
and guard nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aetheris.domain import cells, events, ids, ledger, merkle
from aetheris.domain.encode import body_bytes, line_bytes

Row = dict[str, Any]

SEED = 20260310
KEY_ID, KEY = 1, hashlib.sha256(b"aetheris/fixtures/key").digest()
CONFIG_SHA256 = hashlib.sha256(b"{}").hexdigest()
RECORDED_AFTER_US = 900
LEASE_US = 30_000_000


@dataclass(frozen=True, slots=True)
class Spec:
    """One event to be: `after_us` counts from the event before it; `bodies` are its cells."""

    type: str
    after_us: int
    data: dict[str, Any]
    bodies: tuple[tuple[str, bytes], ...] = ()
    step: int = 0
    epoch: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """One job: who ran it for whom, and its events in order."""

    tenant: str
    job: str
    agent: str
    agent_version: str
    start_us: int
    specs: tuple[Spec, ...]

    def find(self, type: str, occurrence: int = 0) -> int:
        """Return the seq of the event of that type (the first, unless told otherwise)."""
        return [seq for seq, spec in enumerate(self.specs, 1) if spec.type == type][occurrence]

    def change(self, seq: int, **fields: Any) -> Self:
        """Return the script with event `seq` otherwise; `data` is merged into what was there."""
        spec = self.specs[seq - 1]
        if "data" in fields:
            fields["data"] = spec.data | fields["data"]
        return replace(self, specs=(*self.specs[: seq - 1], replace(spec, **fields), *self.specs[seq:]))

    def without(self, seq: int) -> Self:
        """Return the script with event `seq` never written."""
        return replace(self, specs=(*self.specs[: seq - 1], *self.specs[seq:]))

    def insert(self, seq: int, spec: Spec) -> Self:
        """Return the script with one more event, which becomes event `seq`."""
        return replace(self, specs=(*self.specs[: seq - 1], spec, *self.specs[seq - 1 :]))


@dataclass(slots=True)
class Rows:
    """A lake's rows by table, as the store would hold them; `forged` overrides derived columns of events."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    forged: list[tuple[str, int, str, Any]] = field(default_factory=list)  # job, seq, column, value

    def table(self, name: str) -> list[Row]:
        """Return the table's rows, to read or to tamper with."""
        return self.tables.setdefault(name, [])

    def row(self, table: str, job: str, seq: int, **fields: Any) -> Row:
        """Return the one row of that job and seq."""
        wanted = {"job_id": job, "seq": seq, **fields}
        found = [row for row in self.table(table) if wanted.items() <= row.items()]
        assert len(found) == 1, f"{len(found)} rows of {table} at {wanted}"
        return found[0]

    def drop(self, table: str, job: str, seq: int, **fields: Any) -> None:
        """Take away all rows of that job and seq."""
        wanted = {"job_id": job, "seq": seq, **fields}
        self.tables[table] = [row for row in self.table(table) if not wanted.items() <= row.items()]


def job_id(tenant: str, name: str) -> str:
    """Return a job id such as the store would mint, its random part taken from the name."""
    random = _derived("job", tenant, name)[:10]
    # ids.mint draws from the operating system; the same id, from the same parts.
    head = random + bytes([KEY_ID]) + ids._tenant_tag(KEY, tenant, random)
    return ids._encode(head + ids._id_tag(KEY, head))


def lay(scripts: Iterable[Script]) -> Rows:
    """Return the rows of these jobs: chained, committed and told in the ledger as the runtime does it."""
    rows = Rows()
    for number, script in enumerate(scripts, 1):
        _lay(rows, script, xid=1000 * number)
    return rows


def erase(rows: Rows, script: Script, seq: int, name: str, *, by: str, reason: str, audit_seq: int) -> None:
    """Take salt and body of a cell away, and put that on record."""
    cell = rows.row("cells", script.job, seq, name=name)
    cell |= {"salt": None, "body": None}
    keep = {column: cell[column] for column in ("tenant_id", "job_id", "seq", "name", "xid", "recorded_at")}
    rows.table("erasures").append({**keep, "audit_seq": audit_seq, "erased_by": by, "reason": reason})


def audit(rows: Rows, tenant: str, entries: list[tuple[int, str, str, dict[str, Any]]]) -> None:
    """Lay a tenant's audit chain: (at, by, type, data) for each entry."""
    prev = events.GENESIS_PREV
    for seq, (at, by, type_, data) in enumerate(entries, 1):
        line = line_bytes(
            events.build(at=at, by=by, cells={}, data=data, epoch=0, prev=prev, seq=seq, step=0, type=type_)
        )
        leaf = merkle.leaf_hash(line)
        written = {"xid": 900_000 + seq, "recorded_at": at + RECORDED_AFTER_US}
        rows.table("audit").append({"tenant_id": tenant, "seq": seq, "leaf": leaf, "line": line.decode(), **written})
        prev = leaf.hex()


def salt(job: str, seq: int, name: str) -> bytes:
    """Return a cell's salt: 32 bytes that look like chance and are not."""
    return _derived("salt", job, str(seq), name)


def _lay(rows: Rows, script: Script, xid: int) -> None:
    at, prev = script.start_us, events.GENESIS_PREV
    for seq, spec in enumerate(script.specs, 1):
        at += spec.after_us
        row = {"tenant_id": script.tenant, "job_id": script.job, "seq": seq}
        written = {"xid": xid + seq, "recorded_at": at + RECORDED_AFTER_US}
        commits = {}
        for name, body in spec.bodies:
            own = salt(script.job, seq, name)
            commits[name] = cells.commitment(script.job, seq, name, own, body).hex()
            rows.table("cells").append({**row, "name": name, "salt": own, "body": body.decode(), **written})
        limit = spec.data.get("limit")
        data = spec.data if limit is None else spec.data | {"limit": limit | {"slot_us": at + limit["slot_us"]}}
        value = events.build(
            at=at, by=spec.by, cells=commits, data=data, epoch=spec.epoch, prev=prev, seq=seq, step=spec.step,
            type=spec.type,
        )  # fmt: skip
        line = line_bytes(value)
        leaf = merkle.leaf_hash(line)
        rows.table("events").append({**row, "leaf": leaf, "line": line.decode(), **written})
        prev = leaf.hex()
        _tell_ledger(rows, row, written, line)
        _tell_lease(rows, row, written, spec)


def _tell_ledger(rows: Rows, row: Row, written: Row, line: bytes) -> None:
    told = ledger.transition_of(events.read(line))
    if told is not None:
        rows.table("ledger").append(
            {
                **row,
                "step": told.step,
                "attempt": told.attempt,
                "tool_name": told.tool_name,
                "effect": told.effect,
                "status": told.status,
                "epoch": told.epoch,
                "idempotency_key": _bytes(told.idempotency_key),
                "args_hash": _bytes(told.args_hash),
                "result_hash": _bytes(told.result_hash),
                "outcome": told.outcome,
                **written,
            }
        )


#: Which events begin or end a lease; those who rest let their worker go.
_CHANGES = {"job_leased": "claimed"} | dict.fromkeys(
    ("job_waiting", "job_parked", "job_completed", "job_failed", "job_cancelled"), "released"
)


def _tell_lease(rows: Rows, row: Row, written: Row, spec: Spec) -> None:
    if spec.type not in _CHANGES:
        return
    worker = spec.by.removeprefix("worker/")
    told = "taken_over" if "taken_from" in spec.data else _CHANGES[spec.type]
    until = None if told == "released" else written["recorded_at"] + LEASE_US
    lease = {"tenant_id": row["tenant_id"], "job_id": row["job_id"], "epoch": spec.epoch}
    rows.table("lease_changes").append({**lease, "change": told, "worker_id": worker, "lease_until": until, **written})


def _bytes(text: str) -> bytes | None:
    return bytes.fromhex(text) if text else None


def _derived(*parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(SEED), *parts)).encode()).digest()


def body(value: Any) -> bytes:
    """Return a cell's body."""
    return body_bytes(value)
