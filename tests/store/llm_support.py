"""What tests of models share: agents that ask one, and a system whose configuration names it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.demo.model_server import Answer, Asked, ModelServer, Said
from aetheris.runtime.config_file import load
from aetheris.runtime.record import JobRecord
from aetheris.store.database import Database
from tests.store.job_support import FAST, ended, run

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
def model_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that the configuration names; nothing booked. For every test of a module that imports it."""
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
