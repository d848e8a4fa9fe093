"""Turns: what a call enters before it starts, and leaves when it has ended."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aetheris.domain.errors import Refused
from aetheris.domain.limits import FairQueue, Limit
from aetheris.runtime import metrics
from aetheris.store.limits import Key

if TYPE_CHECKING:
    from aetheris.runtime.limiter import Limiter


class RateLimited(Refused):
    """The wait would be longer than the limit's max_wait. The call was not started."""


class Waiter:
    """One call in a queue. `given` is settled with its slot: (at, microseconds; permit number or 0)."""

    __slots__ = ("asked_us", "attempt", "deadline_us", "given", "job", "limit", "step", "tenant", "ticket", "tokens")

    def __init__(
        self, tenant: str, job: str, step: int, attempt: int, asked_us: int, max_wait: float | None, tokens: int = 0
    ) -> None:
        self.tenant, self.job, self.step, self.attempt, self.tokens = tenant, job, step, attempt, tokens
        self.asked_us = asked_us
        self.deadline_us = None if max_wait is None else asked_us + int(max_wait * 1e6)
        self.ticket = 0
        self.limit = Limit()  # under which the slot was given
        self.given: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()


class Budget:
    """The waiters of one budget in this worker, and the task that serves them."""

    def __init__(self, key: Key, limit: Limit) -> None:
        self.key, self.limit = key, limit
        self.queue: FairQueue[Waiter] = FairQueue()
        #: Whose turn it is, where each one's tokens are reserved by themselves.
        self.head: Waiter | None = None
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.next_ns = 0
        #: Slots given that have not come yet.
        self.ahead = 0


class Turn:
    """One call's turn under a limit: enter it to wait, leave it when the call has ended."""

    __slots__ = ("_attempt", "_budget", "_job", "_limiter", "_line", "_permit", "_step", "_tenant", "_tokens")

    def __init__(
        self, limiter: Limiter, budget: Budget, tenant: str, job: str, step: int, attempt: int, tokens: int = 0
    ) -> None:
        self._limiter, self._budget, self._tokens = limiter, budget, tokens
        self._tenant, self._job, self._step, self._attempt = tenant, job, step, attempt
        self._permit = 0
        self._line: dict[str, Any] = {}

    async def __aenter__(self) -> int:
        limiter, budget, clock = self._limiter, self._budget, self._limiter.clock
        first_asked = asked = clock.now_us()
        while True:
            waiter = Waiter(
                self._tenant, self._job, self._step, self._attempt, asked, budget.limit.max_wait_seconds, self._tokens
            )  # fmt: skip
            slot, permit = await limiter.ask(budget, waiter)
            try:
                while (left := slot - clock.now_us()) > 0:
                    await asyncio.sleep(left / 1e6)
            except asyncio.CancelledError:
                limiter.note(budget, waiter, slot, None, "cancelled")
                limiter.free(permit)
                raise
            finally:
                budget.ahead -= 1
            now = clock.now_us()
            if now - slot <= budget.limit.late_ns // 1000:
                break
            limiter.note(budget, waiter, slot, None, "late")
            limiter.free(permit)
            asked = now
        limiter.note(budget, waiter, slot, now, "started")
        self._permit = permit
        key = budget.key
        if waiter.limit.interval_ns:
            self._line = {
                "burst": waiter.limit.burst,
                "interval_ns": waiter.limit.interval_ns,
                "kind": key.kind,
                "name": key.name,
                "scope": waiter.limit.scope,
                "slot_us": slot,
            }
        metrics.rate_limit_waited(key.kind, key.name, (now - first_asked) / 1e6)
        metrics.call_entered(key.kind, key.name)
        return max(0, now - first_asked)

    def line(self) -> dict[str, Any]:
        """Return what the event of the start says of the limit in force: `limits/kept` holds it to that."""
        return {"limit": self._line} if self._line else {}

    def used(self, tokens: int) -> None:
        """Say how many tokens the call really used; until then it counts as those that it reserved."""
        self._limiter.correct(self._budget, tokens - self._tokens)

    def hold(self, seconds: float) -> None:
        """Let no call of this budget start for so long, in any worker."""
        self._limiter.hold(self._budget, seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limiter.free(self._permit)
        if self._permit:
            self._budget.wake.set()
        metrics.call_left(self._budget.key.kind, self._budget.key.name)


class FreeTurn:
    """A turn of a call that nothing limits: entered at once, and seen all the same. One serves all calls of a name."""

    __slots__ = ("_enter", "_leave", "_observe")

    def __init__(self, kind: str, name: str) -> None:
        self._observe, self._enter, self._leave = metrics.free_call(kind, name)

    async def __aenter__(self) -> int:
        self._observe(0.0)
        self._enter()
        return 0

    def line(self) -> dict[str, Any]:
        """Nothing limits it."""
        return {}

    def used(self, tokens: int) -> None:
        """Nothing counts them here."""

    def hold(self, seconds: float) -> None:
        """There is no budget to hold: each call waits for itself."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
