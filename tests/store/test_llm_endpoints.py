"""A model's endpoint that is busy, refuses, is away or slow; a worker that lacks the model, dies or drains."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import aetheris as ae
from aetheris.demo.model_server import Asked, ModelServer, Said, refusal, text
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.config import Model
from aetheris.runtime.limiter import FLUSH_SECONDS
from aetheris.runtime.llm.model import _stored
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, last_value, run, types
from tests.store.llm_support import (
    AGENTS,
    KEY,
    finished,
    job_of,
    model_key,  # noqa: F401  for every test of this module
    once,
    system_for,
)


def test_a_busy_endpoint_is_asked_again_when_it_says_and_not_before(database: Database, tmp_path: Path) -> None:
    """Retry-After is honoured, and stands on the record as what was waited."""
    script = [refusal(429, "slow down", retry_after="1"), refusal(503, "down"), Said(b"<html>", 200), text("At last.")]
    record, asked = job_of(database, tmp_path, once, "Well?", script)
    assert record.result()[0] == "At last."
    assert len(asked) == 4
    assert asked[1].at - asked[0].at >= 1.0
    assert asked[2].at - asked[1].at >= 0.5
    said = finished(record)
    assert [(d["attempt"], d["outcome"], d.get("http_status")) for d in said] == [
        (1, "failure", 429), (2, "failure", 503), (3, "failure", 200), (4, "success", None),
    ]  # fmt: skip
    assert said[0]["retry_after_us"] >= 1_000_000
    assert "retry_after_us" in said[1]
    assert {a.headers["idempotency-key"][-2:] for a in asked} == {"-1", "-2", "-3", "-4"}
    errors = [record.value(e, "error") for e in record.events if e.data.get("outcome") == "failure"]
    assert [e["kind"] for e in errors] == ["ModelBusy", "ModelDown", "ModelDown"]
    assert "slow down" in errors[0]["message"]


@pytest.mark.parametrize("limit", ["requests_per_minute: 6000", "tokens_per_minute: 6000000", "max_concurrent: 5"])
def test_a_busy_endpoint_is_asked_by_nobody_before_it_says(database: Database, tmp_path: Path, limit: str) -> None:
    """Retry-After is said to whoever has the key: another job on another worker waits, too, under any limit."""
    limits = f"rate_limits:\n  llm:\n    local: {{{limit}}}\n"

    async def work() -> None:
        with ModelServer([refusal(429, "slow down", retry_after="1.5"), *[text("Yes.")] * 2]) as server:
            async with system_for(database, tmp_path, server.url, limits=limits) as system:
                worker = await system.start_worker(AGENTS, FAST)
                first = await system.submit(once, "Well?")
                while "tool_invocation_finished" not in types(await system.record(first)):
                    await asyncio.sleep(0.02)
                await asyncio.sleep(2 * FLUSH_SECONDS)
                second = await system.submit(once, "And you?")
                await system.start_worker(AGENTS, FAST)
                worker.stop()
                for job in (first, second):
                    assert (await ended(system, job)).result()[0] == "Yes."
            assert len(server.asked) == 3
            assert min(a.at for a in server.asked[1:]) - server.asked[0].at >= 1.5

    run(work)


def test_what_is_refused_is_asked_once_and_its_key_is_taken_out(database: Database, tmp_path: Path) -> None:
    """A wrong key is not wrong less often; and an endpoint that repeats it must not put it on record."""
    record, asked = job_of(database, tmp_path, once, "Well?", lambda a: refusal(401, f"bad key {KEY}"))
    assert record.row.status is JobStatus.FAILED
    assert len(asked) == 1
    error = last_value(record, "error")
    assert error["kind"] == "ToolFailed"
    assert "answers 401: bad key ***" in error["message"]
    assert finished(record)[0]["http_status"] == 401


def test_an_endpoint_that_never_recovers_fails_the_job_after_its_retries(database: Database, tmp_path: Path) -> None:
    """Patience ends where it is configured to."""
    record, asked = job_of(database, tmp_path, once, "Well?", lambda a: refusal(500, "no"), "    retries: 1\n")
    assert record.row.status is JobStatus.FAILED
    assert len(asked) == 2


def test_an_endpoint_that_is_not_there_or_too_slow_is_said(database: Database, tmp_path: Path) -> None:
    """A dead address and a hanging one end as failures with words."""
    hangs, dead = ("    retries: 0\n    timeout: " + timeout + "\n" for timeout in ("300ms", "30s"))
    record, _ = job_of(database, tmp_path, once, "Well?", lambda a: (time.sleep(1), text("late"))[1], hangs)
    assert [d["outcome"] for d in finished(record)] == ["timeout"]

    async def work() -> None:
        async with system_for(database, tmp_path, "http://127.0.0.1:1/v1", dead) as system:
            await system.start_worker(AGENTS, FAST)
            found = await ended(system, await system.submit(once, "Well?"))
            assert "http://127.0.0.1:1/v1/chat/completions: ConnectError" in last_value(found, "error")["message"]

    run(work)


def test_a_worker_without_the_model_parks_the_job_and_says_what_it_lacks(database: Database, tmp_path: Path) -> None:
    """Nothing is lost because one worker is set up wrongly: another takes the job up, or this one restarted."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker(AGENTS, FAST)
            job = await system.submit(once, "Well?")
            record = await at_rest(system, job)
            assert record.row.status is JobStatus.PARKED
            reason = record.events[-1].data["reason"]
            assert "no model 'desk' is configured here; name it under models: in aetheris.yaml" in reason
            assert types(record) == ["job_created", "job_parked"]
            await crash(system, worker)
        with ModelServer([text("Now.")]) as server:
            async with system_for(database, tmp_path, server.url) as system:
                async with await database.connect("worker") as connection:
                    await connection.execute("UPDATE aetheris.jobs SET wake_at = now()")
                await system.start_worker(AGENTS, FAST)
                assert (await ended(system, job)).result()[0] == "Now."

    run(work)


