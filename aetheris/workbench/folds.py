"""Snapshots as the lake tells of them: is each, with what came after it, the same as everything?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from aetheris.domain import events
from aetheris.domain.fold import dumps, fold, loads
from aetheris.domain.rows import Rows
from aetheris.forensics.session import Session


@dataclass(frozen=True, slots=True)
class Folded:
    """One job's state, folded two ways."""

    tenant: str
    job: str
    seq: int
    events: int
    #: Events after the snapshot.
    tail: int
    seconds_of_all: float
    seconds_of_snapshot_and_tail: float
    #: True when both ways come to the same bytes.
    same: bool


class Folds:
    """Every snapshot: its job folded from all events, and from the snapshot on.

    The first is done in DuckDB (`trace/fold`); the second reads the snapshot's
    body and the lines after it.
    """

    def __init__(self, session: Session) -> None:
        taken = session.query("trace/snapshots").rows
        self.snapshots = [_folded(session, r["tenant_id"], r["job_id"], r["seq"]) for r in taken]

    def __len__(self) -> int:
        return len(self.snapshots)

    @property
    def all_same(self) -> bool:
        """True when there are some, and no snapshot says another thing than its events."""
        return bool(self.snapshots) and all(f.same for f in self.snapshots)

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """(events, seconds) of either way, shortest job first."""
        ordered = sorted(self.snapshots, key=lambda f: f.events)
        return {
            "from all events": [(f.events, f.seconds_of_all) for f in ordered],
            "from the snapshot on": [(f.events, f.seconds_of_snapshot_and_tail) for f in ordered],
        }

    @property
    def table(self) -> Rows:
        """Milliseconds of either way, and whether they agree."""
        rows = [
            [f.job[:8], f"{f.events:,}", f"{f.tail:,}", f"{f.seconds_of_all * 1e3:,.1f}",
             f"{f.seconds_of_snapshot_and_tail * 1e3:,.1f}", "the same" if f.same else "DIFFERENT"]
            for f in sorted(self.snapshots, key=lambda f: f.events)
        ]  # fmt: skip
        return Rows(
            ["job", "events", "after the snapshot", "ms from all events", "ms from the snapshot", "state"], rows
        )


def _folded(session: Session, tenant: str, job: str, seq: int) -> Folded:
    began = time.perf_counter()
    row = session.query("trace/fold", job_id=job).rows[0]
    between = time.perf_counter()
    body = next(r["body"] for r in session.query("trace/snapshots", job_id=job).rows if r["seq"] == seq)
    lines = [r["line"].encode() for r in session.query("trace/tail", job_id=job, after=seq).rows]
    state = fold(map(events.read, lines), loads(body.encode()))
    ended = time.perf_counter()
    same = dumps(state) == row["body"].encode()
    return Folded(tenant, job, seq, row["seq"], len(lines), between - began, ended - between, same)
