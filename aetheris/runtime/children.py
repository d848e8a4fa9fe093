"""Child jobs: submitted once by their parent's holder, and their end brought back to the parent.

The child's id is minted when the parent records its request; its idempotency
key is made of parent and step. So whoever submits again submits the same job.
When a child ends, its worker drops a message into the parent's inbox; should
that be lost, the parent asks by itself now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aetheris.domain import ids
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.clock import Clock
from aetheris.runtime.line import Line
from aetheris.runtime.steps import ContinueStep
from aetheris.runtime.submit import Submitter
from aetheris.runtime.waits import ChildStep
from aetheris.store import inbox, jobs
from aetheris.store.append import JobKey
from aetheris.store.errors import Full, Unreachable, translated
from aetheris.store.signals import wake_others

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine

#: A child that ends within this is waited for on the spot.
LINGER_SECONDS = 1.0
RECONNECT_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Children:
    """The children of one job in a worker's hands."""

    def __init__(self, key: JobKey, line: Line, keys: Mapping[int, bytes], clock: Clock) -> None:
        self._tenant, self._parent = key
        self._line, self._keys, self._clock = line, keys, clock
        self._nudged: dict[str, asyncio.Event] = {}

    def mint(self) -> str:
        """Return a fresh id for a child."""
        key_id = max(self._keys)
        return ids.mint(self._tenant, key_id, self._keys[key_id])

    def ended(self, child: str) -> None:
        """Note the message that this child has ended."""
        self._nudged.setdefault(child, asyncio.Event()).set()

    async def run(self, engine: Engine, step: ChildStep) -> None:
        """Submit the child unless it is there, wait for its end, and record it. Errors: Lost, Conflict, Refused."""
        await engine.log.durable()
        while True:
            try:
                outcome = await self._end_of(engine, step)
                break
            except (Unreachable, Full) as error:
                # Of the parent's own connection: no reason to fail it. Who can't reach the database loses its lease.
                _log.warning("%s", error)
                await asyncio.sleep(RECONNECT_SECONDS)
        self._record(engine, step, outcome)

    async def _end_of(self, engine: Engine, step: ChildStep) -> jobs.Outcome:
        nudged = self._nudged.setdefault(step.child, asyncio.Event())
        outcome = await self._outcome(step)
        if outcome is None:
            await self._submit(engine, step)
            outcome = await self._outcome(step)
        waited = 0.0
        while outcome is None or not outcome.status.terminal:
            step.child_left = waited >= LINGER_SECONDS
            engine.look_again()
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    await nudged.wait()
            except TimeoutError:
                waited += LINGER_SECONDS
            nudged.clear()
            outcome = await self._outcome(step)
        return outcome

    async def _outcome(self, step: ChildStep) -> jobs.Outcome | None:
        async with self._line.turn() as connection:
            return await jobs.outcome(connection, self._tenant, step.child)

    async def continue_as(self, engine: Engine, step: ContinueStep) -> None:
        """Submit the run that this one goes on as; submitting it again is the same run.

        Its first event names this job, and the event that names it by the
        salted commitment of the state that stands there.
        """
        told = step.told
        assert told is not None
        links = {
            "continued_from": self._parent,
            "continued_seq": told.seq,
            "continued_state": told.cells["state"],
        }
        new = self._submitter(engine).prepare(
            engine.agent, step.state, key=f"continue/{self._parent}", job=told.data["continued_as"], links=links
        )
        await self._submitted(new)

    async def tell_parent(self, parent: str, status: JobStatus) -> None:
        """Drop the message of this job's end into its parent's inbox."""
        by = f"job/{self._parent}"
        async with self._line.turn() as connection:
            await inbox.send(
                connection, self._tenant, parent, kind="child", key=self._parent, by=by, payload=status.word.encode()
            )

    async def _submit(self, engine: Engine, step: ChildStep) -> None:
        new = self._submitter(engine).prepare(
            step.agent,
            step.value,
            key=f"child/{self._parent}/{step.step}",
            job=step.child,
            parent=self._parent,
            traceparent=engine.log.trace.traceparent,
        )
        await self._submitted(new)

    async def _submitted(self, new: jobs.Submission) -> None:
        async with self._line.turn() as connection:
            with translated():
                await jobs.submit(connection, new)
            await wake_others(connection)

    def _submitter(self, engine: Engine) -> Submitter:
        config = str(engine.history.genesis.data["config_sha256"])
        return Submitter(self._tenant, self._keys, self._clock, f"job/{self._parent}", config)

    def _record(self, engine: Engine, step: ChildStep, outcome: jobs.Outcome) -> None:
        if step.step not in engine.history.waits:
            return
        data = {"child": step.child, "status": outcome.status.word} | ({"erased": True} if outcome.erased else {})
        bodies = list(outcome.bodies.items())
        engine.arrived(engine.log.emit("child_completed", step=step.step, data=data, bodies=bodies), bodies)
