"""One tenant's view of a store, for async code; `facade.py` is the same without `await`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from psycopg_pool import AsyncConnectionPool

from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.agents import Agent
from aetheris.runtime.clock import Clock
from aetheris.runtime.config_file import Loaded, Watch
from aetheris.runtime.config_file import load as load_config
from aetheris.runtime.held import Settings
from aetheris.runtime.leaving import leave
from aetheris.runtime.limiter import Limits
from aetheris.runtime.llm.model import Models
from aetheris.runtime.lookout import Lookout
from aetheris.runtime.operator import Operator
from aetheris.runtime.record import JobRecord, load_record
from aetheris.runtime.run import End
from aetheris.runtime.submit import Submitter, whoami
from aetheris.runtime.worker import Worker
from aetheris.store import jobs, tombstones, workers
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database, as_tenant, default_home
from aetheris.store.jobs import JobRow
from aetheris.store.migrate import migrate
from aetheris.store.signals import announce
from aetheris.store.tombstones import Tombstone

T = TypeVar("T")
POOL_SIZE = 16
WORKER_SILENCE_SECONDS = 45.0
_TENANT = re.compile(ids.TENANT_PATTERN)


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
        lake: Path | None = None,
    ) -> None:
        if not _TENANT.fullmatch(tenant):
            raise Refused(
                f"{tenant[:64]!r} can't name a tenant: up to 63 of a-z, 0-9, dot, - and _, a letter or digit first"
            )
        self.tenant = tenant
        self.loaded = config or load_config()
        self.config = self.loaded.config
        self._dsn, self._home, self._given = dsn, home, database
        #: Where collected jobs are read from.
        self.lake = lake or (home or default_home()) / "lake"
        self._stack = AsyncExitStack()
        self._workers: dict[Worker, asyncio.Task[None]] = {}
        self._lookout = Lookout(self._look)
        self._own: Worker | None = None
        self._serving = asyncio.Lock()

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
            self._stack.push_async_callback(self._lookout.close)
            async with await self.database.connect("app") as connection:
                offset = await workers.clock_offset_us(connection)
                keys = await jobs.job_id_keys(connection)
            async with as_tenant(self._pool, self.tenant) as connection:
                await jobs.ensure_tenant(connection, self.tenant)
            self._submitter = Submitter(self.tenant, keys, Clock(offset), whoami(), self.config.sha256)
            #: What a person may do to jobs: signal, approve, cancel, pause, resume, resolve, retry.
            self.operator = Operator(self._pool, self._submitter)
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
        await leave()
        await self._stack.aclose()

    async def submit(
        self,
        agent: Agent,
        value: Any = None,
        *,
        key: str | None = None,
        goal: str = "",
        timeout: timedelta | None = None,
        traceparent: str = "",
    ) -> str:
        """Make the job durable and return its id; the same `key` twice is the same job.

        `timeout` bounds it from now to its end. `traceparent` is the caller's
        W3C trace context; without one, that of the span that this runs in.
        Errors: Refused when the input doesn't validate.
        """
        limit = None if timeout is None else timeout.total_seconds()
        new = self._submitter.prepare(agent, value, key=key, goal=goal, timeout_seconds=limit, traceparent=traceparent)
        async with as_tenant(self._pool, self.tenant) as connection:
            job = await jobs.submit(connection, new)
        await announce(self._pool)
        return job

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
        """Return everything that is recorded of one job: from the store, or from the lake once it was collected.

        Errors: Refused, Unusable (collected, and no lake in `self.lake`), Corrupt.
        """
        async with as_tenant(self._pool, self.tenant) as connection:
            try:
                row = await jobs.find(connection, self.tenant, job)
            except Refused:
                stone = await tombstones.find(connection, self.tenant, job)
                if stone is None:
                    raise
                from aetheris.runtime.archived import archived  # brings pyiceberg, a second that few commands need

                return await asyncio.to_thread(archived, self.lake, stone)
            return await load_record(connection, row)

    async def collected(self, limit: int = 50) -> list[Tombstone]:
        """Return the jobs that left the store on record, latest first."""
        async with as_tenant(self._pool, self.tenant) as connection:
            return await tombstones.listing(connection, self.tenant, limit)

    async def why_parked(self, row: JobRow) -> str:
        """Return why a resting job waits, in words: the reason on record, or what an approval asks."""
        record = await self.record(row.job)
        for event in reversed(record.events):
            if event.type == "job_parked":
                return str(event.data["reason"])
            if event.type == "approval_requested":
                return f"asks: {record.value(event, 'title') or '(erased)'}"
        return ""

    async def start_worker(self, agents: Sequence[Agent], settings: Settings | None = None) -> Worker:
        """Run a worker in this process until the system closes; return once it serves."""
        worker = self.make_worker(agents, settings)
        task = asyncio.create_task(worker.run(), name=f"worker {worker.name}")
        self._workers[worker] = task
        ready = asyncio.create_task(worker.ready.wait())
        try:
            await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if task.done():
            del self._workers[worker]
            task.result()
        return worker

    async def serve_here(self, agent: Agent) -> Worker | None:
        """Return once some worker serves this agent: where none did, the one here that serves whatever is waited for.

        A worker has connections of its own: one for each agent would soon have all that PostgreSQL gives.
        """
        async with self._serving:
            if await self.served(agent):
                return None
            own = self._own
            gone = own is None or own not in self._workers or self._workers[own].done()
            if own is None or gone or own.serving.agents.get(agent.name, agent) is not agent:
                own = self._own = await self.start_worker([agent])
            elif agent.name not in own.serving.agents:
                await own.take_on(agent)
            return own

    def make_worker(self, agents: Sequence[Agent], settings: Settings | None = None) -> Worker:
        """Return a worker with the models and limits of this system's configuration; the limits follow its file."""
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
            models=Models(self.config.models),
        )

    async def served(self, agent: Agent) -> bool:
        """Return whether any worker, here or elsewhere, serves this agent and can do what it asks."""
        async with as_tenant(self._pool, self.tenant) as connection:
            return bool(await jobs.live_workers(connection, agent.name, WORKER_SILENCE_SECONDS, agent.asks))

    async def check_version(self, job: str, agent: Agent | None) -> None:
        """Return unless the job has begun under a version of its code that no worker serves. Errors: Refused."""
        row = await self.find(job)
        if (
            row.epoch == 0
            or row.status.terminal
            or agent is None
            or row.agent_version in (agent.version, *agent.accepts)
        ):
            return
        async with as_tenant(self._pool, self.tenant) as connection:
            served = await jobs.live_workers(connection, f"{row.agent}@{row.agent_version}", WORKER_SILENCE_SECONDS)
        if not served:
            raise Refused(
                f"job {row.job[:8]} has begun under version {row.agent_version} of {row.agent},"
                f" this is {agent.version}: serve that one, or accept it"
                f" (accepts=[{row.agent_version!r}], --accept-version)"
            )

    async def wait(self, ids: Sequence[str], *, seconds: float | None = None) -> dict[str, JobStatus]:
        """Return once every job has ended or is parked, or after `seconds`, with each one's status."""
        return await self._lookout.wait(ids, seconds)

    async def _look(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        async with as_tenant(self._pool, self.tenant) as connection:
            return await jobs.statuses(connection, self.tenant, ids)

    def _on_end(self, key: JobKey, end: End) -> None:
        self._lookout.ended(key[1])
