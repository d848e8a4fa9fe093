"""The clean store's jobs: two tenants, an airline's desk and an agent that rebooks, and what can befall them.

Most are airline runs as `generate` makes them. Those with a name of their own
are written out below: two calls at once, a long sleep, a worker lost, a doubt,
a retry, a refusal, what is sensitive and what was erased.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from random import Random
from typing import Any

from aetheris.demo.fixtures_scripts import CONFIG_SHA256, SEED, Rows, Script, Spec, audit, body, erase, job_id
from aetheris.demo.generate import Generated, generate
from aetheris.domain.events import FORMAT

SECOND_US = 1_000_000
FIRST_DAY_US = 1_773_129_600_000_000  # 2026-03-10T08:00:00Z
AIRLINE_RUNS = 14
#: Bodies longer than this are left out: a fixture is for looking at.
LONGEST_ANSWER = 1000
#: One refund in two minutes, over all tenants; its slot counts from the start that was given it.
REFUND_LIMIT = {
    "burst": 1, "interval_ns": 120_000_000_000, "kind": "tool", "name": "refund", "scope": "deployment",
    "slot_us": -200,
}  # fmt: skip
CHANGES = frozenset(
    {"book_reservation", "cancel_reservation", "update_reservation_flights", "update_reservation_baggages",
     "update_reservation_passengers", "send_certificate", "transfer_to_human_agents"}
)  # fmt: skip


class Pen:
    """Writes one job's script down, as the runtime would have told it."""

    def __init__(self, tenant: str, name: str, agent: str, version: str, start_us: int, request: Any) -> None:
        self.random = Random(f"{SEED}/{tenant}/{name}")
        self._about = (tenant, job_id(tenant, name), agent, version, start_us)
        self._specs: list[Spec] = []
        self._epoch, self._worker, self._step = 0, "", 0
        data = {"format": FORMAT, "tenant": tenant, "job": self._about[1], "agent": agent}
        data |= {"agent_version": version, "config_sha256": CONFIG_SHA256}
        self._add("job_created", 0, data, [("input", request)], by="user/desk")

    def leased(self, worker: str, after_us: int, taken_from: str | None = None) -> None:
        """A worker claims the job, or takes it over from one that is lost."""
        self._epoch, self._worker = self._epoch + 1, f"worker/{worker}"
        lost = {"taken_from": taken_from} if taken_from else {}
        self._add("job_leased", after_us, {"worker_id": worker, **lost})

    def step(self) -> int:
        """The next call of the job's code."""
        self._step += 1
        return self._step

    def read(self, tool: str, args: Any, result: Any, took_us: int, *, quiet_us: int = 0, step: int = 0) -> None:
        """A call without effect: one event, at its end."""
        data = {"attempt": 1, "duration_us": took_us, "effect": "none", "outcome": "success", "tool_name": tool}
        cells = [("args", args), ("result", result)]
        self._add("tool_invocation_finished", quiet_us + took_us, data, cells, step=step or self.step())

    def retried(self, tool: str, args: Any, result: Any, took_us: int, error: dict[str, str]) -> None:
        """A call without effect that fails once and then answers."""
        step = self.step()
        data = {"attempt": 1, "duration_us": took_us, "effect": "none", "outcome": "failure", "tool_name": tool}
        cells = [("args", args), ("error", error)]
        self._add("tool_invocation_finished", took_us, data | {"retry_after_us": 100_000}, cells, step=step)
        data |= {"attempt": 2, "outcome": "success"}
        self._add("tool_invocation_finished", 100_000 + took_us, data, [("args", args), ("result", result)], step=step)

    def start(self, tool: str, args: Any, *sensitive: tuple[str, Any], after_us: int = 2000) -> int:
        """A call with an effect begins: on record before the effect."""
        step = self.step()
        key = hashlib.sha256("\0".join((*self._about[:2], str(step), tool)).encode()).hexdigest()
        data = {"attempt": 1, "effect": "once", "idempotency_key": key, "tool_name": tool}
        if tool == "refund":
            data["limit"] = REFUND_LIMIT
        self._add("tool_invocation_started", after_us, data, [("args", args), *sensitive], step=step)
        return step

    def finish(self, tool: str, step: int, took_us: int, result: Any = None, error: Any = None) -> None:
        """A call with an effect ends."""
        outcome, cells = ("success", [("result", result)]) if error is None else ("failure", [("error", error)])
        data = {"attempt": 1, "duration_us": took_us, "effect": "once", "outcome": outcome, "tool_name": tool}
        self._add("tool_invocation_finished", took_us, data, cells, step=step)

    def doubt(self, tool: str, step: int, reason: str) -> None:
        """A call that started, and nobody recorded its end; the job is parked."""
        data = {"attempt": 1, "effect": "once", "reason": reason, "tool_name": tool}
        self._add("tool_invocation_unknown", 1500, data, step=step)
        self._add("job_parked", 400, {"reason": f"call {step} ({tool}) is in doubt: {reason}"})

    def resolved(self, tool: str, step: int, outcome: str) -> None:
        """A person says what became of the call in doubt."""
        data = {"attempt": 1, "effect": "once", "outcome": outcome, "tool_name": tool}
        self._add("tool_invocation_resolved", 900, data, step=step, by="user/ops")

    def sleep(self, sleep_us: int, worker: str) -> None:
        """The job waits for a timer, lets its worker go, and is taken up when the time has come."""
        step = self.step()
        at = self._about[4] + sum(spec.after_us for spec in self._specs)
        self._add("job_waiting", 300, {"wait_type": "timer", "expires_at": at + sleep_us}, step=step)
        self.leased(worker, sleep_us)
        self._add("timer_fired", 700, {}, step=step)

    def roll(self) -> None:
        """The job draws a number, on record."""
        self._add("random_recorded", 200, {}, [("value", self.random.randrange(1000))], step=self.step())

    def ends(self, result: Any = None, failed: dict[str, str] | None = None) -> Script:
        """The job ends, and so does its script."""
        if failed is None:
            self._add("job_completed", 1100, {}, [("result", result)])
        else:
            self._add("job_failed", 1100, {"reason": failed["kind"]}, [("error", failed)])
        return self.script()

    def script(self) -> Script:
        """What stands there so far."""
        return Script(*self._about, tuple(self._specs))

    def _add(
        self, type: str, after_us: int, data: dict[str, Any], cells: list[tuple[str, Any]] | None = None, *,
        step: int = 0, by: str = "",
    ) -> None:  # fmt: skip
        bodies = tuple((name, body(value)) for name, value in cells or [])
        self._specs.append(Spec(type, after_us, data, bodies, step, self._epoch, by or self._worker))


