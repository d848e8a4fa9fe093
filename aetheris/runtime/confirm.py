"""Confirmation: asking the tool whether a call took effect.

Asked in two places. On recovery, of a call that started and has no recorded
end: Done and NotDone end the doubt, on the record; anything else leaves it.
And, where the tool says `replay=True`, before a recorded result is used again:
a result that the world no longer confirms is never handed to the code; the job
is parked until a person resumes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aetheris.domain.events import Event
from aetheris.runtime import metrics
from aetheris.runtime.answers import Answer, Done, NotDone, StillUnknown, said
from aetheris.runtime.foreign import of_the_code
from aetheris.runtime.rest import Suspended
from aetheris.runtime.steps import Step, ToolStep
from aetheris.runtime.tools import Call, idempotency_key

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine

CONFIRM_TIMEOUT_SECONDS = 30.0


def call_of(engine: Engine, step: ToolStep, attempt: int, traceparent: str = "") -> Call:
    """Return what a tool is told of the call."""
    key = idempotency_key(engine.tenant, engine.job, step.step, step.tool.name)
    return Call(engine.tenant, engine.job, step.step, attempt, step.tool.name, key, step.arguments, traceparent)


async def ask(engine: Engine, step: ToolStep, attempt: int) -> Answer:
    """Return the tool's answer; StillUnknown when it has no `confirm`, or that fails or takes too long."""
    function = step.tool.confirmer
    if function is None:
        return StillUnknown()
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
            answer = await function(call_of(engine, step, attempt, engine.log.trace.traceparent))
    except BaseException as error:
        if not of_the_code(error):
            raise
        return StillUnknown(f"confirm raised {type(error).__name__}: {said(error)}")
    if not isinstance(answer, Done | NotDone | StillUnknown):
        return StillUnknown(f"confirm answered {type(answer).__name__}, not Done, NotDone or StillUnknown")
    return answer


def wanted(engine: Engine, step: Step | None, event: Event) -> bool:
    """Return whether the world must confirm this recorded result before the code may have it."""
    return (
        isinstance(step, ToolStep)
        and not engine.read_only
        and step.tool.confirms_replay
        and event.seq <= engine.history.recorded_head
        and event.data.get("outcome") in ("success", "done")
        and step.step not in engine.history.excused
    )


async def recorded_result(engine: Engine, waiting: Mapping[int, Step], event: Event) -> None:
    """Return only if the recorded result may be used. Errors: Suspended, after a record of the failure."""
    step = waiting.get(event.step)
    if not isinstance(step, ToolStep) or not wanted(engine, step, event):
        return
    attempt = int(event.data["attempt"])
    answer = await ask(engine, step, attempt)
    if isinstance(answer, Done):
        return
    why, detail = ("not done", "") if isinstance(answer, NotDone) else ("not known", answer.reason)
    data = {"attempt": attempt, "reason": why, "tool_name": step.tool.name}
    engine.arrived(engine.log.emit("confirmation_replay_failed", step=step.step, data=data), [])
    metrics.confirmation_failed(engine.tenant, step.tool.name)
    raise Suspended(
        0,
        f"step {step.step} {step.tool.name}: the world does not confirm its recorded result ({why})",
        detail,
        waits_for=f"confirmation {step.step} {step.tool.name}",
    )
