"""What the record of a limited tool's own starts is judged by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aetheris.demo import fleet

INTERVAL_NS = 100_000_000
delays = st.lists(st.integers(0, 3 * INTERVAL_NS), min_size=2, max_size=60)


def came(delays_ns: list[int]) -> tuple[list[fleet.Start], dict[int, int]]:
    """Starts so long after slots at ten a second, and the slots (microseconds)."""
    starts = [fleet.Start(n * INTERVAL_NS + late, 1, n) for n, late in enumerate(delays_ns)]
    return sorted(starts, key=lambda s: s.at_ns), {n: n * INTERVAL_NS // 1000 for n in range(len(delays_ns))}


@given(delays)
def test_of_starts_on_time_no_second_has_more_than_its_slots_and_one(delays_ns: list[int]) -> None:
    """Whatever the machine holds, the limiter's eleven are told from what came late."""
    starts, slots = came(delays_ns)
    on_time = fleet.punctual(starts, slots, INTERVAL_NS)
    assert fleet.most_within(on_time) <= 11
    assert len(starts) - len(on_time) == sum(late > INTERVAL_NS for late in delays_ns)


@given(st.integers(12, 40))
def test_a_limiter_that_gave_too_much_cannot_hide(count: int) -> None:
    """Slots that lie too close, or none at all, are no lateness."""
    starts = [fleet.Start(n * 10_000_000, 1, n) for n in range(count)]
    close = {s.n: s.at_ns // 1000 for s in starts}
    assert fleet.most_within(fleet.punctual(starts, close, INTERVAL_NS)) == count
    assert fleet.most_within(fleet.punctual(starts, {}, INTERVAL_NS)) == count
