"""Each metric moves for the right reason: a real worker does what it counts, and it moves by that much."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.errors import Unusable
from aetheris.domain.limits import Limit
from aetheris.runtime import exposition, metrics
from aetheris.runtime.worker import Worker
from aetheris.store import gauges
from aetheris.store.database import Database
from tests.store import job_support

TRIES: list[int] = []
RELEASE: list[asyncio.Event] = []


def value(series: str, /, **labels: str) -> float:
    """What a scrape would show now; 0 where there is no such series yet."""
    return metrics.REGISTRY.get_sample_value(f"aetheris_{series}", labels) or 0.0


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body with nothing left of the one before."""
    TRIES.clear()
    RELEASE.clear()
    job_support.run(work)


@ae.tool
async def m_pay(n: int) -> int:
    """Succeeds."""
    return n


@ae.tool(effect="idempotent", retries=1)
async def m_flaky() -> str:
    """Fails the first time."""
    TRIES.append(1)
    if len(TRIES) == 1:
        raise RuntimeError("first time")
    return "done"


@ae.tool(effect="none", timeout=timedelta(seconds=0.05))
async def m_slow() -> None:
    """Never answers in time."""
    await asyncio.sleep(5)


@ae.tool
async def m_hold() -> None:
    """Goes on when told."""
    TRIES.append(1)
    await RELEASE[0].wait()


@ae.agent
async def m_agent(ctx: ae.Context, what: str) -> None:
    """Does what it is told."""
    match what:
        case "pay":
            await ctx.call(m_pay, n=1)
        case "flaky":
            await ctx.call(m_flaky)
        case "slow":
            await ctx.call(m_slow)
        case "hold":
            await ctx.call(m_hold)
        case "rest":
            await ctx.call(m_pay, n=1)
            await ctx.sleep(1.2)


class One:
    """One limit, on m_pay."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit

    def find(self, kind: str, name: str) -> Limit | None:
        """As a configuration would."""
        return self.limit if name == "m_pay" else None


async def does(system: ae.AsyncSystem, what: str) -> None:
    """Run one job to its end."""
    await system.wait([await system.submit(m_agent, what)], seconds=20)


SETTINGS = ae.Settings(poll_seconds=0.1, sample_seconds=0.1)


def test_a_job_that_completes_is_counted_once_with_its_time_and_its_call(database: Database) -> None:
    """The counters an operator looks at first."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([m_agent], SETTINGS)
            before = {
                "jobs": value("jobs_total", tenant="default", status="completed"),
                "latency": value("job_latency_seconds_count", tenant="default", status="completed"),
                "duration": value("job_duration_seconds_count", agent_id="m_agent"),
                "calls": value("tool_invocations_total", tenant="default", tool="m_pay", mode="execute"),
                "tool": value("tool_duration_seconds_count", tool="m_pay"),
                "steps": value("step_duration_seconds_count", tenant="default", step_type="tool", ok="true"),
                "leases": value("lease_acquire_total", tenant="default", ok="true"),
                "waits": value("rate_limit_wait_seconds_count", type="tool", name="m_pay"),
                "zero": value("rate_limit_wait_seconds_bucket", type="tool", name="m_pay", le="0.001"),
            }
            await does(system, "pay")
            after = {
                "jobs": value("jobs_total", tenant="default", status="completed"),
                "latency": value("job_latency_seconds_count", tenant="default", status="completed"),
                "duration": value("job_duration_seconds_count", agent_id="m_agent"),
                "calls": value("tool_invocations_total", tenant="default", tool="m_pay", mode="execute"),
                "tool": value("tool_duration_seconds_count", tool="m_pay"),
                "steps": value("step_duration_seconds_count", tenant="default", step_type="tool", ok="true"),
                "leases": value("lease_acquire_total", tenant="default", ok="true"),
                "waits": value("rate_limit_wait_seconds_count", type="tool", name="m_pay"),
                "zero": value("rate_limit_wait_seconds_bucket", type="tool", name="m_pay", le="0.001"),
            }
            assert {k: after[k] - before[k] for k in before} == dict.fromkeys(before, 1.0)

    run(work)


