"""Token limits as arithmetic: fifty callers whose answers differ from their estimates, minute by minute."""

from __future__ import annotations

import heapq
import random

import pytest

from aetheris.demo.token_run import windows
from aetheris.domain.errors import Refused
from aetheris.domain.limits import AHEAD_NS, SECOND_NS, Limit, Tats, reserve_tokens

CALLERS = 50
MINUTES = 8


def simulated(limit: Limit, seed: int, off: float, *, correct: bool = True) -> list[tuple[float, int]]:
    """Return (second, tokens used) of each start: every caller asks again as soon as its answer came."""
    chance = random.Random(seed)
    tats, now, waiting = Tats(), SECOND_NS, CALLERS
    answers: list[tuple[int, int, int]] = []
    starts: list[tuple[float, int]] = []
    while now < MINUTES * 60 * SECOND_NS:
        reserved = chance.randint(200, 400)
        slot, _, tats = reserve_tokens(limit, tats, now, reserved) if waiting else (None, 0, tats)
        if slot is not None:
            used = round(reserved * chance.uniform(1 - off, 1 + off))
            waiting -= 1
            starts.append((slot / 1e9, used))
            heapq.heappush(answers, (slot + round(chance.uniform(0.3, 3) * 1e9), reserved, used))
            continue
        now += 10_000_000
        while answers and answers[0][0] <= now:
            _, reserved, used = heapq.heappop(answers)
            waiting += 1
            if correct:
                tats = tats.corrected(limit, reserved, used)
    return starts


@pytest.mark.parametrize("seed", range(6))
def test_any_minute_after_the_first_keeps_the_budget_within_two_in_a_hundred(seed: int) -> None:
    """60,000 tokens a minute, whatever each answer turns out to be: not more, and not less either."""
    found = windows(simulated(Limit(tokens_per_minute=60_000), seed, 0.3), 60_000, 60)
    assert found.windows > 1000
    assert found.most_ratio <= 0.02
    assert found.least_ratio >= -0.02


def test_without_corrections_the_budget_would_not_hold() -> None:
    """What the answers say is what holds it: estimates alone drift by as much as they are off."""
    starts = simulated(Limit(tokens_per_minute=60_000), 1, 0.0, correct=False)
    dear = [(at, round(used * 1.3)) for at, used in starts]
    assert windows(dear, 60_000, 60).most_ratio > 0.25


def test_requests_and_tokens_hold_together() -> None:
    """The scarcer of the two spaces the starts; a slot is never given far ahead."""
    limit = Limit(qps=2, tokens_per_minute=60_000)  # one token is a millisecond
    slot, after, tats = reserve_tokens(limit, Tats(), 10 * SECOND_NS, 100)
    assert (slot, after) == (10 * SECOND_NS, 10 * SECOND_NS + SECOND_NS // 2)  # the rate of requests
    slot, after, tats = reserve_tokens(limit, tats, 10 * SECOND_NS, 3000)
    assert (slot, after) == (10 * SECOND_NS + AHEAD_NS, 13 * SECOND_NS + AHEAD_NS)  # its tokens
    assert reserve_tokens(limit, tats, 11 * SECOND_NS, 1)[:2] == (None, 13 * SECOND_NS + AHEAD_NS)
    # It used a third of them: those behind it come so much sooner.
    early = tats.corrected(limit, 3000, 1000)
    assert reserve_tokens(limit, early, 11 * SECOND_NS, 1)[0] == 11 * SECOND_NS + AHEAD_NS


def test_a_run_that_is_too_short_says_nothing() -> None:
    """A figure over no window would always hold."""
    with pytest.raises(Refused, match="shorter than two windows"):
        windows([(0.0, 5), (61.0, 5)], 10, 60)


def test_windows_count_what_began_in_them() -> None:
    """Ten tokens a second against ten: even; a doubled second shows in every window that holds it."""
    even = [(float(n), 10) for n in range(40)]
    assert windows(even, 50, 5).most_ratio == windows(even, 50, 5).least_ratio == 0
    found = windows([*even, (20.0, 10)], 50, 5)
    assert (round(found.most_ratio, 3), found.least_ratio) == (0.2, 0)
