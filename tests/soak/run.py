"""One soak from beginning to end."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aetheris.demo.model_server import ModelServer, text
from tests.soak import figures
from tests.soak.faults import Faults, plan
from tests.soak.load import Load
from tests.soak.person import Person
from tests.soak.place import Place
from tests.soak.processes import Fleet
from tests.soak.reckon import Told, reckon
from tests.soak.watch import STUCK_SECONDS, Found, Watch

#: Of a run's minutes, what is left at the end for jobs to end.
SETTLE_SECONDS = 14.0
PROGRESS_SECONDS = 60.0
#: Retention, of a run of a quarter of an hour and more. A shorter one has a fifth of its time.
RETENTION_SECONDS = 180.0
#: How long files that were replaced stay in the lake: a check must be through by then.
GRACE_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What was run, what was done to it, what was found, and the figures."""

    minutes: float
    seed: int
    figures: dict[str, object]
    broken: list[str]
    faults: dict[str, int]
    jobs: dict[str, int]
    folder: str = ""
    notes: list[str] = field(default_factory=list)


def soak(minutes: float, seed: int, say: Say) -> Outcome:
    """Run a soak and return what came of it; where an invariant broke its folder is kept and named."""
    began = time.monotonic()
    # The driver's own pools tell of each outage that it makes.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    with Place(minutes) as place, ModelServer(lambda _: text("Go on.")) as model:
        try:
            outcome = asyncio.run(_soak(place, model.url, minutes, seed, say))
        except BaseException:
            place.keep = True
            say(f"kept in {place.folder}")
            raise
        if outcome.broken:
            place.keep, outcome.folder = True, str(place.folder)
    outcome.figures["seconds"] = round(time.monotonic() - began, 1)
    return outcome


async def _soak(place: Place, model_url: str, minutes: float, seed: int, say: Say) -> Outcome:
    seconds = max(20.0, 60 * minutes - SETTLE_SECONDS)
    retention = min(RETENTION_SECONDS, seconds / 5)
    fleet = Fleet(place, model_url, retention, GRACE_SECONDS)
    faults = Faults(place, fleet, plan(seed, seconds), random.Random(f"made {seed}"))
    try:
        async with Load(place.dsn, place.folder, place.lake, seed) as load:
            fleet.start()
            watch = Watch(load, fleet, faults)
            began = time.time()
            person = Person(load, fleet, faults.woken, watch.parked)
            around = [
                asyncio.create_task(work) for work in (watch.run(), person.run(), _progress(watch, load, faults, say))
            ]
            work = asyncio.gather(load.run(seconds), faults.run(began))
            await _first_done(work, *around)
            await _first_done(asyncio.ensure_future(_settled(load, watch)), *around)
            for task in around:
                task.cancel()
            for task in around:
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(fleet.look, away=False)
            await asyncio.to_thread(fleet.stop)
            await watch.check()
            told = await asyncio.to_thread(reckon, place.lake, place.world, load.submitted, watch.found)
            return _outcome(minutes, seed, began, retention, (fleet, faults, load, watch, person), told)
    finally:
        fleet.kill()


async def _first_done(work: asyncio.Future[object], *around: asyncio.Task[object]) -> None:
    """Return when `work` is done; raise what ends one of the others before."""
    await asyncio.wait([work, *around], return_when=asyncio.FIRST_COMPLETED)
    for task in around:
        if task.done():
            task.result()
    await work


async def _settled(load: Load, watch: Watch) -> None:
    """Return when every job has ended, or nothing moved for so long that what is left is stuck."""
    while load.open:
        standing = [s.seconds for s in watch.stands.values()]
        if standing and min(standing) > STUCK_SECONDS:
            return
        await asyncio.sleep(0.2)


async def _progress(watch: Watch, load: Load, faults: Faults, say: Say) -> None:
    minute = 0
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        minute += 1
        found, ended = watch.found, sum(1 for j in load.submitted if j.ended)
        wrong = len(broken(found, watch._fleet.crashes))
        memory = ", ".join(
            f"{n} {m.resident[-1][1] / 1e6:.0f} MB"
            for n, m in (("worker", watch._fleet.workers[0]), ("mirror", watch._fleet.mirror))
            if m.resident
        )
        say(
            f"minute {minute}: {len(load.submitted)} jobs, {ended} ended, {sum(faults.made.values())} faults,"
            f" {watch.checks} check passes, {memory}, {wrong} broken"
        )


def broken(found: Found, crashes: list[str]) -> list[str]:
    """Return every invariant that did not hold, in words."""
    said = [f"crash: {c}" for c in crashes]
    said += [f"{found.duplicates} effects happened twice"] if found.duplicates else []
    said += [f"lost: {x}" for x in sorted(found.lost)]
    said += [f"stuck: {x}" for x in sorted(found.stuck)]
    said += [f"lake: {words} ({count})" for words, count in found.violations.items()]
    said += [f"record: {x}" for x in found.unsound]
    return said + [f"not completed: {count} of {words}" for words, count in found.unfinished.items()]


def _outcome(
    minutes: float,
    seed: int,
    began: float,
    retention: float,
    parts: tuple[Fleet, Faults, Load, Watch, Person],
    told: dict[str, Told],
) -> Outcome:
    fleet, faults, load, watch, person = parts
    found = watch.found
    overheads = figures.overhead_ms(load.submitted, told, faults)
    slopes, levels = figures.memory(fleet)
    most, line = figures.connections(watch.samples, began)
    store, lake = figures.growth(watch.samples, began + 2 * retention, load.submitted, told)
    made: dict[str, object] = {
        "minutes": minutes,
        "seed": seed,
        "jobs": len(load.submitted),
        "crashes": len(fleet.crashes),
        "duplicates": found.duplicates,
        "lost": len(found.lost),
        "stuck": len(found.stuck),
        "p95_overhead_ms": figures.p95(overheads),
        "rss_slope_mb_per_h": max(slopes.values()) if slopes else None,
        "gb_per_month_pg": store,
        "gb_per_month_lake": lake,
        "overhead_jobs": len(overheads),
        "rss_slopes_mb_per_h": slopes,
        "rss_mb": levels,
        "connections_max": most,
        "connections_slope_per_h": line,
        "events": sum(t.events for t in told.values()),
        "check_passes": watch.checks,
        "records_checked": watch.records,
        "faults": dict(faults.made),
        "resolved": person.did["resolved"],
        "signalled": person.did["signalled"],
        "approved": person.did["approved"],
        "turned_away": fleet.turned_away,
        "no_space_postgres": fleet.place.refusals(),
        "no_space_ours": fleet.refusals(),
        "disk": f"tmpfs of {fleet.place.megabytes} MB" if fleet.place.mounted else "a folder, never full",
    }
    notes = [] if fleet.place.mounted else ["the disk was never full: this machine lets nobody mount a small one"]
    short = [name for name, value in made.items() if value is None]
    notes += [f"too short a run for: {', '.join(short)}"] if short else []
    return Outcome(minutes, seed, made, broken(found, fleet.crashes), dict(faults.made), dict(load.counts), notes=notes)
