"""One call of a tool, from its start record to its end record.

    once         start record durable -> effect -> end record; a start without an end, a time-out or a lost
                 connection is a doubt, which `confirm`, else a person, ends
    idempotent   the same, but a start without an end is run again under the same key
    none         effect -> end record; nothing is written before it

Nothing that waits comes after the start record. The end record is not waited
for: it rides the same commit as the next call's start.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import Refused
from aetheris.domain.events import Event
from aetheris.runtime import confirm, logs, metrics, tracing
from aetheris.runtime.answers import Done, NotDone, said
from aetheris.runtime.failpoints import reach
from aetheris.runtime.foreign import of_the_code
from aetheris.runtime.rest import CONFIRM_AGAIN_SECONDS, Doubt
from aetheris.runtime.tools import Tool
from aetheris.runtime.turns import FreeTurn, RateLimited, Turn

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine
    from aetheris.runtime.steps import ToolStep

REPR_LIMIT = 2000


async def run_call(engine: Engine, step: ToolStep, recorded: Event | None, *, recover_only: bool = False) -> None:
    """Bring one call to its end and queue what it resolved to.

    `recorded` is the last event of this step in the record, when its result
    isn't there yet. With `recover_only` a doubt is looked into, but nothing is
    begun anew. Errors: Lost and Conflict when the lease is gone.
    """
    logs.bound(step=step.step, tool=step.tool.name)
    begin = await _resume(engine, step, recorded)
    if begin is None or recover_only:
        return
    attempt, started, wait_seconds = begin
    if wait_seconds > 0:
        await _between(engine, step, wait_seconds)
    with engine.log.trace.step(step.step, step.tool.name):
        await _attempts(engine, step, attempt, started=started)


async def _attempts(engine: Engine, step: ToolStep, attempt: int, *, started: bool) -> None:
    while True:
        try:
            tool, tokens = step.tool, step.tool.tokens(step.arguments)
            turn = engine.limiter.turn(tool.kind, tool.budget, engine.tenant, engine.job, step.step, attempt, tokens)
            async with turn as waited_us:
                with engine.log.trace.attempt(step.step, attempt, waited_us, tool.span_data()) as span:
                    retry = await _attempt(engine, step, attempt, turn, span, started=started, waited_us=waited_us)
        except RateLimited as refusal:
            _refused(engine, step, attempt, refusal)
            return
        if retry is None or engine.underway.grace_over:
            return
        attempt, started = attempt + 1, False
        await _between(engine, step, retry)


async def _between(engine: Engine, step: ToolStep, seconds: float) -> None:
    """Wait between two attempts. When they are due is on record, so a draining worker need not sit it out."""
    step.resting = True
    engine.look_again()
    await asyncio.sleep(seconds)
    step.resting = False


async def _resume(engine: Engine, step: ToolStep, recorded: Event | None) -> tuple[int, bool, float] | None:
    """Return (attempt, its start is recorded, seconds to wait first), or None when the call is over or in doubt."""
    if recorded is None:
        return 1, False, 0.0
    attempt = int(recorded.data["attempt"])
    if recorded.type == "tool_invocation_started":
        if step.tool.effect == "idempotent":
            return attempt, True, 0.0
        reason = "started, and the worker was lost before its end was recorded"
        return await _in_doubt(engine, step, attempt, reason)
    if recorded.type == "tool_invocation_unknown":
        return await _ask(engine, step, attempt, str(recorded.data["reason"]), recorded.at)
    # An attempt that failed and is to be retried, or one shown not to have happened.
    due = recorded.at + int(recorded.data.get("retry_after_us", 0))
    return attempt + 1, False, max(0.0, (due - engine.now_of_log()) / 1e6)


async def _in_doubt(engine: Engine, step: ToolStep, attempt: int, reason: str) -> tuple[int, bool, float] | None:
    """Give the doubt its name on the record, then ask the tool whether it can end it."""
    data = {"attempt": attempt, "effect": step.tool.effect, "reason": reason, "tool_name": step.tool.name}
    unknown = engine.log.emit("tool_invocation_unknown", step=step.step, data=data)
    engine.arrived(unknown, [])
    return await _ask(engine, step, attempt, reason, unknown.at)


async def _ask(
    engine: Engine, step: ToolStep, attempt: int, reason: str, since_us: int
) -> tuple[int, bool, float] | None:
    """Let the tool's `confirm` end the doubt; what it can't tell stays in doubt."""
    await engine.log.durable()
    answer = await confirm.ask(engine, step, attempt)
    last = engine.history.last_call.get(step.step)
    if last is None or last.type != "tool_invocation_unknown" or last.data["attempt"] != attempt:
        return None  # a person ended the doubt meanwhile, and what they said stands: the next attempt has its own
    data = {"attempt": attempt, "effect": step.tool.effect, "tool_name": step.tool.name}
    bodies: list[tuple[str, bytes]] = []
    if isinstance(answer, Done):
        bodies, extra = _result(step, answer.result)
        engine.arrived(_confirmed(engine, step, {**data, "outcome": "done", **extra}, bodies), bodies)
        return None
    if isinstance(answer, NotDone):
        engine.arrived(_confirmed(engine, step, {**data, "outcome": "not_done"}, bodies), bodies)
        return attempt + 1, False, 0.0
    again = 0
    if step.tool.confirmer is not None:
        metrics.confirmation_failed(engine.tenant, step.tool.name)
        now = engine.now_of_log()
        again = now + max(now - since_us, int(CONFIRM_AGAIN_SECONDS * 1e6))  # ever more seldom
        reason += "; its confirm can't tell yet"
    else:
        reason += "; the tool has no confirm"
    engine.doubt(Doubt(step.step, step.tool.name, reason, answer.reason, again))
    return None


def _confirmed(engine: Engine, step: ToolStep, data: dict[str, Any], bodies: list[tuple[str, bytes]]) -> Event:
    return engine.log.emit("tool_invocation_confirmed", step=step.step, data=data, bodies=bodies)


async def _attempt(
    engine: Engine,
    step: ToolStep,
    attempt: int,
    turn: Turn | FreeTurn,
    span: tracing.Attempt,
    *,
    started: bool,
    waited_us: int,
) -> float | None:
    """Run one attempt; return the seconds until the next, or None when the call is through (or in doubt)."""
    tool, log = step.tool, engine.log
    call = confirm.call_of(engine, step, attempt, span.traceparent)
    step.begun = True
    if tool.effect != "none" and not started:
        reach("start.before")
        log.emit(
            "tool_invocation_started",
            step=step.step,
            data={
                "attempt": attempt,
                "effect": tool.effect,
                "idempotency_key": call.key,
                "tool_name": tool.name,
                "waited_us": waited_us,
                **tool.start_data(step.arguments),
                **turn.line(),
                **span.line(),
            },
            bodies=step.bodies,
        )
        await log.durable()
        reach("start.after")
    log.still_held()
    reach("effect.before")
    began = time.perf_counter_ns()
    limit = None if tool.timeout_seconds is None else asyncio.timeout(tool.timeout_seconds)
    try:
        if limit is None:
            value = await tool.run(call, step.arguments)
        else:
            async with limit:
                value = await tool.run(call, step.arguments)
    except BaseException as error:
        if not of_the_code(error):
            raise
        timed_out = limit is not None and limit.expired()
        span.failed("timeout" if timed_out else type(error).__name__)
        if tool.effect == "once" and (timed_out or tool.uncertain(error)):
            lost = f"no answer within {tool.timeout_seconds:g} s" if timed_out else f"it raised {type(error).__name__}"
            again = await _in_doubt(engine, step, attempt, lost)
            return None if again is None else 0.0
        turn.hold(tool.holds(error))
        extra = tool.failure_data(error) | _told_at_end(tool, waited_us, turn, span)
        return _failed(engine, step, attempt, error, began, extra, timed_out=timed_out)
    reach("effect.after")
    turn.used(tool.used(value))
    bodies, extra = _result(step, value)
    span.ended(end := tool.end_data(value))
    extra |= _told_at_end(tool, waited_us, turn, span) | end
    _finish(engine, step, attempt, "success", began, bodies, extra)
    return None


def _result(step: ToolStep, value: Any) -> tuple[list[tuple[str, bytes]], dict[str, Any]]:
    try:
        return step.tool.result_cells(value), {}
    except Refused as error:
        # The effect happened and must be on record; what it returned can't be.
        shown = {"kind": "UnstorableResult", "message": f"the result {error}", "repr": _safe_repr(value)}
        return [("error", body_bytes(_printable(shown)))], {"unstorable": True}


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)[:REPR_LIMIT]
    except Exception:  # noqa: BLE001  a foreign __repr__ must not undo the record of an effect
        return f"<{type(value).__name__}>"


def _failed(
    engine: Engine,
    step: ToolStep,
    attempt: int,
    error: BaseException,
    began: int,
    extra: dict[str, Any],
    *,
    timed_out: bool,
) -> float | None:
    tool = step.tool
    message = f"no answer within {tool.timeout_seconds:g} s" if timed_out else said(error)
    bodies = [("error", body_bytes(_printable({"kind": type(error).__name__, "message": message})))]
    outcome = "timeout" if timed_out else "failure"
    wait = tool.again_after(error, attempt)
    if wait is None:
        _finish(engine, step, attempt, outcome, began, bodies, extra)
        return None
    metrics.step_retried(engine.tenant, tool.kind, outcome)
    _finish(engine, step, attempt, outcome, began, bodies, {"retry_after_us": int(wait * 1e6)} | extra, last=False)
    return wait


def _told_at_end(tool: Tool[Any, Any], waited_us: int, turn: Turn | FreeTurn, span: tracing.Attempt) -> dict[str, Any]:
    # A start record says how the call came to its turn, and names its span; where there is none, its end does.
    return {"waited_us": waited_us, **turn.line(), **span.line()} if tool.effect == "none" else {}


def _refused(engine: Engine, step: ToolStep, attempt: int, refusal: RateLimited) -> None:
    """Resolve a call that was not started: no slot within its limit's max_wait."""
    bodies = [*step.bodies, ("error", body_bytes({"kind": "RateLimited", "message": str(refusal)}))]
    data = {
        "attempt": attempt,
        "effect": step.tool.effect,
        "outcome": "refused",
        "tool_name": step.tool.name,
        "try_again_us": int((refusal.retry_after_seconds or 0) * 1e6),
    }
    engine.arrived(engine.log.emit("tool_call_refused", step=step.step, data=data, bodies=bodies), bodies)