def test_a_missing_key_parks_and_names_the_variable(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to set, never what it is set to."""
    monkeypatch.delenv("TEST_MODEL_KEY")

    async def work() -> None:
        async with system_for(database, tmp_path, "http://127.0.0.1:1/v1") as system:
            await system.start_worker(AGENTS, FAST)
            record = await at_rest(system, await system.submit(once, "Well?"))
            assert "no key for models.desk: TEST_MODEL_KEY is not set" in record.events[-1].data["reason"]

    run(work)


def test_a_question_whose_answer_was_lost_is_asked_again_under_the_same_key(database: Database, tmp_path: Path) -> None:
    """The effect is idempotent: the question is on record before it is asked, and asked anew after a crash."""

    async def work() -> None:
        first: list[int] = []

        def answer(asked: Asked) -> Said:
            first.append(1)
            time.sleep(30 if len(first) == 1 else 0)
            return text("Again.")

        with ModelServer(answer) as server:
            async with system_for(database, tmp_path, server.url) as system:
                settings = ae.Settings(poll_seconds=0.1, lease_seconds=1)
                worker = await system.start_worker(AGENTS, settings)
                job = await system.submit(once, "Well?")
                while not server.asked:
                    await asyncio.sleep(0.02)
                record = await system.record(job)
                assert types(record) == ["job_created", "tool_invocation_started"]
                await crash(system, worker)
                await system.start_worker(AGENTS, FAST)
                record = await ended(system, job)
                assert record.result()[0] == "Again."
                assert types(record).count("tool_invocation_started") == 1
                keys = {a.headers["idempotency-key"] for a in server.asked}
                assert (len(server.asked), len(keys)) == (2, 1)

    run(work)


def test_a_draining_worker_does_not_sit_out_the_patience_of_an_endpoint(database: Database, tmp_path: Path) -> None:
    """When the next attempt is due is on record: another worker keeps to it."""

    async def work() -> None:
        script = [refusal(429, "slow down", retry_after="4"), text("Yes.")]
        with ModelServer(script) as server:
            async with system_for(database, tmp_path, server.url) as system:
                first = await system.start_worker(AGENTS, FAST)
                job = await system.submit(once, "Well?")
                while "tool_invocation_finished" not in types(await system.record(job)):
                    await asyncio.sleep(0.02)
                began = time.monotonic()
                first.stop()
                await system._workers.pop(first)
                assert time.monotonic() - began < 3  # of the four
                await system.start_worker(AGENTS, FAST)
                record = await ended(system, job)
                assert record.result()[0] == "Yes."
                assert server.asked[1].at - server.asked[0].at >= 4.0
                assert [e.epoch for e in record.events if e.type == "tool_invocation_started"] == [1, 2]

    run(work)


@pytest.mark.parametrize("said", [10**8 + 1, 2**60, -1, "7", None])
def test_a_count_of_tokens_that_makes_no_sense_is_not_believed(said: object) -> None:
    """It would close the provider's budget for years, in all workers, or be no number that a line may hold."""
    keys = Model(provider="acme", base_url="http://127.0.0.1:1/v1", model="m")
    usage = {"prompt_tokens": 31, "completion_tokens": said}
    stored = _stored({"choices": [{"message": {"content": "x" * 400}}], "usage": usage}, {}, keys)
    assert stored.input_tokens == 31
    assert 100 <= stored.output_tokens <= 110
