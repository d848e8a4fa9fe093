"""Models: asked over real HTTP, recorded, retried as the endpoint says, limited by tokens; and agents that loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.cli import doctor
from aetheris.demo.model_server import Answer, Asked, ModelServer, Said, calls, refusal, text
from aetheris.demo.token_run import measure
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import metrics
from aetheris.runtime.config_file import load
from aetheris.runtime.limiter import FLUSH_SECONDS
from aetheris.runtime.record import JobRecord
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, last_value, run, types

KEY = "sk-never-shown-5b1d"
BOOKED: list[str] = []


@ae.tool(effect="none")
async def seats(flight: str) -> int:
    """How many seats are free."""
    return {"AB1": 0, "AB2": 3}[flight]


@ae.tool(name="bank.book")
async def book(call: ae.Call, flight: str, count: int) -> str:
    """Book seats; at most three."""
    if count > 3:
        raise ValueError("at most three")
    BOOKED.append(flight)
    return f"ok {flight} x{count}"


@ae.agent
async def desk(ctx: ae.Context, question: str) -> str:
    """A model picks tools, they run, until it is done."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while True:
        reply = await ctx.llm("desk", system="You book.", messages=messages, tools=[seats, book])
        messages.append(reply.message)
        if not reply.calls:
            return str(reply.text)
        messages += await ctx.answer_calls(reply)


