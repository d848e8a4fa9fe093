"""What a worker is told, what it holds, and what it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aetheris.runtime.config import Snapshots
from aetheris.runtime.run import End, Run
from aetheris.store.leases import Lease


@dataclass(frozen=True, slots=True)
class Settings:
    """How a worker works; the names are those of `worker.*` and `jobstore.*`."""

    concurrency: int = 100
    lease_seconds: float = 30.0
    poll_seconds: float = 2.0
    capabilities: Sequence[str] = ()
    #: Versions of agents ("rebook@4") whose jobs this worker's code may go on with.
    accepts: Sequence[str] = ()
    sample_seconds: float = 15.0
    #: When snapshots are taken: the keys of `runtime.snapshot`.
    snapshot: Snapshots = field(default_factory=Snapshots)


@dataclass(slots=True)
class Held:
    """One job in hand."""

    lease: Lease
    run: Run
    task: asyncio.Task[End]
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Counts:
    """What a worker did since it started."""

    claimed: int = 0
    ended: dict[str, int] = field(default_factory=dict)
