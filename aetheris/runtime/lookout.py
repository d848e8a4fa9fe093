"""Jobs that callers of this process wait for, looked at together: one statement a look, however many wait.

A caller is due at once, when a job of its ended in a worker here, and after a
pause that grows. Who is due soon goes along, so that many who wait fall into
step. Every look that answers a caller began after the caller came: what was
done to a job before `wait` is seen by it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aetheris.domain.errors import Unusable
from aetheris.domain.jobs import JobStatus

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.25

Found = dict[str, JobStatus]


def at_rest(status: JobStatus | None) -> bool:
    """Return whether a job has ended or is parked."""
    return status is not None and (status.terminal or status is JobStatus.PARKED)


@dataclass(eq=False, slots=True)
class _Waiter:
    ids: Sequence[str]
    deadline: float
    due: float
    answer: asyncio.Future[Found]
    pause: float = FIRST_PAUSE_SECONDS

    def told(self, found: Found, now: float) -> bool:
        """Answer when all its jobs are at rest or it is late; else be due again after a longer pause."""
        mine = {job: found[job] for job in self.ids if job in found}
        if now >= self.deadline or all(at_rest(mine.get(job)) for job in self.ids):
            self.answer.set_result(mine)
            return True
        self.due = min(self.due, now + self.pause, self.deadline)
        self.pause = min(self.pause * 1.5, LONGEST_PAUSE_SECONDS)
        return False


@dataclass(slots=True)
class Lookout:
    """Who waits for which jobs; `look` asks the store for the statuses of those that exist."""

    look: Callable[[Sequence[str]], Awaitable[Found]]
    _waiters: set[_Waiter] = field(default_factory=set)
    _by_job: dict[str, set[_Waiter]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def wait(self, ids: Sequence[str], seconds: float | None) -> Found:
        """Return once one look finds every job at rest, or after `seconds`. Errors: those of the look."""
        now = time.monotonic()
        deadline = math.inf if seconds is None else now + seconds
        waiter = _Waiter(ids, deadline, now, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        for job in ids:
            self._by_job.setdefault(job, set()).add(waiter)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="lookout")
        try:
            return await waiter.answer
        finally:
            self._drop(waiter)

    def ended(self, job: str) -> None:
        """Let those who wait for this job look at once."""
        for waiter in self._by_job.get(job, ()):
            waiter.due = 0.0
            self._changed.set()

    async def close(self) -> None:
        """Look no more; who still waits is told so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiters:
                due = min(waiter.due for waiter in self._waiters)
                if due > (now := time.monotonic()):
                    await self._sleep(due - now)
                else:
                    await self._look_for([w for w in self._waiters if w.due <= now + w.pause / 2])
        finally:
            for waiter in self._waiters:
                if not waiter.answer.done():
                    waiter.answer.set_exception(Unusable("the system was closed while a job was waited for"))

    async def _sleep(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _look_for(self, together: Sequence[_Waiter]) -> None:
        for waiter in together:
            waiter.due = math.inf  # unless a job ends meanwhile: this look may have come before
        error: Exception | None = None
        found: Found = {}
        try:
            found = await self.look(list({job: None for waiter in together for job in waiter.ids}))
        except Exception as raised:  # noqa: BLE001  it is raised in each who waits for this look
            error = raised
        now = time.monotonic()
        for waiter in together:
            if waiter.answer.done():
                continue  # cancelled
            if error is not None:
                waiter.answer.set_exception(error)
            elif not waiter.told(found, now):
                continue
            self._drop(waiter)

    def _drop(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        for job in waiter.ids:
            if (others := self._by_job.get(job)) is not None:
                others.discard(waiter)
                if not others:
                    del self._by_job[job]
        self._changed.set()
