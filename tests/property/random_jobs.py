"""Random records of jobs, as the runtime could have left them: for properties that hold for any job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from aetheris.domain.cells import Cell
from aetheris.domain.events import Event
from aetheris.runtime.joblog import make_event
from aetheris.store.history import Record

TENANT, JOB = "acme", "j" * 40
SCRIPT = st.lists(
    st.tuples(
        st.sampled_from(
            ["start", "none", "end", "retry", "fail", "unknown", "confirm", "not_done", "resolve", "sleep", "fire",
             "wait", "receive", "complete", "ask", "approve", "random", "patch", "pause", "resume", "cancel", "lease",
             "child", "child_end", "checkpoint", "unconfirmed", "refuse", "ignored", "park", "rest"]
        ),
        st.integers(0, 7),
        st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@dataclass
class Made:
    """A record in the making, event by event."""

    events: list[Event] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)
    step: int = 0
    epoch: int = 0
    open: dict[int, str] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)

    def emit(
        self, type: str, step: int = 0, data: dict[str, Any] | None = None, bodies: Any = (), by: str = "w"
    ) -> None:
        """Add one event."""
        prev = self.leaves[-1] if self.leaves else None
        event, line, leaf, made = make_event(
            job=JOB, seq=len(self.events) + 1, prev=prev, at=1_700_000_000_000_000 + 10 * len(self.events), by=by,
            epoch=self.epoch, type=type, step=step, data=data or {}, bodies=bodies,
        )  # fmt: skip
        self.events.append(event)
        self.lines.append(line)
        self.leaves.append(leaf)
        self.cells.update({(c.seq, c.name): c for c in made})

    @property
    def checkpoint_seq(self) -> int:
        """The last checkpoint's event, or 0."""
        return max((e.seq for e in self.events if e.type == "state_checkpointed"), default=0)

    def record(self, since: int) -> Record:
        """Return what a load from event `since` on brings: the first event and earlier signals too."""
        wanted = [e.seq for e in self.events if e.seq >= since or e.seq == 1 or e.type == "signal_received"]
        there = set(wanted)
        return Record(
            since,
            wanted,
            [self.leaves[seq - 1] for seq in wanted],
            [self.lines[seq - 1] for seq in wanted],
            {key: cell for key, cell in self.cells.items() if key[0] in there},
        )


def make(script: list[tuple[str, int, bool]]) -> Made:
    """Return the record that this script leaves behind; what makes no sense in its place is left out."""
    made = Made()
    genesis = {
        "format": "aetheris/job/v1", "tenant": TENANT, "job": JOB, "agent": "a", "agent_version": "1",
        "config_sha256": "0" * 64,
    }  # fmt: skip
    made.emit("job_created", 0, genesis, [("input", b'{"n":1}')])
    _lease(made)
    for what, pick, flag in script:
        _do(made, what, pick, flag)
    return made


def _do(m: Made, what: str, pick: int, flag: bool) -> None:
    kinds = {
        "end": "started", "retry": "started", "fail": "started", "unknown": "started", "confirm": "unknown",
        "not_done": "unknown", "resolve": "unknown", "fire": "timer", "complete": "signal", "approve": "approval",
        "child_end": "child",
    }  # fmt: skip
    wanted = kinds.get(what)
    fitting = [step for step, state in m.open.items() if state == wanted]
    if wanted is not None and not fitting:
        return
    step = fitting[pick % len(fitting)] if fitting else 0
    call = {"attempt": m.tries.get(step, 1), "effect": "once", "tool_name": f"tool{step % 3}"}
    secret = [("args/secret", b'"s"')] if flag else []
    args = [("args", b'{"n":%d}' % pick), *secret]
    match what:
        case "start":
            again = [s for s, state in m.open.items() if state == "again"]
            step = again[0] if again else _next(m)
            m.tries[step] = m.tries.get(step, 0) + 1
            call = {"attempt": m.tries[step], "effect": "once", "tool_name": f"tool{step % 3}"}
            m.open[step] = "started"
            m.emit("tool_invocation_started", step, {**call, "idempotency_key": "ab" * 32, "waited_us": pick}, args)
        case "none":
            step = _next(m)
            data = {"attempt": 1, "effect": "none", "tool_name": "look", "duration_us": pick, "outcome": "success"}
            m.emit("tool_invocation_finished", step, data, [*args, ("result", b"[%d]" % pick)])
        case "end":
            del m.open[step]
            m.emit("tool_invocation_finished", step, {**call, "duration_us": pick, "outcome": "success"},
                   [("result", b'{"r":%d}' % pick)])  # fmt: skip
        case "retry":
            m.open[step] = "again"
            data = {**call, "duration_us": 1, "outcome": "failure", "retry_after_us": 5}
            m.emit("tool_invocation_finished", step, data, [("error", b'{"kind":"E"}')])
        case "fail":
            del m.open[step]
            m.emit("tool_invocation_finished", step, {**call, "duration_us": 1, "outcome": "timeout"},
                   [("error", b'{"kind":"T","message":"m"}')])  # fmt: skip
        case "unknown":
            m.open[step] = "unknown"
            m.emit("tool_invocation_unknown", step, {**call, "reason": "lost"})
        case "confirm":
            del m.open[step]
            m.emit("tool_invocation_confirmed", step, {**call, "outcome": "done"}, [("result", b"%d" % pick)])
        case "not_done":
            m.open[step] = "again"
            m.emit(
                "tool_invocation_resolved", step, {**call, "outcome": "not_done", "worker_gone": "said"}, [], "user/a"
            )
        case "resolve":
            del m.open[step]
            m.emit(
                "tool_invocation_resolved", step, {**call, "outcome": "failed"}, [("error", b'{"kind":"R"}')], "user/a"
            )
        case "refuse":
            m.emit("tool_call_refused", _next(m), {**call, "outcome": "refused", "try_again_us": pick}, args)
        case _:
            _wait(m, what, step, pick, flag)