def test_a_retry_counts_an_error_and_a_success(database: Database) -> None:
    """An error rate is errors over calls: both must be of attempts."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([m_agent], SETTINGS)
            before = value("step_retries_total", tenant="default", step_type="tool", reason="failure")
            await does(system, "flaky")
            assert value("tool_errors_total", tenant="default", tool="m_flaky", mode="execute") == 1
            assert value("tool_invocations_total", tenant="default", tool="m_flaky", mode="execute") == 2
            assert value("step_retries_total", tenant="default", step_type="tool", reason="failure") == before + 1

    run(work)


def test_a_tool_without_an_answer_counts_a_timeout_and_a_failed_job(database: Database) -> None:
    """The job fails because the tool did not answer: three counters say so."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([m_agent], SETTINGS)
            timeouts = value("step_timeout_total", tenant="default")
            failed = value("jobs_total", tenant="default", status="failed"), value("job_fail_total", status="failed")
            await does(system, "slow")
            assert value("step_timeout_total", tenant="default") == timeouts + 1
            assert value("jobs_total", tenant="default", status="failed") == failed[0] + 1
            assert value("job_fail_total", status="failed") == failed[1] + 1

    run(work)


def test_a_result_from_the_record_is_counted_as_restored(database: Database) -> None:
    """A replay calls no tool."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([m_agent], SETTINGS)
            restored = value("tool_invocations_total", tenant="default", tool="m_pay", mode="restore")
            executed = value("tool_invocations_total", tenant="default", tool="m_pay", mode="execute")
            await does(system, "rest")
            assert value("tool_invocations_total", tenant="default", tool="m_pay", mode="restore") == restored + 1
            assert value("tool_invocations_total", tenant="default", tool="m_pay", mode="execute") == executed + 1

    run(work)


def test_what_is_in_hand_and_in_the_store_shows_while_it_is_there(database: Database) -> None:
    """Gauges say now: they rise, and fall again."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            RELEASE.append(asyncio.Event())
            worker = await system.start_worker(
                [m_agent], ae.Settings(concurrency=2, poll_seconds=0.1, sample_seconds=0.1)
            )
            jobs = [await system.submit(m_agent, "hold") for _ in range(5)]
            await until(lambda: value("tool_concurrent", tool="m_hold") == 2)
            await until(lambda: value("queue_backlog", queue="pending") == 3)
            assert value("worker_busy", worker_id=worker.name) == 2
            assert value("worker_slots", worker_id=worker.name) == 2
            await until(lambda: value("job_state", state="running") == 2)
            assert value("live_leases_most") == 1
            RELEASE[0].set()
            await system.wait(jobs, seconds=20)
            await until(lambda: value("job_state", state="completed") == 5)
            assert value("queue_backlog", queue="pending") == 0
            assert value("tool_concurrent", tool="m_hold") == 0
            await until(lambda: value("worker_busy", worker_id=worker.name) == 0)

    run(work)


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own limit ends it otherwise."""
    while not holds():
        await asyncio.sleep(0.02)


def test_a_wait_is_observed_as_long_as_it_was_and_a_refusal_counted(database: Database) -> None:
    """The wait for a limit is what an operator tunes by."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            limits = One(Limit(qps=2, max_wait_seconds=0.7))
            worker = Worker(database, [m_agent], SETTINGS, on_end=system._on_end, limits=limits)
            seconds = value("rate_limit_wait_seconds_sum", type="tool", name="m_pay")
            refused = value("rate_limit_rejections_total", type="tool", name="m_pay")
            ids = await asyncio.gather(*(system.submit(m_agent, "pay") for _ in range(3)))
            system._workers[worker] = asyncio.create_task(worker.run())  # all three ask at once
            await system.wait(ids, seconds=20)
            waited = value("rate_limit_wait_seconds_sum", type="tool", name="m_pay") - seconds
            on_record = [e.data.get("waited_us", 0) for job in ids for e in (await system.record(job)).events]
            assert waited > 0.35
            assert waited == pytest.approx(sum(on_record) / 1e6, abs=0.1)
            assert value("rate_limit_rejections_total", type="tool", name="m_pay") == refused + 1

    run(work)


