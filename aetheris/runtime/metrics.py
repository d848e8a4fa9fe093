"""Metrics by their known names, moved by one call each; `exposition.py` serves them.

Call what happened (`job_ended(...)`, `rate_limit_waited(...)`); names, labels
and buckets stand here alone. Labels are bounded: tenants, agents, tools and
providers, never jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: The known buckets, and on to what an alert asks about: jobs live longer than ten seconds.
LATENCY_BUCKETS = (*DEFAULT_BUCKETS, 60, 300, 600, 3600)
PARKED_BUCKETS = (10, 60, 300, 600, 1800, 3600, 7200, 14400)
SCORE_BUCKETS = (0, 20, 40, 60, 80, 100)
WAIT_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10)

REGISTRY = CollectorRegistry(auto_describe=True)


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(f"aetheris_{name}", what, labels, registry=REGISTRY)


def _histogram(name: str, what: str, *labels: str, buckets: tuple[float, ...] = DEFAULT_BUCKETS) -> Histogram:
    return Histogram(f"aetheris_{name}", what, labels, buckets=buckets, registry=REGISTRY)


def _gauge(name: str, what: str, *labels: str, mode: str = "livesum") -> Gauge:
    return Gauge(f"aetheris_{name}", what, labels, registry=REGISTRY, multiprocess_mode=mode)  # type: ignore[arg-type]


JOBS = _counter("jobs_total", "Jobs that ended.", "tenant", "status")
JOB_LATENCY = _histogram(
    "job_latency_seconds", "From a job's creation to its end.", "tenant", "status", buckets=LATENCY_BUCKETS
)
JOB_FAILS = _counter("job_fail_total", "Jobs that failed or were cancelled.", "status")
JOB_DURATION = _histogram("job_duration_seconds", "One hold of a job by a worker.", "agent_id")
JOB_STATE = _gauge("job_state", "Jobs now, by state; sampled from the store.", "state", mode="livemax")
PARKED = _histogram(
    "job_parked_duration_seconds", "How long a job was parked when it went on.", "agent_id", buckets=PARKED_BUCKETS
)
STEPS = _histogram("step_duration_seconds", "One step, from its start to its end.", "tenant", "step_type", "ok")
STEP_RETRIES = _counter("step_retries_total", "Attempts made again.", "tenant", "step_type", "reason")
STEP_TIMEOUTS = _counter("step_timeout_total", "Attempts that had no answer in time.", "tenant")
NODES = _counter("node_execution_total", "Nodes of task graphs that ended.", "tenant", "node_type", "status")
TOOL_DURATION = _histogram("tool_duration_seconds", "One attempt of a tool.", "tool")
TOOL_CALLS = _counter(
    "tool_invocations_total", "Calls that a tool served, or its record did.", "tenant", "tool", "mode"
)
TOOL_ERRORS = _counter("tool_errors_total", "Attempts of a tool that failed.", "tenant", "tool", "mode")
CONFIRM_FAILS = _counter("confirmation_replay_fail_total", "Calls in doubt that stay in doubt.", "tenant", "tool")
CONFIRM_WARNS = _counter(
    "confirmation_replay_warn_total", "Confirmations that failed; the job went on.", "tenant", "tool"
)
LLM_TOKENS = _counter("llm_tokens_total", "Tokens by direction, as the model's provider counts them.", "direction")
WORKER_BUSY = _gauge("worker_busy", "Jobs in a worker's hands.", "worker_id")
WORKER_SLOTS = _gauge("worker_slots", "Jobs that a worker takes in hand at most.", "worker_id")
BACKLOG = _gauge("queue_backlog", "Jobs ready and not taken; sampled from the store.", "queue", mode="livemax")
STUCK = _gauge("stuck_job_count", "Jobs running that nothing moved for long; sampled.", mode="livemax")
LIVE_LEASES = _gauge("live_leases_most", "Most leases alive on one job at once; sampled.", mode="livemax")
PARKED_LONGEST = _gauge("job_parked_longest_seconds", "The longest that a job is parked now; sampled.", mode="livemax")
SNAPSHOTS = _counter("snapshots_total", "Snapshots taken.", "tenant", "kind")
SNAPSHOTS_UNSOUND = _counter("snapshots_unsound_total", "Snapshots passed over as not sound.", "tenant")
LEASE_ACQUIRES = _counter("lease_acquire_total", "Jobs claimed.", "tenant", "ok")
LEASE_CONFLICTS = _counter("lease_conflict_total", "Appends refused under a stale lease.", "tenant")
LIMIT_WAITS = _histogram(
    "rate_limit_wait_seconds", "Waits for a limit, waits of zero too.", "type", "name", buckets=WAIT_BUCKETS
)
LIMIT_REJECTIONS = _counter("rate_limit_rejections_total", "Calls refused: no slot within max_wait.", "type", "name")
TOOL_CONCURRENT = _gauge("tool_concurrent", "Calls of a tool under way.", "tool")
LLM_CONCURRENT = _gauge("llm_concurrent", "Calls of a model under way.", "provider")
DECISIONS = _histogram(
    "decision_quality_score", "How well the record bears out a model's answer.", "tenant", buckets=SCORE_BUCKETS
)
ANOMALIES = _counter("anomaly_detected_total", "Anomalies found in records.", "anomaly_type", "severity")
SIGNATURES = _counter("signature_verification_total", "Signatures checked.", "result")
REPLAY_FAILS = _counter("replay_verify_fail_total", "Replays that did not match their record.", "tenant")
API_REQUESTS = _counter("api_requests_total", "Requests answered.", "method", "route", "status")
API_SECONDS = _histogram("api_request_seconds", "From a request to its answer.", "route")
API_DENIALS = _counter("api_denials_total", "Requests refused: no token, no right, too many.", "status")
API_STREAMS = _gauge("api_streams", "Live streams of jobs that are open.")
#: What the API's own port shows to anybody: figures of the API, of no tenant, agent or tool.
API_OWN = (API_REQUESTS, API_SECONDS, API_DENIALS, API_STREAMS)


TARGET = Gauge(
    "target_info",
    "Who serves these metrics; the same in its traces and logs.",
    ("service_name", "service_version", "service_instance_id"),
    registry=REGISTRY,
    multiprocess_mode="livemax",
)


def served_by(resource: Mapping[str, str]) -> None:
    """Say who serves these metrics, by the names that its traces and logs have."""
    TARGET.labels(**{name.replace(".", "_"): value for name, value in resource.items()}).set(1)


@cache
def _of(metric: Any, *labels: str) -> Any:
    # A child is looked up once: the library's own look-up takes a lock and builds a tuple each time.
    return metric.labels(*labels)


# Limits.


def rate_limit_waited(kind: str, name: str, seconds: float) -> None:
    """A call had its turn after `seconds`."""
    _of(LIMIT_WAITS, kind, name).observe(seconds)


def rate_limit_rejected(kind: str, name: str) -> None:
    """A call was refused: its wait would have been longer than max_wait."""
    _of(LIMIT_REJECTIONS, kind, name).inc()


def free_call(kind: str, name: str) -> tuple[Callable[[float], None], Callable[[], None], Callable[[], None]]:
    """Return what observes a wait, enters and leaves a call: bound once, for calls that nothing limits."""
    gauge = _of(LLM_CONCURRENT if kind == "llm" else TOOL_CONCURRENT, name)
    return _of(LIMIT_WAITS, kind, name).observe, gauge.inc, gauge.dec


def call_entered(kind: str, name: str) -> None:
    """A call of a tool (or of a model's provider) is under way."""
    _of(LLM_CONCURRENT if kind == "llm" else TOOL_CONCURRENT, name).inc()


def call_left(kind: str, name: str) -> None:
    """It has ended."""
    _of(LLM_CONCURRENT if kind == "llm" else TOOL_CONCURRENT, name).dec()


# Jobs and steps.


def job_ended(tenant: str, agent: str, status: str, seconds: float) -> None:
    """A job completed, failed or was cancelled, `seconds` after its creation."""
    _of(JOBS, tenant, status).inc()
    _of(JOB_LATENCY, tenant, status).observe(seconds)
    if status != "completed":
        _of(JOB_FAILS, status).inc()


def job_let_go(agent: str, seconds: float) -> None:
    """A worker's hold of a job is over, however it ended."""
    _of(JOB_DURATION, agent).observe(seconds)


def job_unparked(agent: str, seconds: float) -> None:
    """A parked job goes on after `seconds`."""
    _of(PARKED, agent).observe(seconds)


def tool_ended(tenant: str, tool: str, outcome: str, seconds: float) -> None:
    """An attempt of a tool ended: success, failure or timeout."""
    ok = outcome == "success"
    _of(TOOL_DURATION, tool).observe(seconds)
    _of(STEPS, tenant, "tool", "true" if ok else "false").observe(seconds)
    _of(TOOL_CALLS, tenant, tool, "execute").inc()
    if not ok:
        _of(TOOL_ERRORS, tenant, tool, "execute").inc()
    if outcome == "timeout":
        _of(STEP_TIMEOUTS, tenant).inc()


def llm_ended(tenant: str, outcome: str, seconds: float, received: int, made: int) -> None:
    """A question to a model ended: success, failure or timeout; it took `received` tokens and made `made`."""
    ok = outcome == "success"
    _of(STEPS, tenant, "llm", "true" if ok else "false").observe(seconds)
    if ok:
        _of(LLM_TOKENS, "input").inc(received)
        _of(LLM_TOKENS, "output").inc(made)
    if outcome == "timeout":
        _of(STEP_TIMEOUTS, tenant).inc()


def decision_made(tenant: str, score: float) -> None:
    """An answer of a model, and what was done upon it, is on record: borne out by `score` of 100 points."""
    _of(DECISIONS, tenant).observe(score)


def tool_restored(tenant: str, tool: str) -> None:
    """A recorded result was delivered; the tool was not called."""
    _of(TOOL_CALLS, tenant, tool, "restore").inc()


def step_retried(tenant: str, step_type: str, reason: str) -> None:
    """An attempt that failed is made again."""
    _of(STEP_RETRIES, tenant, step_type, reason).inc()


def node_ended(tenant: str, node_type: str, status: str) -> None:
    """A node of a task graph ended."""
    _of(NODES, tenant, node_type, status).inc()


def confirmation_failed(tenant: str, tool: str, *, went_on: bool = False) -> None:
    """A confirmation did not settle a call: it stays in doubt, or the job went on with a warning."""
    _of(CONFIRM_WARNS if went_on else CONFIRM_FAILS, tenant, tool).inc()


# Workers and leases.


def worker_holds(worker: str, jobs: int, slots: int) -> None:
    """A worker has `jobs` of at most `slots` in hand."""
    _of(WORKER_BUSY, worker).set(jobs)
    _of(WORKER_SLOTS, worker).set(slots)


def lease_acquired(tenant: str) -> None:
    """A job was claimed."""
    _of(LEASE_ACQUIRES, tenant, "true").inc()


def lease_conflict(tenant: str) -> None:
    """An append under a stale lease was refused."""
    _of(LEASE_CONFLICTS, tenant).inc()


def store_sampled(states: dict[str, int], *, backlog: int, stuck: int, live_leases: int, parked: float) -> None:
    """What the store holds now."""
    for state, count in states.items():
        _of(JOB_STATE, state).set(count)
    _of(BACKLOG, "pending").set(backlog)
    STUCK.set(stuck)
    LIVE_LEASES.set(live_leases)
    PARKED_LONGEST.set(parked)


# Findings.


def snapshot_taken(tenant: str, kind: str) -> None:
    """A snapshot was written."""
    SNAPSHOTS.labels(tenant, kind).inc()


def snapshot_unsound(tenant: str) -> None:
    """A stored snapshot was not used: cut, edited, of another place, version or key."""
    SNAPSHOTS_UNSOUND.labels(tenant).inc()


def signature_checked(*, ok: bool) -> None:
    """A signature was verified, or failed to be."""
    _of(SIGNATURES, "success" if ok else "failed").inc()


def replay_differed(tenant: str) -> None:
    """A replay did not match its record."""
    _of(REPLAY_FAILS, tenant).inc()


def anomaly_found(kind: str, severity: str) -> None:
    """A record holds what it should not: "inconsistent" for one that a worker can't take up."""
    _of(ANOMALIES, kind, severity).inc()


# The API.


def api_answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request at a known route (or at none: "") was answered."""
    _of(API_REQUESTS, method, route, str(status)).inc()
    _of(API_SECONDS, route).observe(seconds)


def api_denied(status: str) -> None:
    """A request was refused for who asked, or how often."""
    _of(API_DENIALS, status).inc()


def api_stream(change: int) -> None:
    """A live stream opened (+1) or ended (-1)."""
    API_STREAMS.inc(change)
