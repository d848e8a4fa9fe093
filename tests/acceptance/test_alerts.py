"""Every alert fires when it should and no sooner, is silent when not, and says what to do; some by a real cause.

promtool evaluates the rules over series, so durations are reckoned and not
waited for. It comes with Prometheus (Debian and Ubuntu: `apt-get install
prometheus`; else the release archive from prometheus.io).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import aetheris as ae
from aetheris.demo.model_server import Asked, ModelServer, Said, text
from aetheris.domain.limits import Limit
from aetheris.runtime import exposition, metrics
from aetheris.runtime.config import Config
from aetheris.runtime.llm.model import Models
from aetheris.runtime.worker import Worker
from aetheris.store.database import Database
from tests.store.job_support import crash, tamper

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}

Series = dict[str, str]
#: alert -> (series that should fire it, series that should not). `a+bxn` is a, a+b, ... each minute.
CASES: dict[str, tuple[Series, Series]] = {
    "DuplicateLeaseDetected": ({"live_leases_most": "2x40"}, {"live_leases_most": "1x40"}),
    "ConfirmationReplayFailed": (
        {'confirmation_replay_fail_total{tenant="a",tool="t"}': "0+9x40"},
        {'confirmation_replay_fail_total{tenant="a",tool="t"}': "0+5x40"},
    ),
    "JobParkedTooLong": ({"job_parked_longest_seconds": "7201x40"}, {"job_parked_longest_seconds": "7200x40"}),
    "ToolErrorRateHigh": (
        {
            'tool_errors_total{tenant="a",tool="t",mode="execute"}': "0+3x40",
            'tool_invocations_total{tenant="a",tool="t",mode="execute"}': "0+10x40",
            'tool_invocations_total{tenant="a",tool="t",mode="restore"}': "0+1000x40",
        },
        {
            'tool_errors_total{tenant="a",tool="t",mode="execute"}': "0+2x40",
            'tool_invocations_total{tenant="a",tool="t",mode="execute"}': "0+10x40",
        },
    ),
    "ReplayVerifyFailed": (
        {'replay_verify_fail_total{tenant="a"}': "0+1x40"},
        {'replay_verify_fail_total{tenant="a"}': "0 0 0 5x40"},
    ),
    "QueueBacklogHigh": ({'queue_backlog{queue="pending"}': "101x40"}, {'queue_backlog{queue="pending"}': "100x40"}),
    "WorkersFullyUtilized": (
        {'worker_busy{worker_id="w"}': "10x40", 'worker_slots{worker_id="w"}': "11x40"},
        {'worker_busy{worker_id="w"}': "9x40", 'worker_slots{worker_id="w"}': "10x40"},
    ),
    "StuckJobsDetected": ({"stuck_job_count": "1x40"}, {"stuck_job_count": "0x40"}),
    "RateLimitWaitTooLong": (
        {
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="5.0"}': "0+1x40",
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="10.0"}': "0+10x40",
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="+Inf"}': "0+10x40",
        },
        {
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="5.0"}': "0+10x40",
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="10.0"}': "0+10x40",
            'rate_limit_wait_seconds_bucket{type="tool",name="t",le="+Inf"}': "0+10x40",
        },
    ),
    "RateLimitRejectionsHigh": (
        {'rate_limit_rejections_total{type="tool",name="t"}': "0+660x40"},
        {'rate_limit_rejections_total{type="tool",name="t"}': "0+540x40"},
    ),
    "LLMTokenBudgetNearLimit": (
        {'llm_tokens_total{direction="input"}': "0+60000x40", 'llm_tokens_total{direction="output"}': "0+25000x40"},
        {'llm_tokens_total{direction="input"}': "0+60000x40", 'llm_tokens_total{direction="output"}': "0+15000x40"},
    ),
    "LLMConcurrencyHigh": ({'llm_concurrent{provider="p"}': "46x40"}, {'llm_concurrent{provider="p"}': "45x40"}),
    "JobFailureRateHigh": (
        {'jobs_total{tenant="a",status="failed"}': "0+4x40", 'jobs_total{tenant="a",status="completed"}': "0+6x40"},
        {'jobs_total{tenant="a",status="failed"}': "0+3x40", 'jobs_total{tenant="a",status="completed"}': "0+7x40"},
    ),
    "JobStoreSlow": (
        {
            'job_latency_seconds_bucket{tenant="a",status="completed",le="300.0"}': "0+1x40",
            'job_latency_seconds_bucket{tenant="a",status="completed",le="600.0"}': "0+10x40",
            'job_latency_seconds_bucket{tenant="a",status="completed",le="+Inf"}': "0+10x40",
        },
        {
            'job_latency_seconds_bucket{tenant="a",status="completed",le="300.0"}': "0+10x40",
            'job_latency_seconds_bucket{tenant="a",status="completed",le="600.0"}': "0+10x40",
            'job_latency_seconds_bucket{tenant="a",status="completed",le="+Inf"}': "0+10x40",
        },
    ),
    "AnomalyRateHigh": (
        {'anomaly_detected_total{anomaly_type="timing",severity="low"}': "0+7x40"},
        {'anomaly_detected_total{anomaly_type="timing",severity="low"}': "0+5x40"},
    ),
    "DecisionQualityLow": (
        {
            'decision_quality_score_bucket{tenant="a",le="40.0"}': "0+4x40",
            'decision_quality_score_bucket{tenant="a",le="60.0"}': "0+6x40",
            'decision_quality_score_bucket{tenant="a",le="80.0"}': "0+10x40",
            'decision_quality_score_bucket{tenant="a",le="+Inf"}': "0+10x40",
        },
        {
            'decision_quality_score_bucket{tenant="a",le="40.0"}': "0+4x40",
            'decision_quality_score_bucket{tenant="a",le="60.0"}': "0+5x40",
            'decision_quality_score_bucket{tenant="a",le="80.0"}': "0+10x40",
            'decision_quality_score_bucket{tenant="a",le="+Inf"}': "0+10x40",
        },
    ),
    "SignatureVerificationFailed": (
        {'signature_verification_total{result="failed"}': "0 0 1+1x40"},
        {'signature_verification_total{result="failed"}': "3x40"},
    ),
}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own rule evaluator; a machine without it can't say whether alerts work."""
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus (or the archive from prometheus.io), then run again"
    return found


