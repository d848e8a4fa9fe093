"""What is done to the installation, and when: one fault after the other, by a plan that the seed decides.

Each kind comes once within the first minute, in an order of the seed's; then
each again about as often as EVERY_SECONDS says. The mirror is left alone after
the first part of the run, so that one process of it lives long enough for its
memory to tell something.
"""

from __future__ import annotations

import asyncio
import collections
import random
import signal
import time
from dataclasses import dataclass, field

from tests.soak.place import Place
from tests.soak.processes import LEASE_SECONDS, Fleet, Member

#: Kind of fault -> mean seconds from one to the next.
EVERY_SECONDS = {
    "kill worker": 25.0,
    "stop worker": 50.0,
    "restart worker": 40.0,
    "kill mirror": 90.0,
    "kill postgres": 150.0,
    "disk full": 240.0,
}
FIRST_SECONDS = 60.0
MIRROR_UNTIL = 0.35
#: After an outage clients are back within so long: jobs of that time are touched by it, too.
BACK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, so many seconds after the beginning."""

    at: float
    kind: str


def plan(seed: int, seconds: float) -> list[Planned]:
    """Return the faults of a run of so many seconds, the same for the same seed."""
    chance = random.Random(f"faults {seed}")
    kinds = list(EVERY_SECONDS)
    chance.shuffle(kinds)
    first = min(seconds, FIRST_SECONDS)
    slot = 0.92 * first / len(kinds)
    planned = []
    for number, kind in enumerate(kinds):
        at = 0.04 * first + slot * (number + chance.uniform(0.0, 0.3))
        until = seconds * (MIRROR_UNTIL if kind == "kill mirror" and seconds > FIRST_SECONDS else 0.97)
        while at < max(first, until):
            planned.append(Planned(at, kind))
            at = max(at, first) + EVERY_SECONDS[kind] * chance.uniform(0.6, 1.4)
    return sorted(planned, key=lambda p: p.at)


@dataclass(slots=True)
class Outage:
    """A time in which the database could not do its work. `ended` is infinite while it lasts."""

    kind: str
    began: float
    ended: float = float("inf")


@dataclass(slots=True)
class Faults:
    """Carries a plan out."""

    place: Place
    fleet: Fleet
    planned: list[Planned]
    chance: random.Random
    made: collections.Counter[str] = field(default_factory=collections.Counter)
    outages: list[Outage] = field(default_factory=list)
    #: Worker's process -> when it was woken again.
    woken: dict[int, float] = field(default_factory=dict)

    @property
    def away(self) -> bool:
        """Whether the database is out of reach, or was a moment ago."""
        return bool(self.outages) and time.time() < self.outages[-1].ended + BACK_SECONDS

    def touched(self, began: float, ended: float) -> bool:
        """Whether any outage fell into this time."""
        return any(o.began <= ended and began <= o.ended + BACK_SECONDS for o in self.outages)

    async def run(self, began: float) -> None:
        """Make every fault when it is due; one that is late follows the one before it."""
        acts = {
            "kill worker": self._kill_worker,
            "stop worker": self._stop_worker,
            "restart worker": self._restart_worker,
            "kill mirror": self._kill_mirror,
            "kill postgres": self._kill_postgres,
            "disk full": self._disk_full,
        }
        for each in self.planned:
            await asyncio.sleep(max(0.0, began + each.at - time.time()))
            if each.kind == "disk full" and not self.place.mounted:
                continue
            await acts[each.kind]()
            self.made[each.kind] += 1

    async def _kill_worker(self) -> None:
        victim = self.fleet.victim(self.chance)
        victim.end(signal.SIGKILL)
        self.fleet.replace(victim)

    async def _stop_worker(self) -> None:
        victim = self.fleet.victim(self.chance)
        victim.process.send(signal.SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS + self.chance.uniform(0.5, 2.0))
        victim.process.send(signal.SIGCONT)
        self.woken[victim.pid] = time.time()

    async def _restart_worker(self) -> None:
        victim = self.fleet.victim(self.chance)
        victim.end(signal.SIGTERM)
        await asyncio.to_thread(self.fleet.ended_well, victim)
        self.fleet.replace(victim)

    async def _kill_mirror(self) -> None:
        mirror: Member = self.fleet.mirror
        mirror.end(signal.SIGKILL)
        await asyncio.sleep(0.5)
        self.fleet.replace(mirror)

    async def _kill_postgres(self) -> None:
        outage = self._begun("kill postgres")
        self.place.kill()
        await asyncio.sleep(self.chance.uniform(0.2, 2.0))
        await asyncio.to_thread(self.place.start)
        outage.ended = time.time()

    async def _disk_full(self) -> None:
        outage = self._begun("disk full")
        await asyncio.to_thread(self.place.fill)
        await asyncio.sleep(self.chance.uniform(4.0, 6.0))
        await asyncio.to_thread(self.place.free)
        await asyncio.to_thread(self.place.start)
        outage.ended = time.time()

    def _begun(self, kind: str) -> Outage:
        outage = Outage(kind, time.time())
        self.outages.append(outage)
        return outage
