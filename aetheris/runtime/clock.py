"""The database's clock, as near as this machine can tell it."""

from __future__ import annotations

import time


class Clock:
    """This machine's clock, corrected by the offset last measured against the database's.

    Good for the `at` of events (the append refuses what runs ahead); leases
    and limits are never decided by it.
    """

    def __init__(self, offset_us: int = 0) -> None:
        self.offset_us = offset_us

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000 + self.offset_us
