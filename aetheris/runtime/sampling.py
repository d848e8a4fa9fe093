"""Gauges of the store, sampled by every worker: the same in each, so that any of them may be scraped."""

from __future__ import annotations

import asyncio

from aetheris.runtime import metrics
from aetheris.store import gauges
from aetheris.store.database import Connection


async def sample_forever(connection: Connection, seconds: float) -> None:
    """Set the store's gauges at once, and again after every `seconds`. Errors: Unreachable."""
    while True:
        now = await gauges.sample(connection)
        metrics.store_sampled(
            now.states,
            backlog=now.backlog,
            stuck=now.stuck,
            live_leases=now.live_leases,
            parked=now.parked_seconds,
        )
        await asyncio.sleep(seconds)