def firing(promtool: str, folder: Path, alert: str, series: Series, minutes: float) -> bool:
    """Return whether the alert fires after so many minutes of these series."""
    question = {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{minutes * 60:.0f}s",
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"aetheris_{name}", "values": values} for name, values in series.items()],
        "promql_expr_test": [{**question, "exp_samples": []}],
    }
    shutil.copy(RULES, folder / "alerts.yml")
    spec = {"rule_files": ["alerts.yml"], "evaluation_interval": "15s", "tests": [test]}
    (folder / "test.yml").write_text(json.dumps(spec))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "got:" in said, said
    return done.returncode != 0


def for_minutes(alert: str) -> float:
    """How long it must hold before it fires."""
    return float(str(ALERTS[alert]["for"]).removesuffix("m"))


def test_every_alert_has_its_cases_and_every_case_its_alert() -> None:
    """An alert without a test is a hope."""
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_it_should_and_is_silent_when_not(promtool: str, tmp_path: Path, alert: str) -> None:
    """Right at its threshold it is silent, past it it fires."""
    loud, quiet = CASES[alert]
    assert firing(promtool, tmp_path, alert, loud, 35)
    for minutes in (5, 12, 20, 35):
        assert not firing(promtool, tmp_path, alert, quiet, minutes)


@pytest.mark.parametrize(
    "alert", [a for a, (loud, _) in CASES.items() if not any(v.startswith("0+") for v in loud.values())]
)
def test_an_alert_waits_as_long_as_it_says(promtool: str, tmp_path: Path, alert: str) -> None:
    """A moment's trouble wakes nobody: a series that is wrong from the start fires after `for`, and no sooner."""
    began = 2 if any(v.startswith("0 0 ") for v in CASES[alert][0].values()) else 0
    held = began + for_minutes(alert)
    assert not firing(promtool, tmp_path, alert, CASES[alert][0], held - 0.25)
    assert firing(promtool, tmp_path, alert, CASES[alert][0], held + 0.25)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do_and_where_it_is_written(alert: str) -> None:
    """Whoever is woken at night needs the next step, and it must be there."""
    notes = ALERTS[alert]["annotations"]
    page, _, anchor = notes["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {h.lower() for h in headings}
    assert notes["summary"]
    assert notes["description"]
    assert ALERTS[alert]["labels"]["severity"] in ("critical", "warning")


def test_every_series_in_rules_and_dashboard_is_one_that_we_serve() -> None:
    """A rule over a name that nobody writes is silent for ever."""
    served = {f.name for f in metrics.REGISTRY.collect()}
    text = RULES.read_text() + (ROOT / "deploy" / "grafana" / "aetheris.json").read_text()
    used = set(re.findall(r"aetheris_[a-z_]+", text))
    assert used
    assert not {name for name in used if name not in served and re.sub(r"_(bucket|total)$", "", name) not in served}


# For real: what the rule warns of is caused, the system is scraped, and the samples become the rule's series.


@ae.tool
async def alert_tool(fail: bool) -> None:
    """Fails when told to."""
    if fail:
        raise RuntimeError("told to")


@ae.agent
async def alert_agent(ctx: ae.Context, fail: bool) -> None:
    """One call."""
    await ctx.call(alert_tool, fail=fail)


class Slow:
    """One start in six seconds."""

    def find(self, kind: str, name: str) -> Limit | None:
        """As a configuration would."""
        return Limit(qps=1 / 6) if name == "alert_tool" else None


def scrape() -> dict[str, tuple[str, float]]:
    """Every sample of this process as a scrape shows it: series -> (kind, value)."""
    found = {}
    for family in text_string_to_metric_families(exposition.text().decode()):
        for s in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(s.labels.items()))
            found[f"{s.name.removeprefix('aetheris_')}{{{labels}}}"] = family.type, s.value
    return found


