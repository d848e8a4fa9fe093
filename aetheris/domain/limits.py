"""Rate limits as arithmetic: GCRA over integers, and the same arithmetic replayed over recorded arrivals.

A limit of `qps` starts a second spaces its slots by `interval`. The whole state
is one number, `tat`: the theoretical arrival time of the next start. With
`burst` b, a start may come up to (b - 1) intervals before it:

    base   = max(now, tat)
    slot i = max(now, base + i * interval - (b - 1) * interval)      i = 0, 1, ...
    tat'   = base + n * interval                                     after n slots

Slots are reserved ahead, but never further than `horizon`, so that a newcomer
waits behind half a second of others and not behind all of them. The database
does the same sum under a row lock (`reserve_slots_v1`); a test holds the two to
the same answers.

All times are integer nanoseconds since 1970 by the database's clock.
Source: ITU-T I.371, annex A (GCRA, virtual scheduling).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

SECOND_NS = 1_000_000_000
#: How far ahead slots are reserved, unless one interval is longer.
AHEAD_NS = SECOND_NS // 2
#: A start this late is never bunched, however short the interval: an event loop is not punctual to less.
LATE_LEAST_NS = 50_000_000
SLOTS_PER_STATEMENT = 256
QPS_MOST = 1_000_000

Scope = Literal["deployment", "tenant"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limit:
    """What may start: `qps` a second (None: any), `max_concurrent` at once (None: any)."""

    qps: float | None = None
    burst: int = 1
    max_concurrent: int | None = None
    scope: Scope = "deployment"
    max_wait_seconds: float | None = None
    tokens_per_minute: int | None = None

    @property
    def token_ns(self) -> int:
        """How long the budget takes to grow by one token; 0 when tokens are not limited."""
        return round(60 * SECOND_NS / self.tokens_per_minute) if self.tokens_per_minute else 0

    @property
    def interval_ns(self) -> int:
        """Between two starts; 0 when there is no rate."""
        return round(SECOND_NS / self.qps) if self.qps else 0

    @property
    def horizon_ns(self) -> int:
        """How far ahead a slot may lie when it is given out: half a second, or the one next slot."""
        return max(self.interval_ns, AHEAD_NS)

    @property
    def late_ns(self) -> int:
        """A start later than its slot by more than this reserves anew."""
        return max(self.interval_ns, LATE_LEAST_NS)

    @property
    def window(self) -> int:
        """How many slots can lie open ahead at once."""
        interval = self.interval_ns
        return self.burst + self.horizon_ns // interval if interval else SLOTS_PER_STATEMENT


def slots(limit: Limit, base_ns: int, now_ns: int, count: int) -> list[int]:
    """Return the first `count` slots from `base_ns`, never before `now_ns`."""
    interval = limit.interval_ns
    first = base_ns - (limit.burst - 1) * interval
    return [max(now_ns, first + i * interval) for i in range(count)]


def reserve(limit: Limit, tat_ns: int, now_ns: int, wanted: int) -> tuple[list[int], int]:
    """Return up to `wanted` slots within the horizon, and the new `tat`."""
    interval = limit.interval_ns
    base = max(now_ns, tat_ns)
    room = now_ns + limit.horizon_ns - base + (limit.burst - 1) * interval
    count = wanted if not interval else min(wanted, max(0, room // interval + 1))
    return slots(limit, base, now_ns, count), base + count * interval


@dataclass(frozen=True, slots=True)
class Tats:
    """The state of a limit on requests and tokens at once: one theoretical arrival time for each."""

    requests_ns: int = 0
    tokens_ns: int = 0

    def corrected(self, limit: Limit, reserved: int, used: int) -> Tats:
        """Return the state once a call that had `reserved` tokens turned out to use `used`."""
        return Tats(self.requests_ns, self.tokens_ns + (used - reserved) * limit.token_ns)


def reserve_tokens(limit: Limit, tats: Tats, now_ns: int, tokens: int) -> tuple[int | None, int, Tats]:
    """Reserve one start that is thought to use `tokens`: (slot or None, the next slot, the new state).

    Both rates move together or not at all, so neither can run ahead of the
    other while a call waits for it. A slot is given AHEAD_NS before it comes,
    never sooner: what a call really used must be able to move those behind it.
    """
    slot = max(now_ns, tats.requests_ns, tats.tokens_ns)
    if slot > now_ns + AHEAD_NS:
        return None, slot, tats
    after = Tats(slot + limit.interval_ns, slot + tokens * limit.token_ns)
    return slot, max(after.requests_ns, after.tokens_ns), after


class FairQueue(Generic[T]):
    """Waiters in turn: one of each tenant, and within a tenant one of each job; first come first within a job.

    Each of push, pop and remove takes the same time however many wait.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, dict[int, T]]] = {}
        self._tenant_turns: deque[str] = deque()
        self._job_turns: dict[str, deque[str]] = {}
        self._count = 0
        self._tickets = 0
        self._places: dict[int, tuple[str, str]] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return (item for jobs in self._tenants.values() for own in jobs.values() for item in own.values())

    def push(self, tenant: str, job: str, item: T) -> int:
        """Add a waiter and return its ticket."""
        self._tickets += 1
        jobs = self._tenants.get(tenant)
        if jobs is None:
            jobs = self._tenants[tenant] = {}
            self._tenant_turns.append(tenant)
            self._job_turns[tenant] = deque()
        own = jobs.get(job)
        if own is None:
            own = jobs[job] = {}
            self._job_turns[tenant].append(job)
        own[self._tickets] = item
        self._places[self._tickets] = tenant, job
        self._count += 1
        return self._tickets

    def pop(self) -> T:
        """Take out the one whose turn it is. Errors: IndexError when nobody waits."""
        while True:
            tenant = self._tenant_turns.popleft()
            jobs, turns = self._tenants[tenant], self._job_turns[tenant]
            while turns and not jobs.get(turns[0]):
                jobs.pop(turns.popleft(), None)
            if not turns:
                del self._tenants[tenant], self._job_turns[tenant]
                continue
            job = turns.popleft()
            own = jobs[job]
            ticket = next(iter(own))
            item = own.pop(ticket)
            del self._places[ticket]
            self._count -= 1
            # Emptied places leave when their turn comes: a job or tenant that comes back keeps its turn till then.
            turns.append(job)
            self._tenant_turns.append(tenant)
            return item

    def remove(self, ticket: int) -> bool:
        """Take a waiter out of the queue; False when it has had its turn."""
        place = self._places.pop(ticket, None)
        if place is None:
            return False
        del self._tenants[place[0]][place[1]][ticket]
        self._count -= 1
        return True


@dataclass(frozen=True, slots=True)
class Arrival:
    """A recorded ask: when, and whose."""

    at_ns: int
    tenant: str
    job: str


def what_if(limit: Limit, arrivals: Sequence[Arrival]) -> list[tuple[Arrival, int]]:
    """Return each arrival with the slot it would have had under `limit`, in order of the slots.

    The queue is fair as the live one is, and who gets a slot is settled when
    the slot comes within the horizon. Starts are taken to end at once:
    `max_concurrent` plays no part.
    """
    waiting: FairQueue[Arrival] = FairQueue()
    coming = deque(sorted(arrivals, key=lambda a: a.at_ns))
    served: list[tuple[Arrival, int]] = []
    now = tat = 0
    while coming or waiting:
        if not waiting:
            now = max(now, coming[0].at_ns)
        # The next slot is given out as soon as it lies within the horizon; who has come by then takes part.
        now = max(now, tat - (limit.burst - 1) * limit.interval_ns - limit.horizon_ns)
        while coming and coming[0].at_ns <= now:
            waiting.push(coming[0].tenant, coming[0].job, coming.popleft())
        (slot,), tat = reserve(limit, tat, now, 1)
        served.append((waiting.pop(), slot))
    return served
