"""How a graph runs: gates, skips, maps, failures; on a fake ctx whose steps the test settles."""

from __future__ import annotations

from typing import Any

import pytest

import aetheris as ae
from aetheris.runtime.graphs.adapter import NodeFailed
from aetheris.runtime.graphs.condition import holds
from aetheris.runtime.graphs.model import seconds
from aetheris.runtime.graphs.source import of_json, read
from aetheris.runtime.graphs.template import Missing, render
from tests.unit.graph_support import Answer, finish, started


@ae.tool
async def do(what: Any) -> Any:
    """An effect; the fake ctx answers in its place."""


def asked(ctx: Any) -> list[Any]:
    """Return what the tool was called with, in order."""
    return [said["what"] for kind, said in ctx.asked if kind == "do"]


GATED = """
nodes:
  ask: {approval: "Pay ${input.cents} cents to ${input.who}?", role: operator, expires: 1h30m}
  yes: {tool: do, with: {what: "paid by ${ask.by}"}, needs: ask}
  no: {tool: do, with: {what: refused}, needs: [not ask]}
  then: {tool: do, with: {what: "${yes}"}, needs: yes}
  told: {tool: do, with: {what: ["${yes}", "${no}", "${ask.approved}"]}, needs: [after yes, after no, after ask]}
"""


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (Answer(True), ["paid by user/ana", "done", ["done", None, True]]),
        (Answer(False), ["refused", [None, "done", False]]),
        (Answer(False, expired=True), ["refused", [None, "done", False]]),
    ],
    ids=["approved", "rejected", "expired"],
)
def test_a_gate_opens_one_way_and_what_stands_behind_the_other_is_skipped(answer: Answer, calls: list[Any]) -> None:
    """Nobody may be paid because a template merely looked at an approval that was refused."""
    ctx, root = started(GATED, do, value={"cents": 4200, "who": "ana"})
    assert ctx.asked == [("approval", ("Pay 4200 cents to ana?", "operator", 5400.0))]
    finish(ctx, root, lambda kind, _: answer if kind == "approval" else "done")
    assert sorted(map(str, asked(ctx))) == sorted(map(str, calls))


def test_a_signal_is_a_gate_whose_payload_is_its_result() -> None:
    """One that doesn't come in time closes it, like an approval that nobody gave."""
    text = """
nodes:
  paid: {wait: {signal: "invoice-${input}", expires: 2d}}
  ship: {tool: do, with: {what: "${paid.amount}"}}
  remind: {tool: do, with: {what: reminder}, needs: not paid}
"""
    ctx, root = started(text, do, value=7)
    assert ctx.asked == [("signal", ("invoice-7", 172800.0))]
    assert finish(ctx, root, lambda kind, _: {"amount": 3} if kind == "signal" else "ok") == {"ship": "ok"}
    ctx, root = started(text, do, value=7)
    ctx.settle(0, error=ae.Expired())
    finish(ctx, root, lambda *_: "ok")
    assert asked(ctx) == ["reminder"]


def test_a_map_keeps_the_order_and_its_bound() -> None:
    """A hundred refunds at once is what at_most prevents."""
    text = 'nodes: {each: {map: do, over: "${input}", with: {what: "no ${item.n}"}, at_most: 2}}'
    ctx, root = started(text, do, value=[{"n": n} for n in range(5)])
    most = 0
    while not root.done:
        most = max(most, len(ctx.waiting))
        said = ctx.waiting[-1][1]["what"]
        ctx.settle(len(ctx.waiting) - 1, said.upper())
    assert most == 2
    assert root.outcome() == {"each": [f"NO {n}" for n in range(5)]}


def test_a_map_over_nothing_is_nothing_and_over_no_list_fails() -> None:
    """An empty list is a list."""
    text = 'nodes: {each: {map: do, over: "${input}", with: {what: "${item}"}}}'
    assert started(text, do, value=[])[1].outcome() == {"each": []}
    with pytest.raises(NodeFailed, match=r'node "each": \$\{input\} is not a list'):
        started(text, do, value="abc")[1].outcome()


def test_after_a_failure_nothing_new_begins_and_calls_under_way_end_first() -> None:
    """What has begun must be recorded; what has not must not begin; nobody waits two days for a failure."""
    text = """
nodes:
  long: {wait: 2d}
  bad: {tool: do, with: {what: bad}}
  slow: {tool: do, with: {what: slow}}
  each: {map: do, over: [1, 2, 3], with: {what: "${item}"}, at_most: 1}
  next: {tool: do, with: {what: next}, needs: slow}
"""
    ctx, root = started(text, do)
    assert [said if kind == "sleep" else said["what"] for kind, said, _ in ctx.waiting] == [172800, "bad", "slow", 1]
    ctx.settle(1, error=ae.ToolFailed("do", "ValueError", "no funds"))
    assert not root.done
    ctx.settle(1, "slow is done")
    ctx.settle(1, "one is done")
    assert root.done
    assert asked(ctx) == ["bad", "slow", 1]
    with pytest.raises(NodeFailed, match='node "bad": do: ValueError: no funds'):
        root.outcome()