def scripts() -> dict[str, Script]:
    """Return the jobs by their names here."""
    told = [rebooked, in_doubt, taken_over, erased, retried, resolved]
    return airline_runs() | {fn.__name__: fn() for fn in told}


def clean(jobs: dict[str, Script], rows: Rows) -> None:
    """Put on record what belongs to no job: an erasure, and the audit entry that tells of it."""
    script = jobs["erased"]
    seq = script.find("tool_invocation_started")
    about = {"job": script.job, "seq": seq, "cell": "args/what/iban"}
    at = rows.row("events", script.job, seq)["recorded_at"] + 3600 * SECOND_US
    told = [(at, "user/privacy", "cell_erased", about | {"reason": "asked for by the customer"})]
    audit(rows, script.tenant, told)
    erase(
        rows, script, seq, "args/what/iban", by="user/privacy", reason="asked for by the customer", audit_seq=1,
    )  # fmt: skip


def airline_runs() -> dict[str, Script]:
    """Scripted runs of the airline's desk, by two tenants; two of them fail."""
    made = generate(SEED, runs=60)
    fit = [n for n, run in enumerate(made.runs) if all(len(m["content"] or "") < LONGEST_ANSWER for m in run["traj"])]
    return {f"airline-{n:02}": _airline(made, n, place) for place, n in enumerate(fit[:AIRLINE_RUNS])}


def _airline(made: Generated, number: int, place: int) -> Script:
    run = made.runs[number]
    traj = run["traj"][1:]
    start = FIRST_DAY_US + place * 97 * SECOND_US + (86_400 * SECOND_US if place % 7 == 6 else 0)
    world = f"demo/{run['task_id']}"
    request = {"opening": traj[0]["content"], "task_id": run["task_id"], "trial": run["trial"], "world": world}
    pen = Pen("globex" if place % 3 == 2 else "acme", f"airline-{number}", "airline", "1", start, request)
    pen.leased(f"w{1 + place % 3}", 4000 + 10 * place)
    calls, fails = 0, place in (3, 7, 9)
    for before, message in pairwise(traj):
        if message["role"] == "user":
            told = {"said": before["content"], "heard": message["content"]}
            pen.read("respond", told, None, pen.random.randrange(900_000, 4_200_000))
        elif message["role"] == "tool":
            calls += 1
            asked = before["tool_calls"][0]["function"]
            error = _call(pen, asked["name"], {**json.loads(asked["arguments"]), "world": world}, message, fails)
            if error:
                return pen.ends(failed=error)
    return pen.ends({"calls": calls, "last": traj[-1]["content"] or ""})


def _call(pen: Pen, tool: str, args: dict[str, Any], answer: dict[str, Any], fails: bool) -> dict[str, str] | None:
    took = pen.random.randrange(40_000, 420_000)
    if tool not in CHANGES:
        pen.read(tool, args, answer["content"], took, quiet_us=pen.random.randrange(200_000, 900_000))
        return None
    step = pen.start(tool, args, after_us=pen.random.randrange(200_000, 900_000))
    if fails:
        pen.finish(tool, step, took, error={"kind": "DeskClosed", "message": "the desk takes no changes now"})
        return {
            "kind": "ToolFailed",
            "message": f"{tool}: DeskClosed: the desk takes no changes now",
            "where": "airline",
        }
    pen.finish(tool, step, took, answer["content"])
    return None