@ae.agent
def plain_desk(ctx: ae.SyncContext, question: str) -> str:
    """The same in a thread."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while (reply := ctx.llm("desk", messages=messages, tools=[seats, book])).calls:
        messages += [reply.message, *ctx.answer_calls(reply)]
    return reply.text


@ae.agent
async def once(ctx: ae.Context, question: str) -> list[Any]:
    """One question."""
    reply = await ctx.llm("desk", question, temperature=0.5, max_output_tokens=7, extra={"seed": 3})
    return [reply.text, reply.model, reply.input_tokens, reply.output_tokens]


AGENTS = [desk, plain_desk, once]


def system_for(database: Database, folder: Path, url: str, more: str = "", limits: str = "") -> ae.AsyncSystem:
    """A system whose configuration names one model at `url`."""
    path = folder / "aetheris.yaml"
    path.write_text(
        f"models:\n  desk:\n    provider: local\n    base_url: {url}\n    model: test-model\n"
        f"    api_key_env: TEST_MODEL_KEY\n{more}{limits}"
    )
    return ae.AsyncSystem(database=database, config=load(path, {}))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", KEY)
    BOOKED.clear()


def job_of(
    database: Database, folder: Path, agent: ae.Agent, value: Any, answer: Answer | Sequence[Said], more: str = ""
) -> tuple[JobRecord, list[Asked]]:
    """Run one job against a server that answers so; return its record and what was asked."""
    found: list[JobRecord] = []
    with ModelServer(answer) as server:

        async def work() -> None:
            async with system_for(database, folder, server.url, more) as system:
                await system.start_worker(AGENTS, FAST)
                found.append(await ended(system, await system.submit(agent, value)))

        run(work)
        return found[0], server.asked


def finished(record: JobRecord) -> list[dict[str, Any]]:
    """What the lines of ended calls say."""
    return [e.data for e in record.events if e.type == "tool_invocation_finished"]


def test_one_question_is_asked_as_configured_and_recorded_in_cells(database: Database, tmp_path: Path) -> None:
    """An auditor finds whom was asked and what it cost in the line, and what was said in cells."""
    record, asked = job_of(database, tmp_path, once, "Am I open at 5?", [text("Yes.", received=31, made=4)])
    assert record.result() == ["Yes.", "test-model-2026", 31, 4]
    body = dict(asked[0].body)
    assert body == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "Am I open at 5?"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 3,
    }
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    start, end = (e for e in record.events if e.step == 1)
    assert (start.type, end.type) == ("tool_invocation_started", "tool_invocation_finished")
    assert start.data["tool_name"] == "llm:desk"
    assert start.data["effect"] == "idempotent"
    assert (start.data["llm_provider"], start.data["llm_model"]) == ("local", "test-model")
    assert asked[0].headers["idempotency-key"] == f"{start.data['idempotency_key']}-1"
    assert (end.data["input_tokens"], end.data["output_tokens"]) == (31, 4)
    assert record.value(start, "args")["messages"] == body["messages"]
    assert record.value(end, "result")["message"]["content"] == "Yes."
    lines = b"".join(record.stored.lines)
    assert b"open at 5" not in lines
    assert b"Yes." not in lines
    everything = lines + b"".join(c.body or b"" for c in record.stored.cells.values())
    assert KEY.encode() not in everything


@pytest.mark.parametrize("agent", [desk, plain_desk], ids=["async def", "def"])
def test_a_model_picks_tools_until_it_is_done(database: Database, tmp_path: Path, agent: ae.Agent) -> None:
    """The loop that every agent is: what it asks for is validated, run once, and told to it."""
    script = [
        calls(("seats", {"flight": "AB1"}), ("seats", {"flight": "AB2"})),
        calls(("bank_book", {"flight": "AB2", "count": "many"}), ("fly", {}), ("bank_book", "{")),
        calls(("bank_book", {"flight": "AB2", "count": 9})),
        calls(("bank_book", {"flight": "AB2", "count": 2})),
        text("Booked AB2."),
    ]
    record, asked = job_of(database, tmp_path, agent, "Book me", script)
    assert record.result() == "Booked AB2."
    assert BOOKED == ["AB2"]
    offered = {t["function"]["name"]: t["function"] for t in asked[0].body["tools"]}
    assert set(offered) == {"seats", "bank_book"}
    assert offered["bank_book"]["description"] == "Book seats; at most three."
    assert set(offered["bank_book"]["parameters"]["properties"]) == {"flight", "count"}  # call is ours, not the model's
    told = [[m["content"] for m in a.body["messages"] if m["role"] == "tool"] for a in asked]
    assert told[1] == ["0", "3"]
    wrong = told[2][2:]
    assert "count: Input should be a valid integer" in wrong[0]
    assert "no such tool; offered were seats, bank_book" in wrong[1]
    assert "not a JSON object" in wrong[2]
    assert "at most three" in told[3][-1]
    assert told[4][-1] == "ok AB2 x2"
    started = [e for e in record.events if e.type == "tool_invocation_started"]
    assert [e.data["tool_name"] for e in started].count("bank.book") == 2  # what didn't validate never started
    assert record.value(started[0], "tools")[0]["function"]["name"] == "seats"

    assert asyncio.run(replay(agent, record)).same


def test_a_replay_finds_another_prompt_but_not_another_docstring(database: Database, tmp_path: Path) -> None:
    """What was asked is compared; how a tool is described may be mended under a job."""
    record, _ = job_of(database, tmp_path, desk, "Book me", [calls(("seats", {"flight": "AB2"})), text("Done.")])

    @ae.tool(name="seats", effect="none")
    async def described_anew(flight: str) -> int:
        """Free seats, said better."""
        return 3

    def agent_of(system: str, *tools: Any) -> ae.Agent:
        @ae.agent(name="desk")
        async def changed(ctx: ae.Context, question: str) -> str:
            messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
            while (reply := await ctx.llm("desk", system=system, messages=messages, tools=tools)).calls:
                messages += [reply.message, *await ctx.answer_calls(reply)]
            return str(reply.text)

        return changed

    assert asyncio.run(replay(agent_of("You book.", described_anew, book), record)).same
    other = asyncio.run(replay(agent_of("You never book.", seats, book), record))
    assert (other.same, other.ended) == (False, "diverged")
    assert "with other arguments" in other.difference
    fewer = asyncio.run(replay(agent_of("You book.", seats), record))
    assert fewer.ended == "diverged"


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
    more = "    retries: 0\n    timeout: 300ms\n"
    record, _ = job_of(database, tmp_path, once, "Well?", lambda a: (time.sleep(1), text("late"))[1], more)
    assert [d["outcome"] for d in finished(record)] == ["timeout"]

    async def work() -> None:
        async with system_for(database, tmp_path, "http://127.0.0.1:1/v1", more) as system:
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
                await system.start_worker(AGENTS, settings)
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


GRAPH = """
nodes:
  ask:
    llm: desk
    with: {prompt: "Is ${input.who} open?", system: Be short., tools: [seats], max_output_tokens: 5}
  tell:
    condition: {if: "${ask.text}", equals: "Yes."}
