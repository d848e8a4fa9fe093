"""Callers that wait for jobs in one process share their looks at the store, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from aetheris.domain.errors import Unusable
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.lookout import LONGEST_PAUSE_SECONDS, Lookout

RUNNING, PARKED, COMPLETED = JobStatus.RUNNING, JobStatus.PARKED, JobStatus.COMPLETED
JOBS = [f"job-{n}" for n in range(100)]


class Store:
    """Statuses, and every look at them; `before` runs between a look's reading and its answer."""

    def __init__(self) -> None:
        self.statuses = dict.fromkeys(JOBS, RUNNING)
        self.looks: list[list[str]] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def look(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """As `store.jobs.statuses`."""
        self.looks.append(list(ids))
        found = {job: self.statuses[job] for job in ids if job in self.statuses}
        await asyncio.sleep(0)
        if self.before is not None:
            await self.before()
        return found


def test_a_hundred_who_wait_share_one_look() -> None:
    """Each polled by itself: a hundred statements where one does, and again every quarter of a second."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)
        waiting = [asyncio.create_task(lookout.wait([job], None)) for job in JOBS]
        began = time.monotonic()
        await asyncio.sleep(1.0)
        took = time.monotonic() - began
        assert sorted(store.looks[0]) == sorted(JOBS)
        # Some ten pauses, half a second, until they are the longest; from then on at least half of it apart.
        assert len(store.looks) <= 12 + 2 * took / LONGEST_PAUSE_SECONDS
        store.statuses = dict.fromkeys(JOBS, COMPLETED)
        assert await asyncio.gather(*waiting) == [{job: COMPLETED} for job in JOBS]

    asyncio.run(body())


def test_who_is_cancelled_or_late_leaves_the_others_waiting() -> None:
    """One caller's patience is not another's; each is answered for its own jobs alone."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)
        first = asyncio.create_task(lookout.wait(["job-1", "job-2"], None))
        second = asyncio.create_task(lookout.wait(["job-2", "absent"], 0.05))
        third = asyncio.create_task(lookout.wait(["job-2"], None))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == {"job-2": RUNNING}
        assert first.cancelled()
        assert not third.done()
        store.statuses["job-2"] = PARKED
        assert await third == {"job-2": PARKED}
        assert store.looks[-1] == ["job-2"]
        assert await lookout.wait(["job-1"], 0) == {"job-1": RUNNING}
        assert await lookout.wait([], None) == {}

    asyncio.run(body())


def test_every_job_of_a_caller_is_at_rest_in_one_look() -> None:
    """A parked job may go on while another ends: what is returned was true at one moment."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)
        store.statuses["job-1"] = PARKED
        waiting = asyncio.create_task(lookout.wait(["job-1", "job-2"], None))
        await asyncio.sleep(0.02)
        store.statuses.update({"job-1": RUNNING, "job-2": COMPLETED})
        await asyncio.sleep(0.05)
        assert not waiting.done()
        store.statuses["job-1"] = COMPLETED
        assert await waiting == {"job-1": COMPLETED, "job-2": COMPLETED}

    asyncio.run(body())


def test_a_job_that_ends_here_is_seen_at_once_also_while_a_look_is_under_way() -> None:
    """That look had read already; its caller would sleep a whole pause on what it missed."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)
        waiting = asyncio.create_task(lookout.wait(["job-1"], None))
        while len(store.looks) < 12:  # until the pause is the longest
            await asyncio.sleep(0.01)

        async def ends() -> None:
            store.before = None
            store.statuses["job-1"] = COMPLETED
            lookout.ended("job-1")

        store.before = ends
        while store.before is not None:
            await asyncio.sleep(0)
        began = time.monotonic()
        assert await waiting == {"job-1": COMPLETED}
        assert time.monotonic() - began < LONGEST_PAUSE_SECONDS / 2

    asyncio.run(body())


def test_who_comes_during_a_look_is_not_answered_by_it() -> None:
    """It may have been read before what the caller did to the job."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)
        store.statuses["job-1"] = PARKED
        late: list[asyncio.Task[dict[str, JobStatus]]] = []

        async def comes() -> None:
            store.before = None
            store.statuses["job-1"] = COMPLETED
            late.append(asyncio.create_task(lookout.wait(["job-1"], None)))
            await asyncio.sleep(0)

        store.before = comes
        assert await lookout.wait(["job-1"], None) == {"job-1": PARKED}
        assert await late[0] == {"job-1": COMPLETED}

    asyncio.run(body())


def test_a_look_that_fails_is_told_to_all_it_was_for_and_the_next_begins_anew() -> None:
    """As when each asked by itself: nobody waits for ever on another's error."""

    async def body() -> None:
        store = Store()
        lookout = Lookout(store.look)

        async def fails() -> None:
            raise Unusable("away")

        store.before = fails
        found = await asyncio.gather(*(lookout.wait([job], None) for job in JOBS[:3]), return_exceptions=True)
        assert [str(error) for error in found] == ["away"] * 3
        store.before = None
        store.statuses["job-1"] = COMPLETED
        assert await lookout.wait(["job-1"], None) == {"job-1": COMPLETED}

    asyncio.run(body())


def test_who_still_waits_when_the_system_closes_is_told() -> None:
    """A wait without a limit would never return."""

    async def body() -> None:
        lookout = Lookout(Store().look)
        waiting = asyncio.create_task(lookout.wait(["job-1"], None))
        await asyncio.sleep(0.01)
        await lookout.close()
        with pytest.raises(Unusable, match="closed"):
            await waiting

    asyncio.run(body())
