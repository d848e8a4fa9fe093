"""Models: asked over real HTTP, recorded, limited by tokens, asked by graphs; and agents that loop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.cli import doctor
from aetheris.demo.model_server import Asked, ModelServer, Said, calls, refusal, text
from aetheris.demo.token_run import measure
from aetheris.runtime import metrics
from aetheris.runtime.config_file import load
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, ended, run
from tests.store.llm_support import (
    BOOKED,
    KEY,
    book,
    desk,
    job_of,
    model_key,  # noqa: F401  for every test of this module
    once,
    plain_desk,
    seats,
    system_for,
)


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
    models = load().config.models
    assert [(f.what, f.state) for f in doctor._models(models)] == [
        ("llm a", "ok"), ("llm b", "ok"), ("llm c", "look"), ("llm d", "ok"),
    ]  # fmt: skip
    monkeypatch.delenv("TEST_MODEL_KEY")
    first = doctor._models(models)[0].text
    assert first == "no key for models.a: TEST_MODEL_KEY is not set: jobs that ask it are parked"