def _wait(m: Made, what: str, step: int, pick: int, flag: bool) -> None:
    expiry = {"expires_at": 5_000 + pick} if flag else {}
    key = f"k{pick}"
    match what:
        case "sleep":
            m.open[step := _next(m)] = "timer"
            m.emit("job_waiting", step, {"wait_type": "timer", "expires_at": 99 + pick})
        case "fire":
            del m.open[step]
            m.emit("timer_fired", step)
        case "wait":
            m.open[step := _next(m)] = "signal"
            m.emit("job_waiting", step, {"wait_type": "signal", "correlation_key": key, **expiry})
        case "receive":
            if not any(e.type == "signal_received" and e.data["correlation_key"] == key for e in m.events):
                m.emit("signal_received", 0, {"correlation_key": key}, [("payload", b"%d" % pick)], "user/a")
        case "complete":
            del m.open[step]
            m.emit("wait_completed", step, {"correlation_key": key, "expired": True})
        case "ask":
            m.open[step := _next(m)] = "approval"
            data = {"approver_type": "anyone", "correlation_key": f"approval/{step}", **expiry}
            m.emit("approval_requested", step, data, [("title", b'"pay?"')])
        case "approve":
            del m.open[step]
            m.emit("approval_completed", step, {"correlation_key": f"approval/{step}", "decision": "approved"},
                   [("why", b'"yes"')] if flag else [], f"user/{pick}")  # fmt: skip
        case "child":
            m.open[step := _next(m)] = "child"
            m.emit("child_requested", step, {"agent": "b", "child": f"c{step}"})
        case "child_end":
            del m.open[step]
            m.emit("child_completed", step, {"child": f"c{step}", "status": "completed"}, [("result", b"%d" % pick)])
        case "random":
            m.emit("random_recorded", _next(m), {}, [("value", b"%d" % pick)])
        case "checkpoint":
            m.open.clear()
            m.emit("state_checkpointed", _next(m), {}, [("state", b"%d" % pick)])
        case "unconfirmed":
            m.emit("confirmation_replay_failed", max(m.step, 1), {"attempt": 1, "tool_name": "t", "reason": "not done"})
        case _:
            _of_job(m, what, pick)


def _of_job(m: Made, what: str, pick: int) -> None:
    match what:
        case "lease":
            _lease(m)
        case "patch":
            m.emit("patch_recorded", 0, {"patch": f"p{pick}"})
        case "pause":
            m.emit("pause_requested", 0, {}, [], "user/a")
        case "resume":
            m.emit("job_resumed", 0, {"resumed_by": "user/a"}, [], "user/a")
        case "cancel":
            if not any(e.type == "cancel_requested" for e in m.events):
                m.emit("cancel_requested", 0, {"reason": "cancel"}, [("why", b'"w"')], "user/a")
        case "ignored":
            m.emit("message_ignored", 0, {"kind": "approval", "reason": "late", "correlation_key": "x"}, [], "user/a")
        case "park":
            m.emit("job_parked", 0, {"reason": "doubt"})
        case "rest":
            m.emit("job_waiting", 0, {"wait_type": "message"})


def _lease(m: Made) -> None:
    m.epoch += 1
    m.emit("job_leased", 0, {"worker_id": "w", "agent_version": "1"})


def _next(m: Made) -> int:
    m.step += 1
    return m.step
