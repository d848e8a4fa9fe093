"""Laws of task graphs, whatever their shape and in whatever order results come."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import aetheris as ae
from aetheris.runtime.graphs.check import order
from aetheris.runtime.graphs.model import build
from aetheris.runtime.graphs.run import GraphRun
from aetheris.runtime.graphs.source import of_json, read
from tests.unit.graph_support import FakeContext


@ae.tool
async def do(name: str) -> str:
    """The fake ctx answers in its place."""
    return name


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    """Names with the earlier names that they need, listed in any order."""
    count = draw(st.integers(1, 12))
    needs = {
        f"n{i}": sorted(f"n{j}" for j in draw(st.sets(st.integers(0, i - 1), max_size=4))) if i else []
        for i in range(count)
    }
    return {name: needs[name] for name in draw(st.permutations(list(needs)))}


@settings(max_examples=200, deadline=None)
@given(dags(), st.data())
def test_each_node_runs_once_after_its_needs_and_as_soon_as_they_are_through(
    needs: dict[str, list[str]], data: st.DataObject
) -> None:
    """Once, never before, never later: for any graph and any order of arrival."""
    nodes = {name: {"tool": "do", "with": {"name": name}, "needs": list(n)} for name, n in needs.items()}
    graph = build(of_json({"nodes": nodes}), "graph", "graph")
    ctx, tools = FakeContext(), {"do": do}
    root = ctx.begin(GraphRun(ctx, graph, order(graph), tools).run(None))
    through: set[str] = set()
    while not root.done:
        begun = {said["name"] for _, said in ctx.asked}
        assert begun == {name for name, n in needs.items() if through.issuperset(n)}
        place = data.draw(st.integers(0, len(ctx.waiting) - 1))
        name = ctx.waiting[place][1]["name"]
        ctx.settle(place, name)
        through.add(name)
    assert sorted(said["name"] for _, said in ctx.asked) == sorted(needs)
    needed = {n for ns in needs.values() for n in ns}
    assert root.outcome() == {name: name for name in needs if name not in needed}


@settings(max_examples=200, deadline=None)
@given(dags(), st.data())
def test_the_same_arrivals_begin_the_same_steps_in_the_same_order(
    needs: dict[str, list[str]], data: st.DataObject
) -> None:
    """A replay delivers what the record holds: the code must ask for the same, in the same order."""
    nodes = {name: {"tool": "do", "with": {"name": name}, "needs": list(n)} for name, n in needs.items()}
    graph = build(of_json({"nodes": nodes}), "graph", "graph")
    tools, choices = {"do": do}, data.draw(st.lists(st.integers(0, 11), min_size=12, max_size=12))
    trails = []
    for _ in range(2):
        ctx = FakeContext()
        root = ctx.begin(GraphRun(ctx, graph, order(graph), tools).run(None))
        for choice in choices:
            if not root.done:
                ctx.settle(choice % len(ctx.waiting), "x")
        trails.append(ctx.asked)
    assert trails[0] == trails[1]


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    # A key of more than 1,024 characters, as they are written, is none to a YAML parser.
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=80), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_json_is_read_as_json_says(value: Any) -> None:
    """A graph made by a program as JSON means what the program meant."""
    for text in (json.dumps(value), json.dumps(value, indent="\t")):
        assert read(text.encode(), "x.json").plain == value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_line(text: str) -> None:
    """No parser's error reaches a user."""
    said = ""
    try:
        build(read(text.encode(), "x.yaml"), "x.yaml", "x")
    except ae.Refused as error:
        said = str(error)
    # Nothing so short and random is a graph.
    assert said.startswith("x.yaml")
    assert "\n" not in said