def as_series(before: dict[str, tuple[str, float]], after: dict[str, tuple[str, float]]) -> Series:
    """Gauges stay as they were scraped; counters go on by as much a minute as they moved."""
    return {
        name: f"{now:g}x40" if kind == "gauge" else f"0+{now - before.get(name, (kind, 0.0))[1]:g}x40"
        for name, (kind, now) in after.items()
    }


Cause = Callable[[ae.AsyncSystem], Awaitable[None]]


async def backlog(system: ae.AsyncSystem) -> None:
    """101 jobs that nobody serves."""
    await asyncio.gather(*(system.submit(alert_agent, False) for _ in range(101)))


async def stuck(system: ae.AsyncSystem) -> None:
    """A lease that ran out, and nobody takes over."""
    await changed(system, "status = 1, lease_owner = 'gone', lease_until = now() - interval '2 minutes'")


async def parked(system: ae.AsyncSystem) -> None:
    """A job parked for somebody since three hours."""
    await changed(system, "status = 6, wake_at = 'infinity', updated_at = now() - interval '3 hours'")


async def doubled(system: ae.AsyncSystem) -> None:
    """Two live leases on one job."""
    await changed(system, "status = 1, lease_owner = 'a', lease_until = now() + interval '1 minute'")
    async with await system.database.connect("worker") as connection:
        await connection.execute(
            "INSERT INTO aetheris.lease_changes (tenant_id, job_id, epoch, change, worker_id, lease_until)"
            " SELECT tenant_id, job_id, e, 'claimed', 'w', now() + interval '1 minute'"
            " FROM aetheris.jobs, generate_series(1, 2) AS e"
        )


async def changed(system: ae.AsyncSystem, what: str) -> None:
    """Submit one job and set its row so."""
    await system.submit(alert_agent, False)
    async with await system.database.connect("worker") as connection:
        await connection.execute(f"UPDATE aetheris.jobs SET {what}".encode())


async def failing(system: ae.AsyncSystem) -> None:
    """Half of the jobs fail, and half of the tool's calls."""
    await system.start_worker([alert_agent])
    ids = [await system.submit(alert_agent, n % 2 == 0) for n in range(10)]
    await system.wait(ids, seconds=30)


async def waiting(system: ae.AsyncSystem) -> None:
    """Three calls where one may start in six seconds."""
    worker = Worker(system.database, [alert_agent], on_end=system._on_end, limits=Slow())
    system._workers[worker] = asyncio.create_task(worker.run())
    ids = [await system.submit(alert_agent, False) for _ in range(3)]
    await system.wait(ids, seconds=30)


async def in_doubt(system: ae.AsyncSystem) -> None:
    """Twenty calls that a worker was lost in, of a tool whose confirm can't tell."""
    started: list[int] = []

    @ae.tool
    async def alert_doubted() -> None:
        started.append(1)
        await asyncio.sleep(60)

    @alert_doubted.confirm
    async def can_not_tell(call: ae.Call) -> ae.Answer:
        return ae.StillUnknown()

    @ae.agent
    async def alert_doubter(ctx: ae.Context) -> None:
        await ctx.call(alert_doubted)

    settings = ae.Settings(lease_seconds=1, poll_seconds=0.1)
    worker = await system.start_worker([alert_doubter], settings)
    ids = [await system.submit(alert_doubter) for _ in range(20)]
    while len(started) < len(ids):
        await asyncio.sleep(0.02)
    await crash(system, worker)
    await system.start_worker([alert_doubter], ae.Settings(poll_seconds=0.1))
    await system.wait(ids, seconds=30)


async def tampered(system: ae.AsyncSystem) -> None:
    """Ten jobs whose stored line was changed under them."""
    ids = [await system.submit(alert_agent, False) for _ in range(10)]
    assert tamper(system.database, "alert_agent") == len(ids)
    worker = await system.start_worker([alert_agent])
    while worker.counts.ended.get("corrupt", 0) < len(ids):
        await asyncio.sleep(0.02)


