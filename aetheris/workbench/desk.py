"""What an auditor holds: a source with its jobs, and a job with its steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import plotly.graph_objects as go

from aetheris.domain import events, merkle
from aetheris.domain.cells import Cell
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Refused
from aetheris.domain.events import Event
from aetheris.domain.fold import JobState, loads
from aetheris.domain.ledger import Transition
from aetheris.domain.rows import Rows, trace_rows
from aetheris.domain.trace import TraceLine, trace
from aetheris.evidence import Erasure, SealMembers, Source, Summary, write
from aetheris.evidence import verify as judge
from aetheris.forensics.checks import run_checks
from aetheris.forensics.remote import Api, RemoteSession
from aetheris.forensics.session import Answer, Session
from aetheris.forensics.source import open_source
from aetheris.workbench.charts.timeline import timeline
from aetheris.workbench.folds import Folds
from aetheris.workbench.limits import LimitView
from aetheris.workbench.parked import Parked
from aetheris.workbench.views import Checks, Judgement, Step

LEDGER_SHOWN = ("attempt", "tool_name", "effect", "status", "epoch", "outcome")


def open(path: str | Path) -> Desk:
    """Return the lake folder or evidence zip at `path`, every file's SHA-256 checked; or what an API's URL holds.

    Through an API one sees what the token in AETHERIS_TOKEN may see. Errors: Unusable when it is none of these;
    Corrupt when bytes are not what they were; Denied.
    """
    if str(path).startswith(("https://", "http://")):
        return Desk(RemoteSession(Api(str(path))))
    return Desk(open_source(Path(path)))


def verify(path: str | Path, trust: str | Path | None = None) -> Judgement:
    """Return the verdict over an evidence zip; never raises for what is in it.

    `trust` is a file of public keys that you were given. Errors: Refused, when it is none.
    """
    return Judgement(judge(Path(path), trust=None if trust is None else Path(trust)))


def judge_all(packages: Iterable[Spoilt], trust: str | Path | None = None) -> Rows:
    """Return one row a package: what it aims at, what was done, which layers fail, and what is said first."""
    rows = []
    for package in packages:
        verdict = judge(package.data, trust=None if trust is None else Path(trust))
        failed = [layer.name for layer in verdict.failed]
        first = verdict.failed[0].summary if failed else verdict.sentence
        rows.append([package.layer, package.done, ", ".join(failed), first, verdict.exit_code])
    return Rows(["aimed at", "done", "failed", "said first", "exit"], rows)


class Spoilt(Protocol):
    """A package's bytes, the layer that a change in it aims at, and what was done."""

    @property
    def layer(self) -> str: ...
    @property
    def done(self) -> str: ...
    @property
    def data(self) -> bytes: ...


class Desk:
    """A lake or an evidence zip, read-only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.jobs = Jobs(self, session.query("trace/jobs").rows)

    def __repr__(self) -> str:
        count = sum(row["events"] for row in self.jobs.rows)
        jobs = "1 job" if len(self.jobs) == 1 else f"{len(self.jobs):,} jobs"
        return f"{jobs}, {count:,} events; {self._session.assurance}"

    def check(self) -> Checks:
        """Return each check with its violations; none is a pass."""
        return Checks(list(run_checks(self._session)))

    def limits(self, name: str, kind: str = "tool") -> LimitView:
        """Return what the record says of one limit. Errors: Refused when nothing waited for it."""
        return LimitView(self._session, kind, name)

    @property
    def limit_names(self) -> list[tuple[str, str]]:
        """(kind, name) of every limit that a call waited for."""
        return sorted({(str(r["kind"]), str(r["name"])) for r in self._session.query("limits/waits").rows})

    @property
    def tenants(self) -> list[str]:
        """Everybody who has a job or an audit chain here."""
        audited = {str(r["tenant_id"]) for r in self._session.query("tenancy/actions").rows}
        return sorted(audited | {str(r["tenant_id"]) for r in self.jobs.rows})

    def parked(self) -> Parked:
        """Return what waits for a person, longest first."""
        return Parked(self._session)

    def folds(self) -> Folds:
        """Return every snapshot: is it, with what came after it, the fold of all its job's events?"""
        return Folds(self._session)

    def query(self, name: str, **parameters: Any) -> Answer:
        """Run a named query. Errors: Refused."""
        return self._session.query(name, **parameters)

    def sql(self, text: str, **parameters: Any) -> Answer:
        """Run a SELECT of your own, over this source only. Errors: Refused."""
        return self._session.sql(text, **parameters)


class Jobs:
    """Jobs to choose from: by position, by the start of an id, or by what they are."""

    def __init__(self, desk: Desk, rows: list[dict[str, Any]]) -> None:
        self._desk, self.rows = desk, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Job]:
        return (Job(self._desk, row) for row in self.rows)

    def __getitem__(self, which: int | str) -> Job:
        if isinstance(which, int):
            return Job(self._desk, self.rows[which])
        found = [row for row in self.rows if row["job_id"].startswith(which)]
        if len(found) != 1:
            raise Refused(f"{len(found)} jobs start with {which!r}: type {'more' if found else 'another'}")
        return Job(self._desk, found[0])

    def where(self, **wanted: str) -> Jobs:
        """Return the jobs whose fields (agent, status, tenant_id …) are these."""
        if self.rows and (odd := wanted.keys() - self.rows[0].keys()):
            raise Refused(f"jobs have no {sorted(odd)[0]!r}; they have {', '.join(self.rows[0])}")
        return Jobs(self._desk, [r for r in self.rows if all(r[k] == v for k, v in wanted.items())])

    def table(self) -> Rows:
        """Return them as a table."""
        names = ["job_id", "tenant_id", "agent", "status", "events", "calls", "epochs"]
        return Rows(["job", *names[1:]], [[r["job_id"][:8], *(r[n] for n in names[1:])] for r in self.rows])

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


