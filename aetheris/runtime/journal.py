"""Group commit: while one commit is in flight, what comes next gathers behind it.

One connection, one statement at a time. Each round takes everything that all
jobs have pending and sends it as one append, so the cost of a commit is shared
by whatever is ready. A round that errors as a whole is sent again job by job:
one poisoned row harms only its own job. After a connection lost in COMMIT
nobody knows what was written, so each job's head is compared with what it
would be before anything goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aetheris.domain.errors import AetherisError, Lost
from aetheris.runtime.failpoints import reach
from aetheris.runtime.joblog import JobLog, Saved
from aetheris.store import inbox
from aetheris.store.append import Batch, JobKey, append, heads
from aetheris.store.database import Connection, transaction
from aetheris.store.errors import Full, Unreachable

RECONNECT_SECONDS = 0.2
JOBS_PER_COMMIT = 512
#: Fewer are never kept back: there is nothing to gain.
SMALL_ROUND = 16

_log = logging.getLogger(__name__)
_Round = list[tuple[JobLog, Batch, Saved]]


class Journal:
    """Makes many jobs' logs durable. `run` is its one task."""

    def __init__(self, worker: str, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._worker = worker
        self._connect = connect
        self._connection: Connection | None = None
        self._wanted: dict[JobLog, None] = {}
        self._last: frozenset[JobLog] = frozenset()
        self._wake = asyncio.Event()
        self._closing = False
        self.commits = 0

    def wanted(self, log: JobLog) -> None:
        """Note that `log` has something pending."""
        self._wanted[log] = None
        self._wake.set()

    async def run(self) -> None:
        """Commit rounds until `close` is called and nothing is pending."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._wanted:
                    await self._commit(self._gather())
                if self._closing:
                    return
        finally:
            if self._connection is not None:
                await self._connection.close()

    def close(self) -> None:
        """Let `run` return once everything pending is settled."""
        self._closing = True
        self._wake.set()

    def _gather(self) -> _Round:
        # Jobs that all became durable in one commit would come back together, and PostgreSQL and this process
        # would wait for each other in turn. Half of those about, and both always have something to do.
        about = len(self._wanted) + sum(log not in self._wanted for log in self._last)
        limit = min(max(SMALL_ROUND, (about + 1) // 2), JOBS_PER_COMMIT)
        round_: _Round = []
        while self._wanted and len(round_) < limit:
            log = next(iter(self._wanted))
            del self._wanted[log]
            if (taken := log.take()) is not None:
                round_.append((log, *taken))
        self._last = frozenset(log for log, _, _ in round_)
        return round_

    async def _commit(self, round_: _Round) -> None:
        while round_:
            sent = False
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect()
                sent = True
                reach("commit.before")
                refused = await self._append(self._connection, [batch for _, batch, _ in round_])
            except Unreachable as error:
                _log.warning("%s", error)
                await self._drop_connection()
                await asyncio.sleep(RECONNECT_SECONDS)
                if sent:
                    round_ = await self._after_doubt(round_)
            except Full as error:
                # Nothing was written and nothing is lost: hold on until there is room.
                _log.error("%s", error)
                await asyncio.sleep(5 * RECONNECT_SECONDS)
            except AetherisError as error:
                await self._one_by_one(round_, error)
                return
            except BaseException as error:
                _settle(round_, dict.fromkeys((b.key for _, b, _ in round_), Lost(f"the journal stopped: {error!r}")))
                raise
            else:
                reach("commit.after")
                self.commits += 1
                _settle(round_, refused)
                return

    async def _append(self, connection: Connection, batches: list[Batch]) -> dict[JobKey, AetherisError]:
        if not (continued := {batch.key: batch.continued_seq for batch in batches if batch.continued_seq}):
            return await append(connection, self._worker, batches)
        async with transaction(connection):
            refused = await append(connection, self._worker, batches)
            await inbox.carry(connection, {key: seq for key, seq in continued.items() if key not in refused})
        return refused

    async def _one_by_one(self, round_: _Round, error: AetherisError) -> None:
        if len(round_) == 1:
            _log.error("nothing of job %s was written: %s", round_[0][1].job[:8], error)
            _settle(round_, {round_[0][1].key: error})
            return
        for entry in round_:
            await self._commit([entry])

    async def _after_doubt(self, round_: _Round) -> _Round:
        """Settle what the lost connection did commit; return what it didn't."""
        while True:
            try:
                connection = self._connection = await self._connect()
                found = await heads(connection, [batch.key for _, batch, _ in round_])
                silent = [batch.key for _, batch, _ in round_ if batch.taken and not batch.lines]
                untaken = {m.id for each in (await inbox.untaken(connection, silent)).values() for m in each}
                break
            except Unreachable as error:
                _log.warning("%s", error)
                await asyncio.sleep(RECONNECT_SECONDS)
        again: _Round = []
        for log, batch, saved in round_:
            seq, leaf, epoch = found.get(batch.key, (0, b"", -1))
            if leaf == batch.new_leaf and seq == batch.new_head and batch.lines:
                log.settle(saved, None)
            elif epoch == batch.epoch and leaf == batch.old_leaf:
                if not batch.lines:
                    # The head doesn't tell whether this was written: a message counted off twice hides another one.
                    batch.taken = [taken for taken in batch.taken if taken[1] in untaken]
                again.append((log, batch, saved))
            else:
                log.settle(saved, Lost(f"job {batch.job[:8]}: another holder took over while the connection was lost"))
        return again

    async def _drop_connection(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _settle(round_: _Round, refused: dict[JobKey, AetherisError]) -> None:
    for log, batch, saved in round_:
        log.settle(saved, refused.get(batch.key))