def test_a_template_that_leads_nowhere_fails_its_node_in_words() -> None:
    """A tool's free-form result is known only when it is there."""
    ctx, root = started('nodes: {a: {tool: do, with: {what: 1}}, b: {tool: do, with: {what: "${a.x[2]}"}}}', do)
    ctx.settle(0, {"x": [1, 2]})
    with pytest.raises(NodeFailed, match=r'node "b": \$\{a\.x\[2\]\}: a\.x has 2 items, and none at 2'):
        root.outcome()


def test_the_output_is_what_it_says_else_what_the_last_nodes_came_to() -> None:
    """A skipped node's value is null there, and so is everything inside it."""
    text = """
output: {first: "${a}", never: "${c.deep.down}"}
nodes:
  a: {tool: do, with: {what: 1}}
  b: {condition: {if: "${a}", equals: 2}}
  c: {tool: do, with: {what: 3}, needs: b}
"""
    ctx, root = started(text, do)
    assert finish(ctx, root, lambda *_: 1) == {"first": 1, "never": None}
    ctx, root = started(text.replace("output", "#"), do)
    assert finish(ctx, root, lambda *_: 2) == {"c": 2}


def test_a_model_is_asked_through_ctx_alone() -> None:
    """The adapter hands on what the node says; what a model is, ctx knows."""
    ctx, root = started('nodes: {a: {llm: desk, with: {prompt: "Hello ${input}"}}}', do, value="Ana")
    assert ctx.asked == [("llm", ("desk", {"prompt": "Hello Ana"}))]
    assert finish(ctx, root, lambda *_: {"text": "hi"}) == {"a": {"text": "hi"}}


SCOPE = {"input": {"n": 3, "yes": True, "text": "3", "none": None, "list": [1, {"a b": 2}]}}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"if": "${input.n}", "equals": 3}, True),
        ({"if": "${input.n}", "equals": "3"}, False),
        ({"if": "${input.yes}", "equals": 1}, False),
        ({"if": "${input.n}", "not": 4}, True),
        ({"if": "${input.n}", "in": [1, 3]}, True),
        ({"if": "${input.text}", "in": "${input.list}"}, False),
        ({"if": "${input.n}", "above": 3}, False),
        ({"if": "${input.n}", "at_least": 3}, True),
        ({"if": "${input.n}", "below": "${input.list[0]}"}, False),
        ({"if": "${input.n}", "at_most": 3}, True),
        ({"if": "${input.gone}", "exists": True}, False),
        ({"if": "${input.none}", "exists": False}, True),
        ({"if": '${input.list[1]["a b"]}', "exists": True}, True),
        ({"if": "${input.yes}"}, True),
        ({"if": "${input.n}"}, ValueError),
        ({"if": "${input.text}", "above": 2}, ValueError),
        ({"if": "${input.yes}", "above": 0}, ValueError),
        ({"if": "${input.n}", "in": "${input.text}"}, ValueError),
        ({"if": "${input.gone}", "equals": None}, Missing),
    ],
    ids=str,
)
def test_conditions_compare_as_they_read(condition: dict[str, Any], expected: Any) -> None:
    """A comparison without sense is an error, not a no."""
    if isinstance(expected, bool):
        assert holds(of_json(condition), SCOPE) is expected
        return
    with pytest.raises(expected):
        holds(of_json(condition), SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${input.n}", 3),
        ("n=${input.n}, yes=${input.yes}", "n=3, yes=true"),
        ("$${input.n} costs $5 {x}", "${input.n} costs $5 {x}"),
        ("${ input.list[0] }", 1),
        ("${input.text.x}", Missing),
        ("${input[0]}", Missing),
        ("a ${input.list}", Missing),
        ("a ${input.none}", Missing),
    ],
)
def test_a_template_alone_is_the_value_and_among_text_a_text(text: str, expected: Any) -> None:
    """Types survive; what has no one spelling is refused."""
    if expected is not Missing:
        assert render(of_json(text), SCOPE) == expected
        return
    with pytest.raises(Missing):
        render(of_json(text), SCOPE)


def test_yaml_is_read_as_json_reads_its_words() -> None:
    """Norway is no false, a telephone number keeps its zeros, and JSON is taken as it is."""
    assert read(b"{a: no, b: 0049, c: 1.5, d: null, e: true, f: '1', g: 12:30, h: ~}", "x.yaml").plain == {
        "a": "no", "b": "0049", "c": 1.5, "d": None, "e": True, "f": "1", "g": "12:30", "h": None,
    }  # fmt: skip
    given = b'{\t"a":\t["\\ud83d\\ude00\\t", -1e3, "\\/"]}'
    assert read(given, "x.json").plain == {"a": ["\U0001f600\t", -1000.0, "/"]}


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("1h30m", 5400), (7, 7), ("0.5d", 43200), ("250ms", 0.25), (0, 0)]
)
def test_durations_are_what_people_write(text: Any, expected: float) -> None:
    """Seconds, or numbers with units."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "-3s", True, None, -1, "200000d", [1]])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    """Not guessed."""
    with pytest.raises(ValueError, match=r"duration|century"):
        seconds(text)
