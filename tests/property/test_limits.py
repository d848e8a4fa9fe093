"""The arithmetic of limits: what holds for every rate, burst and arrival."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from aetheris.domain.limits import SECOND_NS, Arrival, FairQueue, Limit, reserve, what_if

limits = st.builds(
    Limit,
    qps=st.one_of(st.floats(0.01, 2000), st.integers(1, 5000)),
    burst=st.integers(1, 20),
)
asks = st.lists(st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(1, 40)), max_size=30)


def issued(limit: Limit, told: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Every slot given for asks of (pause, wanted), each with the time of its ask."""
    now, tat, given = SECOND_NS, 0, []
    for pause, wanted in told:
        now += pause
        some, tat = reserve(limit, tat, now, wanted)
        assert len(some) <= wanted
        given += [(now, s) for s in some]
    return given


@given(limits, asks)
def test_no_window_holds_more_than_rate_and_burst_allow(limit: Limit, told: list[tuple[int, int]]) -> None:
    """The promise to whoever is behind the tool: burst + one per interval, in any window of any length."""
    slots = [s for _, s in issued(limit, told)]
    assert slots == sorted(slots)
    for i, first in enumerate(slots):
        for j in range(i, len(slots)):
            allowed = limit.burst + (slots[j] - first) / limit.interval_ns
            assert j - i + 1 <= allowed + 1e-6


@given(limits, asks)
def test_slots_lie_ahead_but_never_beyond_the_horizon(limit: Limit, told: list[tuple[int, int]]) -> None:
    """A newcomer waits behind half a second of others at most (or the one slot of a slow limit)."""
    for now, slot in issued(limit, told):
        assert now <= slot <= now + limit.horizon_ns


@given(limits)
def test_who_asks_alone_is_served_at_once_and_gets_the_whole_burst(limit: Limit) -> None:
    """A limit that is idle costs nothing."""
    slots, _ = reserve(limit, 0, SECOND_NS, limit.burst)
    assert slots == [SECOND_NS] * limit.burst


entries = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), min_size=1, max_size=60)


@given(entries)
def test_every_waiter_leaves_the_queue_once(waiting: list[tuple[str, str]]) -> None:
    """Nobody is lost and nobody is served twice."""
    queue: FairQueue[int] = FairQueue()
    for n, (tenant, job) in enumerate(waiting):
        queue.push(tenant, job, n)
    assert len(queue) == len(waiting) == len(list(queue))
    out = [queue.pop() for _ in waiting]
    assert sorted(out) == list(range(len(waiting)))
    assert not queue


@given(entries)
def test_tenants_take_turns_and_so_do_their_jobs(waiting: list[tuple[str, str]]) -> None:
    """While all of them wait, no tenant is served twice before another was served once."""
    queue: FairQueue[tuple[str, str]] = FairQueue()
    for tenant, job in waiting:
        queue.push(tenant, job, (tenant, job))
    out = [queue.pop() for _ in waiting]
    left = Counter(t for t, _ in waiting)
    served: Counter[str] = Counter()
    for tenant, _ in out:
        assert all(served[tenant] <= served[other] for other in left if served[other] < left[other])
        served[tenant] += 1


@given(entries, st.data())
def test_who_leaves_is_gone_and_the_others_keep_their_turns(
    waiting: list[tuple[str, str]], data: st.DataObject
) -> None:
    """A cancelled waiter must not use up a slot."""
    queue: FairQueue[int] = FairQueue()
    tickets = [queue.push(tenant, job, n) for n, (tenant, job) in enumerate(waiting)]
    leaving = data.draw(st.sets(st.sampled_from(range(len(waiting)))))
    for n in leaving:
        assert queue.remove(tickets[n])
        assert not queue.remove(tickets[n])
    out = [queue.pop() for _ in range(len(waiting) - len(leaving))]
    assert sorted(out) == sorted(set(range(len(waiting))) - leaving)
    assert len(queue) == 0


@settings(max_examples=50)
@given(limits, st.lists(st.tuples(st.integers(0, 5 * SECOND_NS), st.sampled_from("ab")), max_size=60))
def test_a_replay_serves_everyone_no_earlier_than_they_came(limit: Limit, told: list[tuple[int, str]]) -> None:
    """The what-if keeps the same promise as the live limit."""
    arrivals = [Arrival(at, tenant, f"{tenant}{n}") for n, (at, tenant) in enumerate(told)]
    served = what_if(limit, arrivals)
    assert sorted(a.job for a, _ in served) == sorted(a.job for a in arrivals)
    assert all(slot >= arrival.at_ns for arrival, slot in served)
    slots = [slot for _, slot in served]
    for i in range(len(slots) - limit.burst):
        assert slots[i + limit.burst] - slots[i] >= limit.interval_ns - 1


def test_a_crowd_of_one_tenant_does_not_hold_up_another() -> None:
    """10,000 asks of one tenant are there first; the newcomer of another is among the next few."""
    limit = Limit(qps=10)
    crowd = [Arrival(0, "crowd", f"job {n}") for n in range(10_000)]
    served = what_if(limit, [*crowd, Arrival(5 * SECOND_NS, "newcomer", "one")])
    waited = next(slot - a.at_ns for a, slot in served if a.tenant == "newcomer")
    assert waited <= limit.horizon_ns + 2 * limit.interval_ns