output: {said: "${ask.text}", made: "${ask.output_tokens}", open: "${tell}"}
"""


def test_a_graph_asks_a_model_through_the_same_call(database: Database, tmp_path: Path) -> None:
    """Nodes of kind llm are calls like any other, and their answers have fields that templates know."""
    path = tmp_path / "ask.yaml"
    path.write_text(GRAPH)
    graph = ae.graph(path, tools=[seats])
    assert graph.asks == ["tool:seats", "llm:desk"]

    async def work() -> None:
        with ModelServer([text("Yes.", made=2)]) as server:
            async with system_for(database, tmp_path, server.url) as system:
                await system.start_worker([graph], FAST)
                record = await ended(system, await system.submit(graph, {"who": "Ana"}))
                assert record.result() == {"said": "Yes.", "made": 2, "open": True}
                body = server.asked[0].body
                assert [m["content"] for m in body["messages"]] == ["Be short.", "Is Ana open?"]
                assert body["tools"][0]["function"]["name"] == "seats"

    run(work)


GRAPH_MISTAKES = {
    "a field that no answer has": ("${ask.txt}", 'has no "txt" (did you mean "text"?)'),
    "no prompt": ("x", "either a prompt or messages"),
    "a tool that is not there": ("x", 'offers "seatz", which is not a tool (did you mean "seats"?)'),
}


@pytest.mark.parametrize("name", GRAPH_MISTAKES)
def test_a_graph_that_asks_wrongly_is_refused_before_its_job(name: str, tmp_path: Path) -> None:
    """With file and line, as for tools."""
    output, said = GRAPH_MISTAKES[name]
    given = {"no prompt": "{system: x}", "a tool that is not there": "{prompt: x, tools: [seatz]}"}
    text_of = (
        f"nodes:\n  ask:\n    llm: desk\n    with: {given.get(name, '{prompt: x}')}\noutput: {json.dumps(output)}\n"
    )
    (tmp_path / "g.yaml").write_text(text_of)
    with pytest.raises(ae.Refused) as refused:
        ae.graph(tmp_path / "g.yaml", tools=[seats])
    assert said in str(refused.value)


def test_tokens_and_calls_under_way_are_seen_by_the_operator(database: Database, tmp_path: Path) -> None:
    """Token counters move by what the endpoint counted; the gauge while a question is out."""

    def value(series: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"aetheris_{series}", labels) or 0.0

    seen: list[float] = []

    def answer(asked: Asked) -> Said:
        seen.append(value("llm_concurrent", provider="local"))
        return refusal(500, "no") if asked.number == 1 else text("Yes.", received=300, made=40)

    before = [value("llm_tokens_total", direction=d) for d in ("input", "output")]
    steps = [value("step_duration_seconds_count", tenant="default", step_type="llm", ok=ok) for ok in ("true", "false")]
    retries = value("step_retries_total", tenant="default", step_type="llm", reason="failure")
    job_of(database, tmp_path, once, "Well?", answer)
    assert seen == [1, 1]
    assert value("llm_concurrent", provider="local") == 0
    assert [value("llm_tokens_total", direction=d) for d in ("input", "output")] == [before[0] + 300, before[1] + 40]
    assert [
        value("step_duration_seconds_count", tenant="default", step_type="llm", ok=ok) for ok in ("true", "false")
    ] == [s + 1 for s in steps]
    assert value("step_retries_total", tenant="default", step_type="llm", reason="failure") == retries + 1
    assert value("rate_limit_wait_seconds_count", type="llm", name="local") >= 2


def test_what_the_protocol_can_not_say_is_refused_where_it_is_written(database: Database, tmp_path: Path) -> None:
    """Before anything is asked or recorded of it."""

    @ae.agent
    async def wrong(ctx: ae.Context, how: str) -> list[str]:
        said = []
        attempts: list[dict[str, Any]] = [
            {"prompt": "x", "messages": [{"role": "user", "content": "x"}]},
            {},
            {"messages": [{"role": "wizard", "content": "x"}]},
            {"prompt": "x", "temprature": 1},
            {"prompt": "x", "temperature": 5},
            {"prompt": "x", "tools": [seats, seats]},
            {"prompt": "x", "tools": ["seats"]},
        ]
        for given in attempts:
            try:
                ctx.llm("desk", **given)
            except ae.Refused as error:
                said.append(str(error))
        return said

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([wrong], FAST)
            said = (await ended(system, await system.submit(wrong, "x"))).result()
            parts = ["either", "either", "role", "temprature", "temperature", "two tools are offered", "is no tool"]
            assert len(said) == len(parts)
            assert all(part in text_of for part, text_of in zip(parts, said, strict=True)), said

    run(work)


def test_fifty_jobs_keep_a_token_budget_by_the_servers_own_count(database: Database) -> None:
    """Ten times the rate over windows of a tenth of a minute; the arithmetic's own test has the full minutes."""
    found = asyncio.run(measure(database, tokens_per_minute=600_000, window_seconds=6, seconds=16))
    assert found.asked > 250
    assert found.most_ratio <= 0.05  # one start is 0.5 %: a busy machine shifts some across a window's edge
    assert found.least_ratio >= -0.3


def test_the_doctor_names_a_model_whose_key_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first job is parked for it."""
    (tmp_path / "key").write_text("sk-file")
    model = "{provider: p, base_url: 'http://x', model: m"
    (tmp_path / "aetheris.yaml").write_text(
        f"models:\n  a: {model}, api_key_env: TEST_MODEL_KEY}}\n  b: {model}, api_key_file: key}}\n"
        f"  c: {model}, api_key_file: nowhere}}\n  d: {model}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIG_PATH", raising=False)
    assert [(f.what, f.state) for f in doctor._models()] == [
        ("llm a", "ok"), ("llm b", "ok"), ("llm c", "look"), ("llm d", "ok"),
    ]  # fmt: skip
    monkeypatch.delenv("TEST_MODEL_KEY")
    assert doctor._models()[0].text == "no key for models.a: TEST_MODEL_KEY is not set: jobs that ask it are parked"
