"""The worker: claims jobs, drives them, keeps their leases, and lets go in order.

Tasks of a worker:
    claim      asks for as many jobs as there is room for; at once when told (NOTIFY), else by polling
    heartbeat  one statement for all held jobs, three times a lease; what it doesn't confirm is lost
    inbox      fetches what was sent to held jobs, when told (NOTIFY) or when a heartbeat says so (mail.py)
    journal    group commit (journal.py)
    one task per job in hand

Every duty reconnects by itself. A worker decides nothing by its own clock: when
it can't reach the database it keeps nothing but its running effects, and the
append refuses whatever it sends under a lease that ran out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from aetheris.domain.errors import AetherisError, Refused
from aetheris.runtime import metrics, threads
from aetheris.runtime.agents import Agent
from aetheris.runtime.children import Children
from aetheris.runtime.clock import Clock
from aetheris.runtime.duties import keep_up, until_stopped
from aetheris.runtime.failpoints import reach
from aetheris.runtime.held import Counts, Held, Settings
from aetheris.runtime.journal import Journal
from aetheris.runtime.limiter import Limiter, Limits, Unlimited
from aetheris.runtime.line import Line
from aetheris.runtime.llm.model import Models
from aetheris.runtime.mail import Mail
from aetheris.runtime.replay_context import ReplayContextBuilder
from aetheris.runtime.run import End, Run
from aetheris.runtime.sampling import sample_forever
from aetheris.runtime.serving import Serving
from aetheris.runtime.snapshots import Snapshotter
from aetheris.store import inbox, jobs, leases, snapshots, workers
from aetheris.store.append import JobKey
from aetheris.store.database import Connection, Database
from aetheris.store.leases import Lease
from aetheris.store.signals import wake_others

_log = logging.getLogger(__name__)
JOBS_PER_CLAIM = 64
DRAIN_SECONDS = 30.0
#: A claim under way when the worker is stopped has so long to end.
CLAIM_SECONDS = 2.0
#: What is being given back at the worker's end has so long to reach the database.
GIVE_BACK_SECONDS = 5.0


class Worker:
    """Serves `agents` until stopped. `run` is its life; `stop` drains it."""

    def __init__(
        self,
        database: Database,
        agents: Sequence[Agent],
        settings: Settings | None = None,
        *,
        name: str | None = None,
        on_end: Callable[[JobKey, End], None] | None = None,
        limits: Limits | None = None,
        reload_limits: Callable[[], Limits | None] | None = None,
        models: Models | None = None,
    ) -> None:
        self.settings = settings or Settings()
        if self.settings.concurrency < 1:
            raise Refused("worker.concurrency must be at least 1")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.counts = Counts()
        self.ready = asyncio.Event()
        self._database, self._models = database, models or Models()
        self.serving = Serving(agents, self.settings, self._models.offers)
        self._on_end = on_end
        self._clock = Clock()
        self._held: dict[JobKey, Held] = {}
        self._hint = asyncio.Event()
        self._stop = asyncio.Event()
        self._mail = Mail(self._held, self.hint)
        self._keys: dict[int, bytes] = {}
        self._contexts = ReplayContextBuilder({})
        self._snapshotter = Snapshotter(self.settings.snapshot, within_seconds=self.settings.lease_seconds)
        self._aside: set[asyncio.Task[End]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._journal = Journal(self.name, lambda: database.connect("worker"))
        self._limiter = Limiter(
            limits or Unlimited(),
            self.name,
            self._clock,
            lambda: database.connect("worker"),
            permit_seconds=self.settings.lease_seconds,
            reload=reload_limits,
        )
        self._line = Line(lambda: database.connect("worker"))
        self._threads = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="aetheris-tool")

    async def run(self) -> None:
        """Work until `stop`, then drain: no new claims, calls under way finish, leases are given back.

        Errors: Unusable and Refused when the database can't be used at all.
        """
        threads.POOL.set(self._threads)
        async with await self._database.connect("worker") as control:
            self._clock.offset_us = await workers.clock_offset_us(control)
            self._keys = await jobs.job_id_keys(control)
            self._contexts.keys = await snapshots.snapshot_keys(control)
            await self._register(control)
        journal = asyncio.create_task(self._journal.run(), name="journal")
        limiter = asyncio.create_task(self._limiter.run(), name="limiter")
        every: list[Callable[[Connection], Awaitable[None]]] = [
            self._claim_forever,
            self._heartbeat_forever,
            self._mail.listen_forever,
            self._mail.fetch_forever,
            self._sample_forever,
        ]
        if self.settings.snapshot.enabled:
            every.append(self._snapshotter.run)
        duties = [asyncio.create_task(keep_up(self._database, duty), name=duty.__name__) for duty in every]
        try:
            await until_stopped(self._stop, [journal, limiter, *duties])
            await self._drain(duties[0])
        finally:
            for task in (limiter, *duties):
                task.cancel()
            await asyncio.gather(limiter, *duties, return_exceptions=True)
            for job in (in_hand := self._in_hand()):
                job.cancel()
            await asyncio.gather(*in_hand, return_exceptions=True)
            if self._background:
                _, late = await asyncio.wait(self._background, timeout=GIVE_BACK_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
            await self._limiter.close()
            await self._models.close()
            self._journal.close()
            await journal
            await self._leave()
            await self._line.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Ask the worker to drain and return from `run`."""
        self._stop.set()

    def hint(self) -> None:
        """Say that there may be something to claim."""
        self._hint.set()

    async def take_on(self, agent: Agent) -> None:
        """Serve this agent as well, from now on. Errors: Refused, Unreachable."""
        self.serving.add(agent)
        async with self._line.turn() as connection:
            await self._register(connection)
        self.hint()

    async def _sample_forever(self, connection: Connection) -> None:
        await sample_forever(connection, self.settings.sample_seconds)

    async def _claim_forever(self, connection: Connection) -> None:
        await leases.settle_plan(connection)
        self.ready.set()
        while not self._stop.is_set():
            self._hint.clear()
            room = self.settings.concurrency - len(self._held)
            if room > 0 and await self._claim(connection, min(room, JOBS_PER_CLAIM)):
                continue
            # asyncio.timeout, not wait_for: 3.11's wait_for may swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                # Nobody tells of a lease that ran out: looking twice a lease keeps a takeover near its end.
                async with asyncio.timeout(min(self.settings.poll_seconds, self.settings.lease_seconds / 2)):
                    await self._hint.wait()

    async def _claim(self, connection: Connection, limit: int) -> bool:
        """Take up to `limit` jobs in hand; True when there may be more."""
        reach("claim.before")
        asked_at = time.monotonic()
        taken = await leases.claim(
            connection,
            self.name,
            agents=self.serving.versions,
            accepts=self.serving.accepts,
            capabilities=self.serving.capabilities,
            limit=limit,
            lease_seconds=self.settings.lease_seconds,
        )
        if not taken:
            return False
        reach("claim.after")
        self.counts.claimed += len(taken)
        mail = [x.key for x in taken if x.inbox]
        messages = await inbox.untaken(connection, mail) if mail else {}
        contexts = await self._contexts.build(connection, [x.key for x in taken], [x.checkpoint_seq for x in taken])
        for lease in taken:
            metrics.lease_acquired(lease.tenant)
            run = Run(
                self.serving.agents[lease.agent],
                lease,
                contexts[lease.key],
                self._journal,
                self._clock,
                self.name,
                self._limiter,
                children=Children(lease.key, self._line, self._keys, self._clock),
                models=self._models,
                inbox=messages.get(lease.key, ()),
                checkpointed=self._snapshotter.ask,
            )
            run.heard(asked_at + self.settings.lease_seconds)
            held = Held(lease, run, asyncio.create_task(run.run(), name=f"job {lease.job[:8]}"))
            if (before := self._held.get(lease.key)) is not None:
                self._set_aside(before)
            self._held[lease.key] = held
            held.task.add_done_callback(lambda _, held=held: self._ended(held))  # type: ignore[misc]
        metrics.worker_holds(self.name, len(self._held), self.settings.concurrency)
        return len(taken) == limit

    def _set_aside(self, before: Held) -> None:
        """Let an earlier hold of a job that is in hand anew end: by itself where it is about to, else cancelled."""
        self._aside.add(before.task)
        before.task.add_done_callback(self._aside.discard)
        if not before.run.letting_go:
            _log.warning("job %s: the lease ran out and is ours anew; its task is cancelled", before.lease.job[:8])
            before.task.cancel()

    def _ended(self, held: Held) -> None:
        key, task = held.lease.key, held.task
        if self._held.get(key) is held:
            del self._held[key]
        metrics.worker_holds(self.name, len(self._held), self.settings.concurrency)
        metrics.job_let_go(held.lease.agent, time.monotonic() - held.began)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("job %s: %s", key[1][:8], error, exc_info=error)
            return
        end = task.result()
        self.counts.ended[end.word] = self.counts.ended.get(end.word, 0) + 1
        if end.give_back_seconds is not None:
            spawn = asyncio.create_task(self._give_back(held.lease, end.give_back_seconds))
            self._background.add(spawn)
            spawn.add_done_callback(self._background.discard)
        if self._on_end is not None:
            self._on_end(key, end)
        if len(self._held) == self.settings.concurrency - 1 or not self._held:
            self._hint.set()

    async def _give_back(self, lease: Lease, delay_seconds: float) -> None:
        try:
            async with self._line.turn() as connection:
                held = [(lease.tenant, lease.job, lease.epoch)]
                await leases.release(connection, self.name, held, delay_seconds=delay_seconds)
        except AetherisError as error:
            _log.warning("job %s: not given back, its lease has to run out: %s", lease.job[:8], error)

    async def _heartbeat_forever(self, connection: Connection) -> None:
        while True:
            self._clock.offset_us = await workers.clock_offset_us(connection)
            asked = dict(self._held)
            asked_at = time.monotonic()
            alive = await leases.heartbeat(
                connection,
                self.name,
                [(h.lease.tenant, h.lease.job, h.lease.epoch) for h in asked.values()],
                self.settings.lease_seconds,
            )
            self._mail.ask(key for key, wanted in alive.items() if wanted)
            for key, held in asked.items():
                if key in alive:
                    held.run.heard(asked_at + self.settings.lease_seconds)
                elif self._held.get(key) is held and not held.run.letting_go:
                    _log.warning("job %s: the lease is lost; its task is cancelled", key[1][:8])
                    held.task.cancel()
            await asyncio.sleep(self.settings.lease_seconds / 3)

    async def _drain(self, claiming: asyncio.Task[None]) -> None:
        """Let every job go at its next resting point, and tell the others of what is free."""
        self._hint.set()
        self._let_go()
        before = self._in_hand()
        await asyncio.wait([claiming], timeout=CLAIM_SECONDS)
        self._let_go()  # what a claim under way brought, too: else its leases would have to run out
        if any(task.done() for task in before):
            await self._wake_others()
        deadline = time.monotonic() + DRAIN_SECONDS
        while (tasks := self._in_hand()) and (left := deadline - time.monotonic()) > 0:
            done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if done:
                await self._wake_others()

    def _in_hand(self) -> list[asyncio.Task[End]]:
        """Return the tasks of all jobs in hand, and of the holds that were set aside and haven't ended."""
        return [*(held.task for held in self._held.values()), *self._aside]

    def _let_go(self) -> None:
        for held in self._held.values():
            held.run.drain()
        self._limiter.drain()

    async def _wake_others(self) -> None:
        try:
            async with await self._database.connect("worker") as connection:
                await wake_others(connection)
        except AetherisError as error:
            _log.info("the others will find the jobs by themselves: %s", error)

    async def _register(self, connection: Connection) -> None:
        await workers.register(
            connection,
            self.name,
            agents=self.serving.versions,
            capabilities=self.serving.capabilities,
            concurrency=self.settings.concurrency,
        )

    async def _leave(self) -> None:
        try:
            async with await self._database.connect("worker") as connection:
                await workers.unregister(connection, self.name)
        except AetherisError as error:
            _log.warning("leaving: %s", error)
