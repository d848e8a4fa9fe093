"""How often one may ask: a token bucket for each name, in this process's memory.

This keeps one caller from crowding out the others of this process; it is no
promise across processes, as the limits of tools and models are.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Names remembered at once; the least recently seen is forgotten first, with a full bucket.
NAMES = 10_000


class Rates:
    """Buckets of `burst` that fill with `per_second`."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, max(1.0, burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, cost: float = 1.0) -> float:
        """Take one from the bucket of `name`; return 0, or after how many seconds to ask again."""
        left = self._left(name) - cost
        if left < 0:
            return -left / self._per_second
        self._keep(name, left)
        return 0.0

    def _left(self, name: str) -> float:
        level, at = self._buckets.get(name, (self._burst, self._clock()))
        return min(self._burst, level + (self._clock() - at) * self._per_second)

    def _keep(self, name: str, left: float) -> None:
        self._buckets[name] = (left, self._clock())
        self._buckets.move_to_end(name)
        if len(self._buckets) > NAMES:
            self._buckets.popitem(last=False)