class Job:
    """One job: what it did, in order, and what was said."""

    def __init__(self, desk: Desk, row: dict[str, Any]) -> None:
        self._desk, self._row = desk, row
        self.id: str = row["job_id"]
        self.tenant: str = row["tenant_id"]
        self.status: str = row["status"]
        self.lines = [row["line"].encode() for row in self._ask("trace/lines")]
        self.cells = {(row["seq"], row["name"]): row for row in self._ask("trace/cells")}

    def __repr__(self) -> str:
        return f"job {self.id[:8]}: {self.status}, {len(self.lines)} events"

    @property
    def events(self) -> list[Event]:
        """The events, in order. Errors: Corrupt at a line that is not canonical."""
        return [events.read(line) for line in self.lines]

    @property
    def trace(self) -> list[TraceLine]:
        """One line a call, a wait, a takeover."""
        return trace(self.events)

    @property
    def steps(self) -> Rows:
        """The trace as a table."""
        return trace_rows(self.trace)

    @property
    def decisions(self) -> Rows:
        """How well the record bears out each answer of a model, 0 to 100, and by what (aetheris.domain.decisions)."""
        answer = self._desk.query("trace/decisions", job_id=self.id)
        shown = [name for name in answer.table.column_names if name not in ("tenant_id", "job_id")]
        return Rows(shown, [[row[name] for name in shown] for row in answer.rows if row["tenant_id"] == self.tenant])

    def step(self, number: int) -> Step:
        """Return what a step was asked and what it answered, its ledger rows, and the hashes that bind them.

        A value that is gone says why: erased, with the entry of the audit
        chain that tells of it, or missing, with nothing that tells.
        Errors: Refused when there is no such step.
        """
        told = [e for e in self.events if e.step == number]
        if not told:
            raise Refused(f"job {self.id[:8]} has no step {number}")
        rows = [
            [event.seq, event.type, name, _shown(self.cells.get((event.seq, name))), commitment[:16]]
            for event in told
            for name, commitment in event.cells.items()
        ]
        lines = {event.seq: line for event, line in zip(self.events, self.lines, strict=True)}
        hashed = [[e.seq, e.type, e.by, e.epoch, merkle.leaf_hash(lines[e.seq]).hex()[:16], e.prev[:16]] for e in told]
        ledger = [
            [*(r[name] for name in ("seq", *LEDGER_SHOWN)), (r["idempotency_key"] or b"").hex()[:16]]
            for r in self._ask("trace/ledger")
            if r["step"] == number
        ]
        return Step(
            Rows(["event", "type", "cell", "value", "commitment"], rows),
            Rows(["event", *LEDGER_SHOWN, "key"], ledger),
            Rows(["event", "type", "by", "epoch", "leaf", "prev"], hashed),
        )

    def timeline(self, begin: int = 0) -> go.Figure:
        """Return the trace as a figure that shows without a kernel or a network; a long one from line `begin` on."""
        return timeline(self.trace, f"job {self.id[:8]}: {self.status}", begin=begin)

    def state_at(self, seq: int) -> JobState:
        """Return the job's state as the fold of its events up to `seq`, made by DuckDB. Errors: Refused."""
        rows = self._desk.query("trace/fold", job_id=self.id, through=seq).rows
        if not rows:
            raise Refused(f"job {self.id[:8]} has no event up to {seq}")
        return loads(rows[0]["body"].encode())

    def export(self, path: str | Path, *, damaged: bool = False) -> Summary:
        """Write the job's evidence zip. Errors: Corrupt when its record is broken; Refused."""
        source = Source(
            tenant=self.tenant,
            job=self.id,
            lines=self.lines,
            cells=[_cell(row) for row in self.cells.values()],
            transitions=[_transition(row) for row in self._ask("trace/ledger")],
            erasures=[Erasure(*key, r["audit_seq"]) for key, r in self.cells.items() if r["audit_seq"]],
            seal=_seal(self._ask("trace/seal")),
        )
        return write(source, Path(path), damaged=damaged)

    def _ask(self, query: str) -> list[dict[str, Any]]:
        return self._desk.query(query, tenant_id=self.tenant, job_id=self.id).rows


def _shown(cell: dict[str, Any] | None) -> Any:
    if cell is None:
        return "(missing: not here, and no erasure is on record)"
    if cell["audit_seq"] == 0:
        return "(redacted: left out of this package)"
    if cell["audit_seq"] is not None:
        return f"(erased by {cell['erased_by'] or 'someone'}, audit entry {cell['audit_seq']}: {cell['reason']})"
    if cell["body"] is None:
        return "(missing: its body is gone, and no erasure is on record)"
    return body_value(cell["body"].encode())


def _seal(rows: list[dict[str, Any]]) -> SealMembers:
    """Return the stored seal, so that this export has the bytes of every other one."""
    if not rows:
        return SealMembers()
    statement, dsse, proof = (rows[0][n] and rows[0][n].encode() for n in ("seal", "dsse", "tlog_proof"))
    return SealMembers(statement, dsse, proof, rows[0]["timestamp"])


def _transition(row: dict[str, Any]) -> Transition:
    names = ("seq", "step", "attempt", "tool_name", "effect", "status", "epoch", "outcome")
    fields: dict[str, Any] = {name: row[name] for name in names}
    fields |= {name: (row[name] or b"").hex() for name in ("idempotency_key", "args_hash", "result_hash")}
    return Transition(**fields)


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["seq"], row["name"], row["salt"], None if row["body"] is None else row["body"].encode())