def test_a_stale_append_is_counted_as_a_lease_conflict(database: Database) -> None:
    """Another holder took over while this one was at work."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            RELEASE.append(asyncio.Event())
            await system.start_worker([m_agent], SETTINGS)
            before = value("lease_conflict_total", tenant="default")
            await system.submit(m_agent, "hold")
            await until(lambda: len(TRIES) == 1)
            async with await database.connect("worker") as connection:
                await connection.execute(
                    "UPDATE aetheris.jobs SET lease_epoch = lease_epoch + 1, lease_owner = 'other'"
                )
            RELEASE[0].set()
            await until(lambda: value("lease_conflict_total", tenant="default") == before + 1)

    run(work)


def test_the_store_is_sampled_for_what_may_be_wrong(database: Database) -> None:
    """Two live leases on one job, a stuck job, one parked long: each is caused here and each is seen."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            jobs = [await system.submit(m_agent, "pay") for _ in range(3)]
            async with await database.connect("worker") as connection:
                claim = (
                    "UPDATE aetheris.jobs SET status = 1, lease_owner = 'w', lease_until = now() + %s::interval"
                    " WHERE job_id = %s"
                )
                await connection.execute(claim, ["1 minute", jobs[0]])
                await connection.execute(claim, ["-1 minute", jobs[1]])
                for epoch in (1, 2):
                    await connection.execute(
                        "INSERT INTO aetheris.lease_changes (tenant_id, job_id, epoch, change, worker_id, lease_until)"
                        " VALUES ('default', %s, %s, 'claimed', 'w', now() + interval '1 minute')",
                        [jobs[0], epoch],
                    )
                await connection.execute(
                    "UPDATE aetheris.jobs SET status = 6, wake_at = 'infinity', updated_at = now() - interval '3 hours'"
                    " WHERE job_id = %s",
                    [jobs[2]],
                )
                now = await gauges.sample(connection)
            assert (now.live_leases, now.stuck, now.backlog) == (2, 1, 0)
            assert 10_800 <= now.parked_seconds < 10_900
            assert (now.states["running"], now.states["parked"], now.states["failed"]) == (2, 1, 0)

    run(work)


def test_a_signature_that_was_checked_is_counted_by_its_result() -> None:
    """Names and labels are what the alert is written against; whoever verifies calls this."""
    for ok, result in ((True, "success"), (False, "failed")):
        before = value("signature_verification_total", result=result)
        metrics.signature_checked(ok=ok)
        assert value("signature_verification_total", result=result) == before + 1


def test_a_scrape_shows_what_was_counted_and_a_taken_port_is_said() -> None:
    """The port is the worker's own: two on one machine need two."""
    server, thread = exposition.serve(0)
    try:
        metrics.signature_checked(ok=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert 'aetheris_signature_verification_total{result="success"}' in text
        with pytest.raises(Unusable, match=r"metrics: can't listen on .* by --metrics-port or monitoring\.prometheus"):
            exposition.serve(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_several_processes_are_served_as_one(tmp_path: Path) -> None:
    """PROMETHEUS_MULTIPROC_DIR: whichever process answers the scrape, it shows the sum."""
    code = "from aetheris.runtime import metrics as m; m.lease_conflict('acme'); m.rate_limit_waited('tool', 'x', 0)"
    env: dict[str, Any] = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
    show = "from aetheris.runtime import exposition; print(exposition.text().decode())"
    said = subprocess.run([sys.executable, "-c", show], env=env, check=True, capture_output=True, text=True).stdout
    assert 'aetheris_lease_conflict_total{tenant="acme"} 3.0' in said
    assert 'aetheris_rate_limit_wait_seconds_count{name="x",type="tool"} 3.0' in said
