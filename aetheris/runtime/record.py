"""A job's whole record in memory, read-only: what trace, export and `Job.result` stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aetheris.domain import cells, events
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.events import Event
from aetheris.domain.jobs import JobStatus
from aetheris.domain.ledger import Transition
from aetheris.store import history, seals
from aetheris.store.database import Connection
from aetheris.store.history import Record
from aetheris.store.jobs import JobRow
from aetheris.store.seals import ErasedCell, Seal


async def load_record(connection: Connection, row: JobRow) -> JobRecord:
    """Return everything that stands in the store of a job, given its row. Errors: Unreachable."""
    found = await history.load(connection, [(row.tenant, row.job)], [1])
    ledger = await history.load_ledger(connection, row.tenant, row.job)
    seal = await seals.find(connection, row.tenant, row.job)
    erased = await seals.erased(connection, row.tenant, row.job)
    return JobRecord(row, found[row.tenant, row.job], ledger, seal, erased)


@dataclass(frozen=True)
class JobRecord:
    """Row, lines, cells, ledger, seal and erasures of one job."""

    row: JobRow
    stored: Record
    ledger: list[Transition]
    seal: Seal | None = None
    erased: Sequence[ErasedCell] = ()

    @cached_property
    def events(self) -> list[Event]:
        """The events, in order. Errors: Corrupt at the first line that is not canonical."""
        return [events.read(line) for line in self.stored.lines]

    def head(self) -> dict[str, Any]:
        """Return what stands over a trace, by name, but for the id, which tellers name otherwise. Errors: Corrupt."""
        told = self.events
        return {
            "agent": self.row.agent,
            "agent_version": self.row.agent_version,
            "status": self.row.status.word,
            "key": self.row.key,
            "events": len(told),
            "duration_us": told[-1].at - told[0].at,
        }

    def value(self, event: Event, name: str, missing: Any = None) -> Any:
        """Return the value of cell `name` of `event`, or None when it is not there (or erased).

        A part of it that is a cell of its own and not there becomes `missing`.
        Errors: Corrupt for a body that is no JSON, or put together wrongly.
        """
        bodies = {
            part: self._body(event.seq, part, cell.body)
            for part in event.cells
            if (cell := self.stored.cells.get((event.seq, part))) is not None and cell.body is not None
        }
        return cells.assemble(name, bodies, missing) if name in bodies else None

    def _body(self, seq: int, name: str, body: bytes) -> Any:
        try:
            return body_value(body)
        except ValueError:
            raise Corrupt(
                f"job {self.row.job[:8]}: cell {name} of event {seq} is not JSON; run `aetheris check`"
            ) from None

    def result(self) -> Any:
        """Return what the job returned, as JSON. Errors: Refused unless it completed."""
        if self.row.status is not JobStatus.COMPLETED:
            last = self.events[-1]
            error = self.value(last, "error") or {}
            why = f": {error.get('kind')}: {error.get('message')}" if error else ""
            raise Refused(f"job {self.row.job[:8]} has no result, it is {self.row.status.word}{why}")
        if successor := self.events[-1].data.get("continued_as"):
            raise Refused(f"job {self.row.job[:8]} goes on as job {successor[:8]}, and has no result of its own")
        return self.value(self.events[-1], "result")
