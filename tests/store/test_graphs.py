"""Task graphs over a real PostgreSQL: from file to result, through crashes, to the right workers only."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import pytest
from pydantic import BaseModel

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.graphs.agent import GraphAgent
from aetheris.runtime.graphs.check import check
from aetheris.store.database import Database
from tests.store.job_support import crash, run
from tests.unit.graph_support import FakeContext, graph_of

ROOT = Path(__file__).parents[2]
EFFECTS: list[str] = []
HELD: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _clean() -> None:
    EFFECTS.clear()
    HELD.clear()


@ae.tool
async def pay(what: str) -> dict[str, str]:
    """An effect that is counted."""
    EFFECTS.append(what)
    return {"paid": what}


@ae.tool(effect="none")
async def look(what: str) -> str:
    """A reading; waits while someone holds it."""
    EFFECTS.append(f"look {what}")
    if what in HELD:
        await HELD[what].wait()
    return what


@ae.tool
async def rare() -> str:
    """A tool that only some workers have."""
    EFFECTS.append("rare")
    return "rare"


CHAIN = """
nodes:
  first: {tool: pay, with: {what: "first ${input.n}"}}
  side: {map: pay, over: ["a", "b"], with: {what: "side ${item} ${input.n}"}}
  seen: {tool: look, with: {what: "${first.paid}"}}
  rest: {wait: 2.5, needs: seen}
  last: {tool: pay, with: {what: "last ${seen}"}, needs: [rest, side]}
"""


def written(folder: Path, text: str, *tools: ae.Tool[Any, Any], name: str = "chain.yaml") -> GraphAgent:
    """Return the graph in a file with this text."""
    (folder / name).write_text(text)
    return ae.graph(folder / name, tools)


async def until(ready: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    """Return once it is so."""
    while True:
        found = ready()
        if (await found) if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.02)


def test_a_graph_runs_to_its_result_and_leaves_a_record_like_any_job(database: Database, tmp_path: Path) -> None:
    """Auditors see calls and ledger rows, whoever wrote the job."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            made = written(tmp_path, CHAIN, pay, look)
            await system.start_worker([made], ae.Settings(poll_seconds=0.1))
            job = await system.submit(made, {"n": 1})
            await system.wait([job], seconds=30)
            record = await system.record(job)
            assert record.row.status is JobStatus.COMPLETED, record.value(record.events[-1], "error")
            assert record.result() == {"last": {"paid": "last first 1"}}
            assert EFFECTS.index("look first 1") < EFFECTS.index("last first 1")
            assert sorted(EFFECTS) == ["first 1", "last first 1", "look first 1", "side a 1", "side b 1"]
            assert len([t for t in record.ledger if t.status == "started"]) == 4

    run(work)


def test_a_graph_goes_on_node_by_node_where_its_worker_was_lost(database: Database, tmp_path: Path) -> None:
    """What is through is not done again; the definition that goes on is the one that was submitted."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            HELD["first 1"] = asyncio.Event()
            made = written(tmp_path, CHAIN, pay, look)
            worker = await system.start_worker([made], ae.Settings(lease_seconds=1))
            job = await system.submit(made, {"n": 1})
            await until(lambda: "look first 1" in EFFECTS and len(EFFECTS) == 4)

            async def through() -> bool:
                return len([t for t in (await system.record(job)).ledger if t.status == "committed"]) == 3

            await until(through)  # the ends of what is through ride a commit of their own
            await crash(system, worker)
            HELD.clear()
            (tmp_path / "chain.yaml").write_text("nodes: {other: {tool: pay, with: {what: other}}}")

            worker = await system.start_worker(
                [GraphAgent([pay, look])], ae.Settings(lease_seconds=30, poll_seconds=0.1)
            )

            async def resting() -> bool:
                return (await system.find(job)).status is JobStatus.WAITING

            await until(resting)
            await crash(system, worker)
            await system.start_worker([GraphAgent([look, rare, pay])], ae.Settings(poll_seconds=0.1))
            await system.wait([job], seconds=30)
            record = await system.record(job)
            assert record.row.status is JobStatus.COMPLETED, record.events[-1]
            assert record.result() == {"last": {"paid": "last first 1"}}
            assert EFFECTS.count("look first 1") == 2
            assert sorted(set(EFFECTS)) == ["first 1", "last first 1", "look first 1", "side a 1", "side b 1"]
            assert len(EFFECTS) == 6
            assert record.row.epoch == 3

    run(work)


def test_only_a_worker_with_all_its_tools_takes_a_graph_up(database: Database, tmp_path: Path) -> None:
    """A worker that lacks one would fail the job; it must not even claim it."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            made = written(tmp_path, "nodes: {a: {tool: rare}, b: {tool: pay, with: {what: x}}}", pay, rare)
            await system.start_worker([GraphAgent([pay])], ae.Settings(poll_seconds=0.05))
            assert not await system.served(made)
            job = await system.submit(made)
            await asyncio.sleep(0.4)
            assert (await system.find(job)).status is JobStatus.PENDING
            await system.start_worker([made], ae.Settings(poll_seconds=0.05))
            assert await system.served(made)
            assert (await system.wait([job], seconds=20))[job] is JobStatus.COMPLETED

    run(work)