TICKET = {"a": "OSL", "b": "ATH", "day": "2026-03-14", "return_day": "2026-03-21", "refund_cents": 12_950}


def _rebook(name: str, minutes: int, tenant: str = "acme", **ticket: Any) -> Pen:
    start = FIRST_DAY_US + minutes * 60 * SECOND_US
    return Pen(tenant, name, "rebook", "4", start, {"ticket": TICKET | ticket})


def _searches(pen: Pen) -> None:
    # Two at once: each is recorded at its end, and began its duration before.
    there, back = pen.step(), pen.step()
    out = {"origin": "OSL", "destination": "ATH", "date": "2026-03-14"}
    home = {"origin": "ATH", "destination": "OSL", "date": "2026-03-21"}
    found = [{"flight_number": "AE217", "price": 188}]
    pen.read("search_flights", out, found, 240_000, step=there)
    pen.read("search_flights", home, [], 395_000, quiet_us=-240_000, step=back)


def _refund(pen: Pen, cents: int = 12_950) -> int:
    iban = "args/what/iban"
    what = {"what": {"amount_cents": cents, "booking": "NEW0A1", "iban": {"$cell": iban}}}
    return pen.start("refund", what, (iban, "NO93 8601 1117 947"))


def rebooked() -> Script:
    """Two searches at once, a refund with an account number of its own cell, six hours' sleep, and an end."""
    pen = _rebook("rebooked", 31)
    pen.leased("w1", 5000)
    _searches(pen)
    step = _refund(pen)
    pen.finish("refund", step, 310_000, {"receipt": "R-4471"})
    pen.roll()
    pen.sleep(6 * 3600 * SECOND_US, "w2")
    pen.read("search_flights", {"origin": "OSL", "destination": "ATH", "date": "2026-03-15"}, [], 180_000)
    return pen.ends({"booked": "AE217", "refunded_cents": 12_950})


def in_doubt() -> Script:
    """The worker dies inside a refund: nobody knows whether the money went, so the job is parked."""
    pen = _rebook("in_doubt", 34)
    pen.leased("w1", 5000)
    _searches(pen)
    step = _refund(pen)
    pen.leased("w2", 31 * SECOND_US, taken_from="w1")
    pen.doubt("refund", step, "started, and the worker was lost before its end was recorded")
    return pen.script()


def taken_over() -> Script:
    """The worker dies between two calls; another takes the job over and ends it under epoch 2."""
    pen = _rebook("taken_over", 38, refund_cents=8_000)
    pen.leased("w3", 5000)
    _searches(pen)
    pen.read("calculate", {"expression": "(188 - 108) * 100"}, "8000.0", 30_000)
    pen.leased("w1", 32 * SECOND_US, taken_from="w3")
    step = _refund(pen, 8_000)
    pen.finish("refund", step, 270_000, {"receipt": "R-4472"})
    pen.read("search_flights", {"origin": "OSL", "destination": "ATH", "date": "2026-03-16"}, [], 160_000)
    return pen.ends({"booked": "AE217", "refunded_cents": 8_000})


def erased() -> Script:
    """A refund whose account number was erased later, on record."""
    pen = _rebook("erased", 43, refund_cents=4_400)
    pen.leased("w2", 5000)
    step = _refund(pen, 4_400)
    pen.finish("refund", step, 290_000, {"receipt": "R-4473"})
    return pen.ends({"booked": None, "refunded_cents": 4_400})


def retried() -> Script:
    """A search that times out and answers at the second attempt; then the bank refuses, and the job fails."""
    pen = _rebook("retried", 47)
    pen.leased("w2", 5000)
    asked = {"origin": "OSL", "destination": "ATH", "date": "2026-03-14"}
    pen.retried("search_flights", asked, [], 150_000, {"kind": "ConnectionError", "message": "the line went dead"})
    step = _refund(pen)
    refused = {"kind": "Refusal", "message": "account closed"}
    pen.finish("refund", step, 350_000, error=refused)
    return pen.ends(failed={"kind": "ToolFailed", "message": "refund: Refusal: account closed", "where": "rebook"})


def resolved() -> Script:
    """A doubt that a person resolved with a bank statement in hand; the job went on and ended."""
    pen = _rebook("resolved", 52, tenant="globex", refund_cents=3_300)
    pen.leased("w2", 5000)
    step = _refund(pen, 3_300)
    pen.leased("w3", 33 * SECOND_US, taken_from="w2")
    pen.doubt("refund", step, "started, and the worker was lost before its end was recorded")
    pen.leased("w1", 1260 * SECOND_US)
    pen.resolved("refund", step, "done")
    return pen.ends({"booked": None, "refunded_cents": 3_300})
