"""Taking: what came into a job's inbox becomes events of its log, each exactly once.

The holder of the lease alone does this. A message that can have no effect any
more (an answer to an approval that expired, a resolve of a call that is not in
doubt) is taken too, and its event says why nothing came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aetheris.domain.encode import body_bytes, body_value
from aetheris.domain.errors import AetherisError
from aetheris.runtime import metrics
from aetheris.runtime.waits import approval_key
from aetheris.store.inbox import Message

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine


def take(engine: Engine, messages: Sequence[Message]) -> None:
    """Make events of `messages`, in order. Errors: Lost, Conflict."""
    for message in messages:
        try:
            payload = None if message.payload is None or message.kind in ("signal", "child") else _object(message)
        except (AetherisError, ValueError):
            _ignore(engine, message, "its payload can't be read")
            continue
        _TAKERS[message.kind](engine, message, payload or {})


def _signal(engine: Engine, message: Message, _: dict[str, Any]) -> None:
    bodies = [("payload", message.payload or b"null")]
    data = {"correlation_key": message.key}
    received = engine.log.emit("signal_received", data=data, bodies=bodies, by=message.by, taken=message.id)
    engine.arrived(received, bodies)
    for step, wait in list(engine.history.waits.items()):
        if wait.type == "job_waiting" and wait.data.get("correlation_key") == message.key:
            delivered = {"correlation_key": message.key, "received_seq": received.seq}
            engine.arrived(engine.log.emit("wait_completed", step=step, data=delivered), [])


def _approval(engine: Engine, message: Message, payload: dict[str, Any]) -> None:
    waits = engine.history.waits
    step = next(
        (n for n, e in waits.items() if e.type == "approval_requested" and approval_key(n) == message.key), None
    )
    if step is None:
        _ignore(engine, message, "the approval is not open any more")
        return
    until = waits[step].data.get("expires_at")
    if until is not None and message.sent_us > until:
        # Nobody was here to say so when its time was over; that makes it no longer.
        _ignore(engine, message, "the approval had expired when it was sent")
        return
    role = waits[step].data.get("role")
    if role and role != payload.get("role") and payload.get("role") != "admin":
        _ignore(engine, message, f"the approval is for the role {role}")
        return
    data = {"correlation_key": message.key, "decision": payload["decision"]}
    if payload.get("role"):
        data["role"] = payload["role"]
    bodies = _why(payload)
    event = engine.log.emit("approval_completed", step=step, data=data, bodies=bodies, by=message.by, taken=message.id)
    engine.arrived(event, bodies)


def _cancel(engine: Engine, message: Message, payload: dict[str, Any]) -> None:
    if engine.history.cancel is not None:
        _ignore(engine, message, "the job is being cancelled already")
        return
    bodies = _why(payload)
    data = {"reason": "cancel"}
    event = engine.log.emit("cancel_requested", data=data, bodies=bodies, by=message.by, taken=message.id)
    engine.arrived(event, bodies)


def _pause(engine: Engine, message: Message, payload: dict[str, Any]) -> None:
    bodies = _why(payload)
    engine.arrived(engine.log.emit("pause_requested", bodies=bodies, by=message.by, taken=message.id), bodies)


def _resume(engine: Engine, message: Message, payload: dict[str, Any]) -> None:
    bodies = _why(payload)
    data = {"resumed_by": message.by}
    for tool in engine.history.unconfirmed_tools():
        metrics.confirmation_failed(engine.tenant, tool, went_on=True)
    event = engine.log.emit("job_resumed", data=data, bodies=bodies, by=message.by, taken=message.id)
    engine.arrived(event, bodies)


def _resolve(engine: Engine, message: Message, payload: dict[str, Any]) -> None:
    step, _, attempt = message.key.partition("/")
    last = engine.history.last_call.get(int(step))
    if last is None or last.type != "tool_invocation_unknown" or last.data["attempt"] != int(attempt):
        _ignore(engine, message, "the call is not in doubt any more")
        return
    data = {
        "attempt": last.data["attempt"],
        "effect": last.data["effect"],
        "outcome": payload["as"],
        "tool_name": last.data["tool_name"],
    }
    if payload["as"] == "not_done":
        data["worker_gone"] = payload["worker_gone"]
    bodies = _why(payload)
    if payload["as"] == "done":
        bodies.insert(0, ("result", body_bytes(payload.get("result"))))
    elif payload["as"] == "failed":
        bodies.insert(0, ("error", body_bytes({"kind": "Resolved", "message": payload.get("why", "")})))
    event = engine.log.emit(
        "tool_invocation_resolved", step=int(step), data=data, bodies=bodies, by=message.by, taken=message.id
    )
    engine.arrived(event, bodies)
    engine.resolved(int(step), again=payload["as"] == "not_done")


def _child(engine: Engine, message: Message, _: dict[str, Any]) -> None:
    # No event: the child's own record is the truth; its step reads it and records the end.
    engine.log.take_silently(message.id)
    engine.underway.child_ended(message.key)


def _ignore(engine: Engine, message: Message, reason: str) -> None:
    data = {"correlation_key": message.key, "kind": message.kind, "reason": reason}
    engine.log.emit("message_ignored", data=data, by=message.by, taken=message.id)


def _object(message: Message) -> dict[str, Any]:
    value = body_value(message.payload or b"")
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _why(payload: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [("why", body_bytes(payload["why"]))] if payload.get("why") else []


_TAKERS: dict[str, Callable[[Engine, Message, dict[str, Any]], None]] = {
    "signal": _signal,
    "approval": _approval,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "resolve": _resolve,
    "child": _child,
}
