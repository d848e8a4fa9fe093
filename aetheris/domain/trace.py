"""A job's events as a person reads them: one line a call, a wait, a takeover, with its times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aetheris.domain.events import Event
from aetheris.domain.ledger import transition_of


@dataclass(slots=True)
class TraceLine:
    """One line of a trace. Times are microseconds; `since_start_us` counts from the first event."""

    seq: int
    step: int
    since_start_us: int
    what: str  # created, call, leased, took over, waiting, ...
    name: str = ""
    effect: str = ""
    duration_us: int | None = None
    waited_us: int | None = None
    states: tuple[str, ...] = ()
    attempt: int = 1
    epoch: int = 0
    note: str = ""


def trace(events: Iterable[Event]) -> list[TraceLine]:
    """Return the lines of a job's events, in order of their beginning."""
    lines: list[TraceLine] = []
    calls: dict[tuple[int, int], TraceLine] = {}
    waits: dict[int, TraceLine] = {}
    start: int | None = None
    epoch = 0
    before: Event | None = None
    for event in events:
        start = event.at if start is None else start
        since = event.at - start
        transition = transition_of(event)
        if transition is not None:
            call = calls.get((transition.step, transition.attempt))
            if call is None:
                call = TraceLine(
                    event.seq,
                    event.step,
                    since,
                    "call",
                    transition.tool_name,
                    transition.effect,
                    attempt=transition.attempt,
                )
                if transition.effect == "none":
                    # It has no start record: it began its duration ago.
                    call.since_start_us = max(0, since - int(event.data.get("duration_us", 0)))
                calls[transition.step, transition.attempt] = call
                lines.append(call)
            call.states += (transition.status,)
            call.epoch = event.epoch
            call.duration_us = event.data.get("duration_us", call.duration_us)
            call.waited_us = event.data.get("waited_us", call.waited_us)
            call.note = _noted(event) or call.note
        elif event.type == "job_leased":
            lines.append(_leased(event, since, epoch, before))
        elif event.type in _WAITS and event.step:
            waits[event.step] = line = TraceLine(event.seq, event.step, since, *_waiting(event))
            lines.append(line)
        elif event.step in waits and event.type in _WAITED:
            wait = waits[event.step]
            wait.duration_us = since - wait.since_start_us
            wait.note = _answer(event)
        else:
            lines.append(_other(event, since))
        epoch, before = event.epoch, event
    return lines


def _noted(event: Event) -> str:
    data = event.data
    if "http_status" in data:
        return f"HTTP {data['http_status']}"
    if "output_tokens" in data:
        return f"{data['input_tokens']} + {data['output_tokens']} tokens"
    return str(data.get("reason", ""))


_WAITS = frozenset({"job_waiting", "approval_requested", "child_requested"})
_WAITED = frozenset({"timer_fired", "wait_completed", "approval_completed", "child_completed"})


def _waiting(event: Event) -> tuple[str, str]:
    match event.type:
        case "approval_requested":
            return f"approval {event.step}", str(event.data.get("role", ""))
        case "child_requested":
            return "child", f"{event.data['agent']} {event.data['child'][:8]}"
        case _ if event.data["wait_type"] == "signal":
            return "waiting", f"signal {event.data['correlation_key']}"
        case _:
            return "waiting", str(event.data["wait_type"])


def _answer(event: Event) -> str:
    if event.type == "approval_completed":
        decision = str(event.data["decision"])
        return decision if decision == "expired" else f"{decision} by {event.by}"
    if event.type == "child_completed":
        return str(event.data["status"])
    return "expired" if event.data.get("expired") else ""


def _leased(event: Event, since: int, epoch: int, before: Event | None) -> TraceLine:
    worker = str(event.data["worker_id"])
    if epoch == 0:
        return TraceLine(event.seq, 0, since, "started", worker, epoch=event.epoch)
    gap = event.at - before.at if before is not None else 0
    lost = event.data.get("taken_from")
    note = f"worker {lost} lost; {worker} took over" if lost else f"taken up by {worker}"
    return TraceLine(
        event.seq, 0, since, "took over" if lost else "went on", worker, duration_us=gap, epoch=event.epoch, note=note
    )


def _other(event: Event, since: int) -> TraceLine:
    line = TraceLine(event.seq, event.step, since, event.type.removeprefix("job_"), epoch=event.epoch)
    match event.type:
        case "signal_received":
            line.what, line.name, line.note = "signal", event.data["correlation_key"], f"from {event.by}"
        case "cancel_requested" | "pause_requested" | "job_resumed":
            line.what, line.note = event.type.removeprefix("job_").replace("_", " "), f"by {event.by}"
        case "message_ignored":
            line.what, line.name, line.note = "ignored", event.data["kind"], event.data["reason"]
        case "confirmation_replay_failed":
            line.what, line.name, line.note = "not confirmed", event.data["tool_name"], event.data["reason"]
        case "run_continued":
            line.what, line.name = "continued", f"as {event.data['continued_as'][:8]}"
        case "patch_recorded":
            line.what, line.name = "patched", event.data["patch"]
        case "job_created":
            line.name, line.note = event.by, f"config {event.data['config_sha256'][:4]}…"
            if (before := event.data.get("continued_from")) is not None:
                line.note += f", continues {str(before)[:8]}"
        case "random_recorded" | "state_checkpointed":
            line.what = {"random_recorded": "random", "state_checkpointed": "checkpoint"}[event.type]
        case _:
            line.note = str(event.data.get("reason", ""))
    return line
