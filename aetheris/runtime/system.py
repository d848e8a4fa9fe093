"""The system from a script, a test or a notebook cell: no server, no `await`.

`System` runs the async core in a thread of its own, so it works inside a
running event loop (Jupyter's) as well. `AsyncSystem` is the same for code that
is async itself; everything is written there, once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from psycopg_pool import AsyncConnectionPool

from aetheris.domain.errors import Refused
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.agents import Agent
from aetheris.runtime.clock import Clock
from aetheris.runtime.config_file import Loaded, Watch
from aetheris.runtime.config_file import load as load_config
from aetheris.runtime.limiter import Limits
from aetheris.runtime.record import JobRecord
from aetheris.runtime.run import End
from aetheris.runtime.submit import Submitter, whoami
from aetheris.runtime.worker import Settings, Worker
from aetheris.store import history, jobs, workers
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database, as_tenant
from aetheris.store.jobs import JobRow
from aetheris.store.migrate import migrate

T = TypeVar("T")
POOL_SIZE = 4
WORKER_SILENCE_SECONDS = 45.0


class AsyncSystem:
    """One tenant's view of a store: submit, look, wait, and run workers here.

    Use as an async context manager. Errors on entry: Unreachable, Unusable,
    Refused, each with what to do.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        home: Path | None = None,
        tenant: str = "default",
        database: Database | None = None,
        config: Loaded | None = None,
    ) -> None:
        self.tenant = tenant
        self.loaded = config or load_config()
        self.config = self.loaded.config
        self._dsn, self._home, self._given = dsn, home, database
        self._stack = AsyncExitStack()
        self._workers: dict[Worker, asyncio.Task[None]] = {}
        self._ended: dict[str, asyncio.Event] = {}

    async def __aenter__(self) -> Self:
        try:
            if self._given is not None:
                self.database = self._given
            else:
                self.database = await asyncio.to_thread(Database.open, self._dsn or self.config.dsn, self._home)
                self._stack.callback(self.database.close)
            await migrate(self.database)
            self._pool: AsyncConnectionPool[Connection] = await self._stack.enter_async_context(
                self.database.pool("app", POOL_SIZE)
            )
            async with await self.database.connect("app") as connection:
                offset = await workers.clock_offset_us(connection)
                keys = await jobs.job_id_keys(connection)
            async with as_tenant(self._pool, self.tenant) as connection:
                await jobs.ensure_tenant(connection, self.tenant)
            self._submitter = Submitter(self.tenant, keys, Clock(offset), whoami(), self.config.sha256)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        await self._stack.aclose()

    async def submit(self, agent: Agent, value: Any = None, *, key: str | None = None, goal: str = "") -> str:
        """Make the job durable and return its id; the same `key` twice is the same job.

        Errors: Refused when the input doesn't validate.
        """
        new = self._submitter.prepare(agent, value, key=key, goal=goal)
        async with as_tenant(self._pool, self.tenant) as connection:
            return await jobs.submit(connection, new)

    async def find(self, prefix: str) -> JobRow:
        """Return the one job whose id starts so. Errors: Refused."""
        async with as_tenant(self._pool, self.tenant) as connection:
            return await jobs.find(connection, self.tenant, prefix)

    async def listing(
        self, *, agent: str | None = None, statuses: Sequence[JobStatus] = (), limit: int = 50
    ) -> list[JobRow]:
        """Return jobs, newest first."""
        async with as_tenant(self._pool, self.tenant) as connection:
            return await jobs.listing(connection, self.tenant, agent=agent, statuses=statuses, limit=limit)

    async def record(self, job: str) -> JobRecord:
        """Return everything that stands in the store of one job. Errors: Refused."""
        async with as_tenant(self._pool, self.tenant) as connection:
            row = await jobs.find(connection, self.tenant, job)
            found = await history.load(connection, [(self.tenant, row.job)], [1])
            ledger = await history.load_ledger(connection, self.tenant, row.job)
        return JobRecord(row, found[self.tenant, row.job], ledger)

    async def start_worker(self, agents: Sequence[Agent], settings: Settings | None = None) -> Worker:
        """Run a worker in this process until the system closes; return once it serves."""
        worker = self.make_worker(agents, settings)
        task = asyncio.create_task(worker.run(), name=f"worker {worker.name}")
        self._workers[worker] = task
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            del self._workers[worker]
            task.result()
        return worker

    def make_worker(self, agents: Sequence[Agent], settings: Settings | None = None) -> Worker:
        """Return a worker under the limits of this system's configuration, which follow its file."""
        watch = Watch(self.loaded)

        def changed() -> Limits | None:
            found = watch.changed()
            return None if found is None else found.rate_limits

        return Worker(
            self.database,
            agents,
            settings,
            on_end=self._on_end,
            limits=self.config.rate_limits,
            reload_limits=changed,
        )

    async def served(self, agent: str) -> bool:
        """Return whether any worker, here or elsewhere, serves this agent."""
        async with as_tenant(self._pool, self.tenant) as connection:
            return bool(await jobs.live_workers(connection, agent, WORKER_SILENCE_SECONDS))

    async def wait(self, ids: Sequence[str], *, seconds: float | None = None) -> dict[str, JobStatus]:
        """Return once every job has ended or is parked, or after `seconds`, with each one's status."""
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = 0.005
        while True:
            async with as_tenant(self._pool, self.tenant) as connection:
                found = await jobs.statuses(connection, self.tenant, ids)
            left = [job for job in ids if not _at_rest(found.get(job))]
            late = deadline is not None and time.monotonic() >= deadline
            if not left or late:
                return found
            await self._any_end(left, pause if deadline is None else min(pause, deadline - time.monotonic()))
            pause = min(pause * 1.5, 0.25)

    def _on_end(self, key: JobKey, end: End) -> None:
        if (event := self._ended.get(key[1])) is not None:
            event.set()

    async def _any_end(self, ids: Sequence[str], seconds: float) -> None:
        """Return when one of the jobs ended in a worker of this process, or after `seconds`."""
        event = asyncio.Event()
        self._ended.update(dict.fromkeys(ids, event))
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            for job in ids:
                self._ended.pop(job, None)


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

    def submit(self, agent: Agent, value: Any = None, *, key: str | None = None, goal: str = "") -> Job:
        """Make the job durable and return it; the same `key` twice is the same job. Errors: Refused."""
        self._agents[agent.name] = agent
        return Job(self, self._do(self._core.submit(agent, value, key=key, goal=goal)), agent)

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

        Errors: Refused when one has not within `seconds`.
        """
        for agent in {job.agent.name: job.agent for job in jobs if job.agent is not None}.values():
            if not self._do(self._core.served(agent.name)):
                self.serve(agent)
        ids = [job.id for job in jobs]
        found = self._do(self._core.wait(ids, seconds=seconds))
        if late := [job for job in ids if not _at_rest(found.get(job))]:
            raise Refused(f"job {late[0][:8]} is still {found[late[0]].word} after {seconds:g} s")

    def record(self, job: str) -> JobRecord:
        """Return everything that stands in the store of one job. Errors: Refused."""
        return self._do(self._core.record(job))

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

    def wait(self, seconds: float | None = None) -> Self:
        """Return once it has ended or is parked; runs a worker here if none serves it."""
        self._system.wait(self, seconds=seconds)
        return self

    @property
    def result(self) -> Any:
        """What the agent returned, as its declared type. Errors: Refused unless it completed."""
        value = self.record.result()
        return value if self.agent is None else self.agent.result_value(value)


def _at_rest(status: JobStatus | None) -> bool:
    return status is not None and (status.terminal or status is JobStatus.PARKED)