def test_a_tool_that_changed_since_fails_its_node_and_no_other(database: Database, tmp_path: Path) -> None:
    """What was sound when submitted is not judged anew half way: only a call that can't be made fails."""

    @ae.tool(name="look", effect="none")
    async def other(where: str) -> str:
        return where

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            text = """
nodes:
  a: {tool: pay, with: {what: x}}
  asked: {condition: {if: "${input}", equals: yes please}}
  b: {tool: look, with: {what: x}, needs: [asked, a]}
"""
            made = written(tmp_path, text, pay, look)
            jobs = [await system.submit(made, value) for value in ("no", "yes please")]
            await system.start_worker([GraphAgent([pay, other])])
            await system.wait(jobs, seconds=20)
            calm, failed = [await system.record(job) for job in jobs]
            assert calm.row.status is JobStatus.COMPLETED, calm.value(calm.events[-1], "error")
            assert 'node "b": tool look: where: Field required' in failed.value(failed.events[-1], "error")["message"]
            assert EFFECTS == ["x", "x"]

    run(work)


def test_a_node_that_fails_fails_the_job_and_names_itself(database: Database, tmp_path: Path) -> None:
    """Whoever looks at the job learns which node it was."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            made = written(
                tmp_path,
                'nodes: {a: {tool: pay, with: {what: x}}, b: {tool: look, with: {what: "${a.gone}"}}}',
                pay,
                look,
            )
            await system.start_worker([made])
            job = await system.submit(made)
            await system.wait([job], seconds=20)
            record = await system.record(job)
            error = record.value(record.events[-1], "error")
            assert record.row.status is JobStatus.FAILED
            assert error["kind"] == "NodeFailed"
            assert error["message"] == "node \"b\": ${a.gone}: a has no 'gone'"

    run(work)


def test_two_graphs_of_one_script_find_their_tools(database: Database, tmp_path: Path) -> None:
    """`job.wait()` runs a worker where none has the tools, though one for other graphs is there."""
    one = written(tmp_path, "nodes: {a: {tool: pay, with: {what: x}}}", pay, name="one.yaml")
    two = written(tmp_path, "nodes: {a: {tool: rare}}", rare, name="two.yaml")
    with ae.open(database.admin_dsn) as system:
        assert system.submit(one).wait(20).result == {"a": {"paid": "x"}}
        assert system.submit(two).wait(20).result == {"a": "rare"}


def aetheris(folder: Path, database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`."""
    env = {**os.environ, "AETHERIS_DSN": database.admin_dsn, "WORLD": str(folder / "world"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "aetheris", *arguments]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


GREET = """\
tools: tests.store.graph_tools
nodes:
  long: {tool: length, with: {text: "${input.name}"}}
  hello: {tool: mark, with: {what: "hello ${input.name} (${long})"}}
"""


def test_the_command_line_submits_a_graph_and_runs_it(database: Database, tmp_path: Path) -> None:
    """`aetheris submit greet.yaml -i who.json --wait`, and the same key twice is one job."""
    (tmp_path / "greet.yaml").write_text(GREET)
    (tmp_path / "who.json").write_text('{"name": "Ana"}')
    for _ in range(2):
        done = aetheris(tmp_path, database, "submit", "greet.yaml", "-i", "who.json", "--key", "k", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["result"] == {"hello": {"marked": "hello Ana (3)"}}
    assert (tmp_path / "world").read_text() == "hello Ana (3)\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("what:", "waht:"), 'greet.yaml:4: node "hello": tool mark needs "what" (and 1 more after it)'),
        (("input.name} (", "input.nmae} ("), "greet.yaml:4: node \"hello\": ${input.nmae}: input has no 'nmae'"),
        (
            ("tools: tests.store.graph_tools", ""),
            'greet.yaml:3: node "long" calls "length", which is not a tool; no tools',
        ),
        (("graph_tools", "no_tools"), "no module 'tests.store.no_tools' here or installed"),
    ],
    ids=["argument", "input", "no tools", "no module"],
)
def test_a_graph_that_is_wrong_is_no_job(
    database: Database, tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    """One line, exit 2, nothing written."""
    (tmp_path / "greet.yaml").write_text(GREET.replace(*change))
    (tmp_path / "who.json").write_text('{"name": "Ana"}')
    done = aetheris(tmp_path, database, "submit", "greet.yaml", "-i", "who.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(aetheris(tmp_path, database, "jobs", "--json").stdout) == []


def test_a_worker_serves_nothing_only_by_mistake(database: Database, tmp_path: Path) -> None:
    """Neither agents nor tools: say so instead of waiting for ever."""
    done = aetheris(tmp_path, database, "worker")
    assert done.returncode == 2
    assert "nothing to serve" in done.stderr
    done = aetheris(tmp_path, database, "worker", "--tools", "tests.store.test_embedded")
    assert "declares no tool" in done.stderr


def test_the_definition_is_bound_to_the_job_by_its_input_s_commitment(database: Database, tmp_path: Path) -> None:
    """The first event commits to what runs; its line holds nothing that could be guessed."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            made = written(tmp_path, CHAIN, pay, look)
            record = await system.record(await system.submit(made, {"n": 1}))
            stored = orjson.loads(record.stored.cells[1, "input"].body or b"")
            assert stored == {"graph": made.graph.definition if made.graph else {}, "input": {"n": 1}}
            assert "input" in record.events[0].cells
            assert record.row.agent == "graph"

    run(work)


class Ticket(BaseModel):
    """An input with a secret in it."""

    booking: str
    iban: Annotated[str, ae.Sensitive]


def test_what_an_input_s_model_marks_sensitive_is_a_cell_of_its_own(database: Database, tmp_path: Path) -> None:
    """It can be erased alone, and the graph reads it like any field."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            made = written(tmp_path, 'nodes: {a: {tool: pay, with: {what: "to ${input.iban}"}}}', pay)
            await system.start_worker([made])
            job = await system.submit(made, Ticket(booking="4W", iban="DE-secret"))
            await system.wait([job], seconds=20)
            record = await system.record(job)
            assert record.result() == {"a": {"paid": "to DE-secret"}}
            assert {"input", "input/input/iban"} == record.events[0].cells.keys()
            assert b"secret" not in (record.stored.cells[1, "input"].body or b"")

    run(work)


@pytest.mark.parametrize("value", [{"n": float("nan")}, {"n": {1, 2}}], ids=["nan", "set"])
def test_an_input_that_is_no_json_is_no_job(database: Database, tmp_path: Path, value: Any) -> None:
    """Nothing is silently changed into something that can be stored."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            with pytest.raises(ae.Refused, match="can't be stored as JSON"):
                await system.submit(written(tmp_path, "nodes: {a: {tool: rare}}", rare), value)
            assert await system.listing() == []

    run(work)


@ae.tool(effect="none")
async def find_fare(booking: str) -> dict[str, int]:
    """As in the manual."""
    return {"price_cents": len(booking)}


@ae.tool
async def refund(amount_cents: int, booking: str = "") -> dict[str, str]:
    """As in the manual."""
    return {"receipt": booking}


@ae.tool
async def send_mail(to: str, text: str) -> None:
    """As in the manual."""


def test_the_graphs_in_manual_and_help_are_sound() -> None:
    """What is shown to be pasted must work when pasted."""
    from aetheris.cli.submit import submit

    tools = {tool.name: tool for tool in (find_fare, refund, send_mail)}
    manual = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "graphs.md").read_text(), re.DOTALL)
    assert len(manual) == 1
    shown = (submit.help or "").partition("A graph:  ")[2]
    text = "\n".join(line.removeprefix("          ") for line in f"          {shown}".splitlines())
    for found in (*manual, text):
        check(graph_of(found), tools, FakeContext)