def _finish(
    engine: Engine,
    step: ToolStep,
    attempt: int,
    outcome: str,
    began: int,
    bodies: list[tuple[str, bytes]],
    extra: dict[str, Any],
    *,
    last: bool = True,
) -> None:
    tool = step.tool
    data = {
        "attempt": attempt,
        "duration_us": (time.perf_counter_ns() - began) // 1000,
        "effect": tool.effect,
        "outcome": outcome,
        "tool_name": tool.name,
        **extra,
    }
    cells = [*step.bodies, *bodies] if tool.effect == "none" else bodies
    seconds = (time.perf_counter_ns() - began) / 1e9
    if tool.kind == "llm":
        metrics.llm_ended(engine.tenant, outcome, seconds, data.get("input_tokens", 0), data.get("output_tokens", 0))
    else:
        metrics.tool_ended(engine.tenant, tool.name, outcome, seconds)
    reach("end.before")
    event = engine.log.emit("tool_invocation_finished", step=step.step, data=data, bodies=cells)
    reach("end.after")
    if last:
        engine.arrived(event, cells)


def _printable(value: dict[str, str]) -> dict[str, str]:
    # A message may hold half a surrogate pair (a file name, say), which UTF-8 can't carry.
    return {k: v.encode("utf-8", "backslashreplace").decode() for k, v in value.items()}