async def diverging(system: ae.AsyncSystem) -> None:
    """Twenty jobs whose code was changed under them without a word."""

    def code(name: str) -> ae.Agent:
        @ae.tool(name=name, effect="none")
        async def changing() -> None:
            """Called by one version or the other."""

        @ae.agent(name="alert_changing")
        async def agent(ctx: ae.Context) -> None:
            await ctx.call(changing)
            await ctx.wait_signal("go")

        return agent

    old = await system.start_worker([code("before")])
    ids = [await system.submit(code("before")) for _ in range(20)]
    while not all(row.epoch and row.lease_owner is None for row in await system.listing()):
        await asyncio.sleep(0.02)
    await crash(system, old)
    for job in ids:
        await system.operator.signal(job, "go")
    await system.start_worker([code("after")], ae.Settings(poll_seconds=0.1))
    await system.wait(ids, seconds=30)


async def asked_much(system: ae.AsyncSystem) -> None:
    """Sixty questions out at once, which then cost 1,500 tokens each."""
    hold = threading.Event()

    def answer(asked: Asked) -> Said:
        hold.wait(50)
        return text("Yes.", received=1400, made=100)

    @ae.agent
    async def alert_asker(ctx: ae.Context) -> None:
        await ctx.llm("desk", "Well?")

    with ModelServer(answer) as server:
        model = {"provider": "local", "base_url": server.url, "model": "m"}
        models = Models(Config.model_validate({"models": {"desk": model}}).models)
        worker = Worker(system.database, [alert_asker], on_end=system._on_end, models=models)
        system._workers[worker] = asyncio.create_task(worker.run())
        ids = [await system.submit(alert_asker) for _ in range(60)]
        while len(server.asked) < len(ids):
            await asyncio.sleep(0.02)
        seen.update(scrape())
        hold.set()
        await system.wait(ids, seconds=30)


async def guessing(system: ae.AsyncSystem) -> None:
    """Ten answers that were cut off, upon a call that failed, and then a call that nobody approved."""

    @ae.agent
    async def alert_guesser(ctx: ae.Context) -> None:
        with contextlib.suppress(ae.ToolFailed):
            await ctx.call(alert_tool, fail=True)
        await ctx.llm("desk", "Well?")
        await ctx.call(alert_tool, fail=False)

    with ModelServer(lambda asked: text("Yes, sin", finish="length")) as server:
        model = {"provider": "local", "base_url": server.url, "model": "m"}
        models = Models(Config.model_validate({"models": {"desk": model}}).models)
        worker = Worker(system.database, [alert_guesser], on_end=system._on_end, models=models)
        system._workers[worker] = asyncio.create_task(worker.run())
        await system.wait([await system.submit(alert_guesser) for _ in range(10)], seconds=30)


#: What a scrape in the middle of a cause showed: gauges are low again at its end.
seen: dict[str, tuple[str, float]] = {}


CAUSES: dict[str, tuple[Cause, bool]] = {
    "QueueBacklogHigh": (backlog, True),
    "StuckJobsDetected": (stuck, True),
    "JobParkedTooLong": (parked, True),
    "DuplicateLeaseDetected": (doubled, True),
    "JobFailureRateHigh": (failing, False),
    "ToolErrorRateHigh": (failing, False),
    "RateLimitWaitTooLong": (waiting, False),
    "ConfirmationReplayFailed": (in_doubt, False),
    "AnomalyRateHigh": (tampered, False),
    "ReplayVerifyFailed": (diverging, False),
    "LLMTokenBudgetNearLimit": (asked_much, False),
    "LLMConcurrencyHigh": (asked_much, False),
    "DecisionQualityLow": (guessing, False),
}


@pytest.mark.parametrize("alert", CAUSES)
def test_an_alert_fires_on_what_a_running_system_shows(
    promtool: str, tmp_path: Path, database: Database, alert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From cause to alarm, through a real scrape: a name or label out of step anywhere would leave it silent."""
    cause, sampled = CAUSES[alert]

    @ae.agent
    async def nobody_asks(ctx: ae.Context) -> None:
        """Its worker claims nothing; it looks at the store, as every worker does."""

    real, looked = metrics.store_sampled, asyncio.Event()

    def noted(*given: Any, **named: Any) -> None:
        real(*given, **named)
        looked.set()

    async def work() -> tuple[dict[str, tuple[str, float]], dict[str, tuple[str, float]]]:
        async with ae.AsyncSystem(database=database) as system:
            seen.clear()
            before = scrape()
            await cause(system)
            if seen and alert == "LLMConcurrencyHigh":
                return before, dict(seen)
            if sampled:
                monkeypatch.setattr(metrics, "store_sampled", noted)
                await system.start_worker([nobody_asks], ae.Settings(sample_seconds=0.05))
                await looked.wait()
            return before, scrape()

    before, after = asyncio.run(asyncio.wait_for(work(), 60))
    assert firing(promtool, tmp_path, alert, as_series(before, after), 30)
    calm = {name: "0x40" for name in as_series(before, after)}
    assert not firing(promtool, tmp_path, alert, calm, 30)
