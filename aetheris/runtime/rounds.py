"""Rounds: one statement takes slots (and permits) of a budget, and each goes to the waiter whose turn it is.

`many` takes up to 256 slots that are alike. `one` takes a single slot for the
waiter whose turn it is, whose tokens count: what a budget holds for him says
nothing about the next.
"""

from __future__ import annotations

from aetheris.domain.limits import AHEAD_NS, SLOTS_PER_STATEMENT, Limit, slots
from aetheris.runtime.turns import Budget, Waiter
from aetheris.store import limits as store
from aetheris.store.database import Connection

#: Between two asks while slots or permits are out: half a window of slots never runs dry meanwhile.
ASK_AGAIN_SECONDS = 0.125
ASK_LEAST_SECONDS = 0.01
#: Who had the last slot lets the others ask first.
GIVE_WAY_SECONDS = 0.02


class Rounds:
    """Reserves for one worker's waiters, and keeps the numbers of the permits in its hands."""

    def __init__(self, worker: str, permit_seconds: float) -> None:
        self._worker, self.permit_seconds = worker, permit_seconds
        self.permits: set[int] = set()
        self.released: list[int] = []
        self._number = 0

    def free(self, permit: int) -> None:
        """Let others have this permit (0: there is none)."""
        if permit:
            self.permits.discard(permit)
            self.released.append(permit)

    async def run(self, connection: Connection, budget: Budget) -> float:
        """Reserve and hand out once; return how long to wait before the next round. Errors: Unreachable."""
        if self.released:
            freed, self.released = self.released, []
            await store.release_permits(connection, self._worker, freed)
        if budget.limit.token_ns:
            return await self._one(connection, budget)
        if (head := budget.head) is not None:
            # Tokens were limited when his turn came: he queues as the others do, else nobody ever serves him.
            budget.head = None
            if not head.given.done():
                head.ticket = budget.queue.push(head.tenant, head.job, head)
        return await self._many(connection, budget)

    async def _many(self, connection: Connection, budget: Budget) -> float:
        if not budget.queue:
            return 0.0  # the last one left while the connection was waited for
        limit = budget.limit
        first, self._number = self._number + 1, self._number + SLOTS_PER_STATEMENT
        grant = await store.reserve(
            connection,
            budget.key,
            limit,
            wanted=min(len(budget.queue), SLOTS_PER_STATEMENT),
            waiting=len(budget.queue) + budget.ahead,
            ahead=budget.ahead,
            worker=self._worker,
            first_number=first,
            permit_seconds=self.permit_seconds,
        )
        given = self._hand_out(budget, limit, grant, first)
        budget.next_ns = grant.base_ns + given * limit.interval_ns - (limit.burst - 1) * limit.interval_ns
        if (tail := grant.granted - given) > 0:
            end = grant.base_ns + grant.granted * limit.interval_ns
            await store.give_back(connection, budget.key, tail_ns=tail * limit.interval_ns, end_ns=end)
        if limit.max_concurrent is not None and grant.granted == 0:
            return ASK_AGAIN_SECONDS
        if not limit.interval_ns:
            return 0.0
        ready = (budget.next_ns - limit.horizon_ns - grant.now_ns) / 1e9
        if ready <= 0 and given:
            return 0.0
        give_way = GIVE_WAY_SECONDS if grant.sharing > 1 and given else 0.0
        return max(ready, min(ASK_AGAIN_SECONDS, max(limit.interval_ns / 1e9, ASK_LEAST_SECONDS))) + give_way

    def _hand_out(self, budget: Budget, limit: Limit, grant: store.Grant, first: int) -> int:
        """Give each slot to the waiter whose turn it is; return how many were given."""
        given = 0
        numbered = limit.max_concurrent is not None
        for at_ns in slots(limit, grant.base_ns, grant.now_ns, grant.granted):
            waiter = _whose(budget, at_ns // 1000)
            if waiter is None:
                break
            permit = first + given if numbered else 0
            if permit:
                self.permits.add(permit)
            waiter.limit = limit
            waiter.given.set_result((at_ns // 1000, permit))
            budget.ahead += 1
            given += 1
        if numbered:
            self.released.extend(range(first + given, first + grant.granted))
        return given

    async def _one(self, connection: Connection, budget: Budget) -> float:
        waiter = budget.head if budget.head is not None and not budget.head.given.done() else _whose(budget, 0)
        # Whose turn it is stays so until he has a slot or leaves: what others need is another sum.
        budget.head = waiter
        if waiter is None:
            return 0.0
        self._number += 1
        number, limit = self._number, budget.limit
        grant = await store.reserve_tokens(
            connection,
            budget.key,
            limit,
            tokens=waiter.tokens,
            waiting=len(budget.queue) + 1 + budget.ahead,
            ahead=budget.ahead,
            worker=self._worker,
            number=number,
            permit_seconds=self.permit_seconds,
        )
        budget.next_ns = grant.next_ns
        if grant.granted:
            self._give(budget, limit, waiter, grant.slot_ns // 1000, number)
            return GIVE_WAY_SECONDS if grant.sharing > 1 else 0.0
        if grant.slot_ns <= grant.now_ns + AHEAD_NS:
            return ASK_AGAIN_SECONDS  # a permit is wanting, or the others' share comes first
        # An answer may show at any time that less was used than reserved.
        ready = (grant.slot_ns - AHEAD_NS - grant.now_ns) / 1e9
        return min(max(ready, ASK_LEAST_SECONDS), 4 * ASK_AGAIN_SECONDS)

    def _give(self, budget: Budget, limit: Limit, waiter: Waiter, slot_us: int, number: int) -> None:
        permit = number if limit.max_concurrent is not None else 0
        budget.head = None
        if waiter.given.done():  # he left while the statement was under way: his slot is wasted
            self.released.extend([permit] if permit else [])
            return
        if permit:
            self.permits.add(permit)
        waiter.limit = limit
        waiter.given.set_result((slot_us, permit))
        budget.ahead += 1


def _whose(budget: Budget, at_us: int) -> Waiter | None:
    while budget.queue:
        waiter = budget.queue.pop()
        # One whose patience ends before the slot is refused at his own deadline; the slot is the next one's.
        if not waiter.given.done() and (waiter.deadline_us is None or at_us <= waiter.deadline_us):
            return waiter
    return None
