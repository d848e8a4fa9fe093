"""What the mirror's process does besides mirroring, while it follows: seal, erase, collect, compact.

Each duty has its interval and a life of its own: one that fails says so in one
line and is tried again, and never stops the mirror or another duty. Several
such processes at once do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aetheris.domain.errors import AetherisError
from aetheris.evidence.dsse import Signer
from aetheris.lake import Lake
from aetheris.lake.memory import give_back
from aetheris.runtime.archive import compact, erase_in_lake
from aetheris.runtime.collection import Collector
from aetheris.runtime.config import Collection
from aetheris.runtime.sealing import seal_finished
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

SEAL_SECONDS = 10.0
ERASE_SECONDS = 60.0
COMPACT_SECONDS = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something done again and again; `work` returns what it did, in words, or "" for nothing."""

    name: str
    seconds: float
    work: Callable[[], Awaitable[str]]


async def keep(duties: list[Duty], done: Callable[[str, str, float], None], stop: asyncio.Event) -> None:
    """Do each duty at once and then at its interval until `stop` is set; one under way then is ended first.

    What takes long looks at `stop` by itself (`duties`).

    `done` is told (duty, what it did, seconds) when it did something.
    """
    await asyncio.gather(*(_again(duty, done, stop) for duty in duties))


async def _again(duty: Duty, done: Callable[[str, str, float], None], stop: asyncio.Event) -> None:
    while not stop.is_set():
        began = time.monotonic()
        try:
            words = await duty.work()
            give_back()
            if words:
                done(duty.name, words, time.monotonic() - began)
        except (AetherisError, OSError) as error:
            log.warning("%s: %s", duty.name, error)
        try:
            async with asyncio.timeout(max(0.0, duty.seconds - (time.monotonic() - began))):
                await stop.wait()
        except TimeoutError:
            pass


def duties(
    database: Database,
    source: MirrorSource,
    lake: Lake,
    gc: Collection,
    *,
    by: str,
    stop: asyncio.Event,
    signer: Signer | None = None,
) -> list[Duty]:
    """Return the duties of a store and its lake; collection only where `runtime.gc.enabled` is.

    A compaction under way when `stop` is set leaves the rest to another time.
    """

    async def seal() -> str:
        done = await seal_finished(database, by=by, signer=signer)
        return f"{done.count} job{'s' if done.count > 1 else ''}" if done.count else ""

    async def erase() -> str:
        done = await erase_in_lake(database, source, lake)
        return f"{done.cells} cells of {done.jobs} jobs, {done.files} files" if done.jobs else ""

    async def collect() -> str:
        if lake.published().index is None:
            return ""
        collector = Collector(database, lake.folder, days=gc.ttl_days, batch=gc.batch_size, by=by, signer=signer)
        done = await collector.run()
        return f"{done.jobs} jobs, {done.rows.total()} rows" if done.jobs else ""

    async def merge() -> str:
        done = await compact(source, lake, stop=stop.is_set)
        if not done.merges and not done.swept.files:
            return ""
        return f"{done.files_before} files to {done.files_after}, {done.swept.files} old ones deleted"

    every = [Duty("sealed", SEAL_SECONDS, seal), Duty("erased", ERASE_SECONDS, erase)]
    if gc.enabled:
        every.append(Duty("collected", gc.interval, collect))
    return [*every, Duty("compacted", COMPACT_SECONDS, merge)]
