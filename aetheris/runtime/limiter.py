"""The limiter: calls wait here for their turn, before their start record.

    wait      a call joins its budget's queue: round-robin by tenant, then job
    reserve   one task per budget with waiters takes slots (and permits) from the database, some
              ahead, each for the waiter whose turn it is; he sleeps until his slot, and starts
    amend     what an answer said of tokens used, or of a pause that it wants, moves the budget for all
    put down  waits that are over are written to `limit_waits`, many at once; permits in hand are renewed

The database's clock gives the slots; a worker only sleeps by its offset from
it. A slot lost to a crash, a cancel or a stall is wasted, never used twice; a
start later than its slot by more than an interval reserves anew, so a stall
can't bunch starts. A tail of slots that no waiter wants any more goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from aetheris.domain.errors import AetherisError, Refused
from aetheris.domain.limits import Limit
from aetheris.runtime import metrics
from aetheris.runtime.clock import Clock
from aetheris.runtime.rounds import Rounds
from aetheris.runtime.turns import Budget, FreeTurn, RateLimited, Turn, Waiter
from aetheris.store import limits as store
from aetheris.store.database import Connection
from aetheris.store.errors import Full, Unreachable
from aetheris.store.limits import Key, Wait

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
RELOAD_SECONDS = 1.0
RECONNECT_SECONDS = 0.2
#: What is refused and not merely gone or full wants a person: asked and told of ever less often, down to this.
REFUSED_MOST_SECONDS = 10.0
#: A far side that names a longer pause is asked again after this, and may name it again.
HOLD_MOST_SECONDS = 300.0


class Limits(Protocol):
    """What says which limit applies."""

    def find(self, kind: str, name: str) -> Limit | None:
        """Return the limit on calls of this name, or None where none is written."""
        ...


class Unlimited:
    """No limits at all."""

    def find(self, kind: str, name: str) -> Limit | None:
        """Nothing is limited."""
        return None


class Limiter:
    """Hands out turns. `run` is its one duty; without it nothing limited ever starts."""

    def __init__(
        self,
        limits: Limits,
        worker: str,
        clock: Clock,
        connect: Callable[[], Awaitable[Connection]],
        *,
        permit_seconds: float = 30.0,
        reload: Callable[[], Limits | None] | None = None,
    ) -> None:
        self._limits, self._worker, self.clock, self._connect = limits, worker, clock, connect
        self._reload = reload
        self._rounds = Rounds(worker, permit_seconds)
        self._budgets: dict[Key, Budget] = {}
        self._free_turns: dict[tuple[str, str], FreeTurn] = {}
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._waits: list[Wait] = []
        self._amends: list[tuple[Callable[[Connection, Key, int], Awaitable[None]], Key, int]] = []
        self._renewed_at = 0.0

    def turn(
        self, kind: str, name: str, tenant: str, job: str, step: int, attempt: int, tokens: int = 0
    ) -> Turn | FreeTurn:
        """Return what to enter before a call starts and to leave when it has ended.

        `tokens` is how many it is thought to use, where those are limited.
        Entering returns how long it waited, microseconds. Errors on entering:
        RateLimited.
        """
        limit = self._limits.find(kind, name)
        if limit is None:
            free = self._free_turns.get((kind, name))
            if free is None:
                free = self._free_turns[kind, name] = FreeTurn(kind, name)
            return free
        key = Key(tenant if limit.scope == "tenant" else "", kind, name)
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(key, limit)
        budget.limit = limit
        return Turn(self, budget, tenant, job, step, attempt, tokens)

    def replace(self, limits: Limits) -> None:
        """Let other limits be in force, for those who wait too."""
        self._limits = limits
        for budget in self._budgets.values():
            # One that is written no more has no rate: its waiters go.
            budget.limit = limits.find(budget.key.kind, budget.key.name) or Limit()
            budget.wake.set()

    def drain(self) -> None:
        """Send every waiter away: nothing of theirs has started, another worker will ask again."""
        for budget in self._budgets.values():
            for waiter in [*budget.queue, *([budget.head] if budget.head is not None else [])]:
                budget.queue.remove(waiter.ticket)
                waiter.given.cancel()

    async def run(self) -> None:
        """Put waits on record, renew permits, look for changed limits; for ever."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        with contextlib.suppress(AetherisError):
            async with self._lock:
                await self._connected()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self._put_down()
            except Unreachable:
                pass  # the worker says so
            except AetherisError as error:
                _log.warning("waits are not on record yet: %s", error)
                await asyncio.sleep(RELOAD_SECONDS)
            if self._reload is not None and loop.time() - looked_at >= RELOAD_SECONDS:
                looked_at = loop.time()
                self._look_for_change(self._reload)

    def _look_for_change(self, reload: Callable[[], Limits | None]) -> None:
        try:
            changed = reload()
        except AetherisError as error:
            _log.error("%s; the limits that were in force stay", error)
            return
        if changed is not None:
            _log.info("the limits have changed: the new ones are in force")
            self.replace(changed)

    async def close(self) -> None:
        """Put down what is left and let go of the connection."""
        tasks = [b.task for b in self._budgets.values() if b.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._put_down()
        except AetherisError as error:
            _log.warning("%s", error)
        await self._drop_connection()

    # What a turn does.

    async def ask(self, budget: Budget, waiter: Waiter) -> tuple[int, int]:
        """Return (slot, permit) when they are this waiter's. Errors: RateLimited."""
        waiter.ticket = budget.queue.push(waiter.tenant, waiter.job, waiter)
        if budget.task is None or budget.task.done():
            budget.task = asyncio.create_task(self._serve(budget), name=f"limit {budget.key.name}")
        try:
            if waiter.deadline_us is None:
                return await waiter.given
            async with asyncio.timeout((waiter.deadline_us - self.clock.now_us()) / 1e6):
                return await asyncio.shield(waiter.given)
        except TimeoutError:
            if waiter.given.done() and not waiter.given.cancelled():
                return waiter.given.result()
            budget.queue.remove(waiter.ticket)
            waiter.given.cancel()
            raise self._refusal(budget, waiter) from None
        except asyncio.CancelledError:
            budget.queue.remove(waiter.ticket)
            if waiter.given.done() and not waiter.given.cancelled():
                slot, permit = waiter.given.result()
                budget.ahead -= 1
                self.note(budget, waiter, slot, None, "cancelled")
                self.free(permit)
            waiter.given.cancel()
            raise

    def _refusal(self, budget: Budget, waiter: Waiter) -> RateLimited:
        self.note(budget, waiter, self.clock.now_us(), None, "refused")
        metrics.rate_limit_rejected(budget.key.kind, budget.key.name)
        ahead = max(0, budget.next_ns - self.clock.now_us() * 1000) + len(budget.queue) * budget.limit.interval_ns
        retry = max(ahead / 1e9, 0.1)
        return RateLimited(
            f"{budget.key.name}: no slot within max_wait ({budget.limit.max_wait_seconds:g} s);"
            f" try again in {retry:.1f} s",
            retry_after_seconds=retry,
        )

    def note(self, budget: Budget, waiter: Waiter, slot_us: int, started_us: int | None, outcome: str) -> None:
        """Have a wait put on record soon."""
        self._waits.append(
            Wait(
                waiter.tenant,
                waiter.job,
                waiter.step,
                waiter.attempt,
                budget.key.kind,
                budget.key.name,
                waiter.asked_us,
                slot_us,
                started_us,
                outcome,
            )
        )

    def free(self, permit: int) -> None:
        """Let others have this permit (0: there is none)."""
        self._rounds.free(permit)

    def correct(self, budget: Budget, tokens: int) -> None:
        """Have `tokens` more (or fewer) taken from a budget than were reserved: what an answer says was used."""
        if tokens and budget.limit.token_ns:
            self._amends.append((store.correct_tokens, budget.key, tokens))
            budget.wake.set()

    def hold(self, budget: Budget, seconds: float) -> None:
        """Have no slot given out that comes sooner than `seconds` from now (HOLD_MOST_SECONDS at most)."""
        if seconds > 0:
            self._amends.append((store.hold, budget.key, int(min(seconds, HOLD_MOST_SECONDS) * 1e9)))
            budget.wake.set()

    # The task of a budget that has waiters.

    async def _serve(self, budget: Budget) -> None:
        refused_seconds = RECONNECT_SECONDS
        while budget.queue or budget.head is not None:
            budget.wake.clear()
            try:
                pause = await self._round(budget)
                refused_seconds = RECONNECT_SECONDS
            except AetherisError as error:
                # Whoever waits goes on waiting. What an unanswered statement reserved is wasted; its permits are not
                # renewed and run out.
                _log.warning("%s", error)
                await self._drop_connection()
                pause = RECONNECT_SECONDS
                if not isinstance(error, Unreachable | Full):
                    pause, refused_seconds = refused_seconds, min(2 * refused_seconds, REFUSED_MOST_SECONDS)
            if pause > 0 and (budget.queue or budget.head is not None):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await budget.wake.wait()

    async def _round(self, budget: Budget) -> float:
        """Reserve and hand out; return how long to wait before the next round."""
        async with self._lock:
            connection = await self._connected()
            await self._amend(connection)
            return await self._rounds.run(connection, budget)

    async def _amend(self, connection: Connection) -> None:
        while self._amends:
            amend, key, by = self._amends[0]
            try:
                await amend(connection, key, by)
            except Full:
                raise
            except Refused as error:
                # It would be refused for ever (a number beyond what is kept), and hold up every budget here.
                _log.error("%s: %d is not reckoned in: %s", key.name, by, error)
            del self._amends[0]

    # The connection, shared by all budgets, one statement at a time.

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._connect()
        return self._connection

    async def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(AetherisError, OSError):
                await self._connection.close()
            self._connection = None

    async def _put_down(self) -> None:
        now = asyncio.get_running_loop().time()
        rounds = self._rounds
        renew = bool(rounds.permits) and now - self._renewed_at >= rounds.permit_seconds / 3
        if not (self._waits or rounds.released or self._amends or renew):
            return
        async with self._lock:
            waits, self._waits = self._waits, []
            freed, rounds.released = rounds.released, []
            try:
                connection = await self._connected()
                if renew:
                    await store.renew_permits(connection, self._worker, list(rounds.permits), rounds.permit_seconds)
                    self._renewed_at = now
                await self._amend(connection)
                if waits:
                    await store.write_waits(connection, waits)
                if freed:
                    await store.release_permits(connection, self._worker, freed)
            except AetherisError:
                self._waits[:0], rounds.released[:0] = waits, freed
                await self._drop_connection()
                raise
