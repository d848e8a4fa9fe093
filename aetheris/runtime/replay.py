"""Replay: run a job's code against its record, without the world.

No tool is called, nothing is written, no clock is waited for. The code gets
what the record says, in the recorded order; either it does what is on record
up to its last event, or the first difference is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

from aetheris.domain.cells import commitment
from aetheris.domain.errors import Corrupt, Diverged, Erased, Lost, Refused
from aetheris.domain.events import TERMINAL_TYPES, Event
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Cancelled, Continued
from aetheris.runtime.clock import Clock
from aetheris.runtime.engine import Engine
from aetheris.runtime.foreign import CodeRaised
from aetheris.runtime.history import History
from aetheris.runtime.limiter import Limiter, Unlimited
from aetheris.runtime.record import JobRecord
from aetheris.store.database import Connection


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found."""

    events: int
    #: True when the code did what is on record.
    same: bool
    #: How the code ended: completed, failed, cancelled; or "open": the record ends before the code does.
    ended: str
    #: The first difference, with event and place in the code; empty when there is none.
    difference: str = ""
    #: Of the code that is on record, in order, and of the code that was run: a difference may be no more than that.
    recorded_versions: tuple[str, ...] = ()
    version: str = ""


class _EndOfRecord(Exception):
    """The code goes on where the record ends."""


class _ReadOnlyLog:
    """Stands where the log stands in a live run. The code never gets to write past its record."""

    def __init__(self, tenant: str, job: str) -> None:
        self.tenant, self.job, self.clock = tenant, job, Clock()

    def emit(self, type: str, **_: Any) -> NoReturn:
        """Refuse: what the code asks for now is not on record."""
        raise _EndOfRecord(type)


async def replay(agent: Agent, record: JobRecord) -> Replayed:
    """Run `agent`'s code against `record` and say whether it does the same.

    Starts at the job's last checkpoint, where it has one, as a worker would.
    Errors: Corrupt when the record itself is broken; Erased when a value that
    the code was given is gone.
    """
    row = record.row
    if agent.name != row.agent:
        raise Refused(f"job {row.job[:8]} is of agent {row.agent}, not {agent.name}")
    runs = [str(e.data["agent_version"]) for e in record.events if e.type == "job_leased" and "agent_version" in e.data]
    versions = tuple(dict.fromkeys(runs)) or (row.agent_version,)
    return replace(await _replayed(agent, record), recorded_versions=versions, version=agent.version)


async def _replayed(agent: Agent, record: JobRecord) -> Replayed:
    row = record.row
    checkpoint = max((e.seq for e in record.events if e.type == "state_checkpointed"), default=0)
    stored = replace(record.stored, cells=dict(record.stored.cells))  # the history lets go of what it delivered
    history = History(row.job, stored, row.head_leaf, checkpoint)
    last = record.events[-1]
    log = _ReadOnlyLog(row.tenant, row.job)
    unused = Limiter(Unlimited(), "replay", log.clock, _no_connection)
    engine = Engine(agent, history, log, leased_at=last.at, limiter=unused, read_only=True)  # type: ignore[arg-type]
    count = len(record.events)
    try:
        result = await engine.drive()
    except (_EndOfRecord, Lost):
        return Replayed(count, last.type not in TERMINAL_TYPES, "open", _too_far(last))
    except Diverged as error:
        return Replayed(count, False, "diverged", str(error))
    except Cancelled:
        return _compare(count, last, "cancelled", "job_cancelled" if last.type != "job_failed" else "job_failed")
    except Continued as continued:
        if last.data.get("continued_as") == continued.job:
            return _compare(count, last, "continued", last.type)
        return Replayed(count, False, "continued", f"the code goes on as a new run, {_says(last)}")
    except (Corrupt, Erased):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the job's code raises is how it ends
        kind = type(error.error if isinstance(error, CodeRaised) else error).__name__
        same = last.type == "job_failed" and last.data["reason"] == kind
        return Replayed(count, same, "failed", "" if same else f"the code raises {kind}, {_says(last)}")
    if last.type == "job_completed" and not _same_result(record, last, agent.result_cells(result)):
        return Replayed(count, False, "completed", f"the code returns another result than event {last.seq} records")
    return _compare(count, last, "completed", "job_completed")


async def to_next_step(agent: Agent, key: tuple[str, str], history: History) -> int:
    """Re-run the code against its record and return the number of the last step that it asked for.

    Nothing begins. Errors: Diverged; whatever the code raises; Refused when it
    ends before it asks for anything new.
    """
    log = _ReadOnlyLog(*key)
    unused = Limiter(Unlimited(), "replay", log.clock, _no_connection)
    engine = Engine(agent, history, log, leased_at=history.last_at, limiter=unused, read_only=True)  # type: ignore[arg-type]
    try:
        await engine.drive()
    except (_EndOfRecord, Lost):
        return engine.last_step
    raise Refused(f"job {key[1][:8]}: the code ends where its record does; there is no next step")


async def _no_connection() -> Connection:
    raise Refused("a replay has no database")


def _compare(count: int, last: Event, ended: str, type: str) -> Replayed:
    same = last.type == type
    return Replayed(count, same, ended, "" if same else f"the code has {ended}, {_says(last)}")


def _says(last: Event) -> str:
    return f"the record ends with {last.type} (event {last.seq})"


def _too_far(last: Event) -> str:
    return f"the code goes on, {_says(last)}" if last.type in TERMINAL_TYPES else ""


def _same_result(record: JobRecord, last: Event, bodies: list[tuple[str, bytes]]) -> bool:
    if {name for name, _ in bodies} != set(last.cells):
        return False
    for name, body in bodies:
        cell = record.stored.cells.get((last.seq, name))
        # An erased cell has no salt left to compare under: the commitment alone proves nothing.
        if cell is None or cell.salt is None:
            continue
        if commitment(record.row.job, last.seq, name, cell.salt, body).hex() != last.cells[name]:
            return False
    return True
