"""The system from a script, a test or a notebook cell: no server, no `await`.

`System` runs the async core in a thread of its own, so it works inside a
running event loop (Jupyter's) as well. Everything is written in the core, once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from aetheris.domain.errors import Refused
from aetheris.domain.jobs import JobStatus
from aetheris.domain.rows import Rows, trace_rows
from aetheris.domain.trace import trace
from aetheris.runtime import keeping, tracing
from aetheris.runtime.agents import Agent
from aetheris.runtime.collection import Collected
from aetheris.runtime.held import Settings
from aetheris.runtime.lookout import at_rest
from aetheris.runtime.operator import Operator, Outcome
from aetheris.runtime.record import JobRecord
from aetheris.runtime.system import AsyncSystem
from aetheris.runtime.worker import Worker
from aetheris.store.jobs import JobRow

T = TypeVar("T")


class System:
    """The sync facade: what `aetheris.open()` returns. Use as a context manager."""

    def __init__(self, dsn: str | None = None, *, home: Path | str | None = None, tenant: str = "default") -> None:
        self._core = AsyncSystem(dsn, home=Path(home) if home is not None else None, tenant=tenant)
        self._agents: dict[str, Agent] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aetheris", daemon=True)
        self._thread.start()
        try:
            self._do(self._core.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drain this process's workers and let go of the database."""
        if self._loop.is_running():
            self._do(self._core.__aexit__(None, None, None))
            self._end_loop()

    def submit(
        self,
        agent: Agent,
        value: Any = None,
        *,
        key: str | None = None,
        goal: str = "",
        timeout: timedelta | None = None,
        traceparent: str = "",
    ) -> Job:
        """Make the job durable and return it; the same `key` twice is the same job. Errors: Refused."""
        self._agents[agent.name] = agent
        made = self._core.submit(
            agent, value, key=key, goal=goal, timeout=timeout, traceparent=traceparent or tracing.current()
        )
        return Job(self, self._do(made), agent)

    def job(self, prefix: str) -> Job:
        """Return the one job whose id starts so. Errors: Refused."""
        row = self._do(self._core.find(prefix))
        return Job(self, row.job, self._agents.get(row.agent))

    def jobs(self, *, agent: str | None = None, limit: int = 50) -> list[JobRow]:
        """Return jobs, newest first."""
        return self._do(self._core.listing(agent=agent, limit=limit))

    def serve(self, *agents: Agent, concurrency: int = 100) -> Worker:
        """Run a worker for these agents in this process until the system closes."""
        return self._do(self._core.start_worker(agents, Settings(concurrency=concurrency)))

    def wait(self, *jobs: Job, seconds: float | None = None) -> None:
        """Return once every job has ended or is parked; runs a worker here if none serves them.

        Errors: Refused when one has not within `seconds`, or has begun under
        another version of its code, which nobody serves.
        """
        for agent in {(job.agent.name, *job.agent.asks): job.agent for job in jobs if job.agent is not None}.values():
            worker = self._do(self._core.serve_here(agent))
            if worker and (lacking := sorted(set(agent.asks) - set(worker.serving.capabilities))):
                raise Refused(f"{agent.name} needs {', '.join(lacking)}, and no worker here or elsewhere has it")
        for job in jobs:
            self._do(self._core.check_version(job.id, job.agent))
        ids = [job.id for job in jobs]
        found = self._do(self._core.wait(ids, seconds=seconds))
        if late := [job for job in ids if not at_rest(found.get(job))]:
            raise Refused(f"job {late[0][:8]} is still {found[late[0]].word} after {seconds:g} s")

    @property
    def operator(self) -> Operator:
        """The async hands on jobs; `Job` has the same by name, for sync code."""
        return self._core.operator

    def record(self, job: str) -> JobRecord:
        """Return everything that stands in the store of one job. Errors: Refused."""
        return self._do(self._core.record(job))

    @property
    def lake(self) -> Path:
        """The folder of this system's lake: what `aetheris.workbench.open` reads."""
        return self._core.lake

    def mirror(self) -> int:
        """Bring the lake up to date; return how many rows are new there. Errors: as the mirror's."""
        return self._do(keeping.mirror(self._core)).total

    def seal(self) -> int:
        """Seal the finished jobs that have no seal yet; return how many."""
        return self._do(keeping.seal(self._core)).count

    def collect(self, *, days: int | None = None, dry_run: bool = False) -> Collected:
        """Take finished jobs older than `days` out of the store, if the lake has them whole. Errors: Refused."""
        return self._do(keeping.collect(self._core, days=days, dry_run=dry_run))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Job:
    """One job, as its submitter holds it."""

    def __init__(self, system: System, id: str, agent: Agent | None) -> None:
        self._system, self.id, self.agent = system, id, agent

    def __repr__(self) -> str:
        return f"<job {self.id[:8]} {self.status.word}>"

    @property
    def status(self) -> JobStatus:
        """Where it stands now."""
        return self.record.row.status

    @property
    def record(self) -> JobRecord:
        """Everything that stands in the store of it, read now."""
        return self._system.record(self.id)

    def trace(self) -> Rows:
        """Return what it did until now, in order, as a table that shows itself."""
        return trace_rows(trace(self.record.events))

    def wait(self, seconds: float | None = None) -> Self:
        """Return once it has ended or is parked; runs a worker here if none serves it."""
        self._system.wait(self, seconds=seconds)
        return self

    def signal(self, key: str, payload: Any = None) -> bool:
        """Send it a signal; False when this key was sent before. Errors: Refused when it has ended."""
        return self._system._do(self._system.operator.signal(self.id, key, payload))

    def approve(self, step: int, *, why: str = "", role: str = "operator") -> bool:
        """Say yes to the approval that step `step` asks for. Errors: Refused, Denied."""
        return self._system._do(self._system.operator.approve(self.id, step, approved=True, why=why, role=role))

    def reject(self, step: int, *, why: str = "", role: str = "operator") -> bool:
        """Say no to the approval that step `step` asks for. Errors: Refused, Denied."""
        return self._system._do(self._system.operator.approve(self.id, step, approved=False, why=why, role=role))

    def cancel(self, why: str = "") -> bool:
        """Ask it to end. Errors: Refused when it has."""
        return self._system._do(self._system.operator.cancel(self.id, why))

    def pause(self, why: str = "") -> None:
        """Let it rest until `resume`. Errors: Refused when it has ended."""
        self._system._do(self._system.operator.pause(self.id, why))

    def resume(self, why: str = "") -> None:
        """Let it go on. Errors: Refused when it has ended."""
        self._system._do(self._system.operator.resume(self.id, why))

    def resolve(self, step: int, outcome: Outcome, *, why: str, result: Any = None, worker_gone: bool = False) -> bool:
        """End the doubt about a call: "done", "failed" or "not_done". Errors: Refused."""
        work = self._system.operator.resolve(self.id, step, outcome, why=why, result=result, worker_gone=worker_gone)
        return self._system._do(work)

    def retry(self) -> Job:
        """Submit it anew with the same input; the new run names this one. Errors: Refused."""
        return Job(self._system, self._system._do(self._system.operator.retry(self.id)), self.agent)

    @property
    def result(self) -> Any:
        """What the agent returned, as its declared type. Errors: Refused unless it completed."""
        value = self.record.result()
        return value if self.agent is None else self.agent.result_value(value)
