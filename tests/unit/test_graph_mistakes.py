"""Each mistake in a graph is said before its job exists, with file and line, and what to do."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

import aetheris as ae
from aetheris.runtime.graphs.agent import GraphAgent, graph, load
from aetheris.runtime.graphs.check import check, order
from tests.unit.graph_support import FakeContext, graph_of


class Fare(BaseModel):
    """A result with named fields."""

    price_cents: int
    seats: list[str]


class Refund(BaseModel):
    """An argument with fields of its own."""

    booking: str
    amount_cents: Annotated[int, Field(gt=0)]
    note: Annotated[str, ae.Sensitive] = ""


class Cash(BaseModel):
    """One of two ways to pay."""

    kind: Literal["cash"]
    desk: str


class Card(BaseModel):
    """The other."""

    kind: Literal["card"]
    number: str


@ae.tool(effect="none")
async def find_fare(booking: str, day: int = 0) -> Fare:
    """A reading."""
    return Fare(price_cents=1, seats=[booking])


@ae.tool
async def refund(what: Refund) -> str:
    """An effect."""
    return what.booking


@ae.tool
async def settle(by: Cash | Card) -> dict[str, Any]:
    """An effect with an argument of either shape."""
    return {}


TOOLS = {tool.name: tool for tool in (find_fare, refund, settle)}

GOOD = """\
nodes:
  seen:
    tool: find_fare
    with:
      booking: ${input.booking}
  approve:
    approval: Refund ${seen.price_cents} cents?
    role: operator
    expires: 4h
    needs: seen
  pay:
    tool: refund
    with:
      what:
        booking: ${input.booking}
        amount_cents: ${seen.price_cents}
    needs: [approve]
"""


def test_json_and_yaml_are_one_graph() -> None:
    """Programs write JSON; what is stored and run is the same."""
    text = json.dumps(graph_of(GOOD).definition, indent="\t")
    assert graph_of(text, "rebook.json").definition == graph_of(GOOD).definition
    check(graph_of(text, "rebook.json"), TOOLS, FakeContext)


def said(text: str, name: str = "rebook.yaml", ctx: type = FakeContext) -> str:
    """Return what is said of a graph."""
    with pytest.raises(ae.Refused) as caught:
        check(graph_of(text, name), TOOLS, ctx)
    return str(caught.value)


def test_a_graph_without_a_mistake_is_taken() -> None:
    """What the cases below break is sound as it stands."""
    check(graph_of(GOOD), TOOLS, FakeContext)
    assert order(graph_of(GOOD)) == ["seen", "approve", "pay"]


CASES = {
    "an unknown need": (
        ("[approve]", "[aprove]"),
        '17: node "pay" needs "aprove", which is not a node (did you mean "approve"?)',
    ),
    "a need twice": (("[approve]", "[approve, not approve]"), '17: node "pay" needs "approve" twice'),
    "not of what is no gate": (("[approve]", "[not seen]"), '17: node "pay" needs not "seen", which is no approval'),
    "a need that is no name": (("[approve]", "[[approve]]"), '17: node "pay": needs is a list of nodes\' names'),
    "an unknown tool": (
        ("tool: refund", "tool: refnd"),
        '12: node "pay" calls "refnd", which is not a tool (did you mean "refund"?)',
    ),
    "a tool from a template": (("tool: refund", 'tool: "${input.tool}"'), '12: node "pay" must name its tool'),
    "a tool that is a number": (("tool: refund", "tool: 7"), '12: node "pay" must name its tool'),
    "no kind": (("tool: refund", "tol: refund"), '11: node "pay" is nothing: give it one of tool, llm'),
    "two kinds": (("tool: refund", "tool: refund\n    wait: 3s"), '11: node "pay" is tool and wait: give it one'),
    "an unknown key": (
        ("    expires", "    expire"),
        '9: node "approve" (approval) knows no "expire" (did you mean "expires"?)',
    ),
    "an unknown key on top": (("nodes:", "node: x\nnodes:"), '1: a graph knows no "node" (did you mean "nodes"?)'),
    "a missing argument": (
        ("      booking: ${input", "      day: 3 # ${input"),
        '4: node "seen": tool find_fare needs "booking"',
    ),
    "a missing field of an argument": (
        ("        amount_cents: ${seen.price_cents}\n", ""),
        '14: node "pay": tool refund needs "what.amount_cents"',
    ),
    "an unknown argument": (
        ("      booking: ${input.booking}\n  a", "      booking: x\n      dya: 3\n  a"),
        '6: node "seen": tool find_fare takes no "dya" (did you mean "day"?)',
    ),
    "an unknown argument from a template": (
        ("      booking: ${input.booking}\n  a", "      booking: x\n      dya: ${input.day}\n  a"),
        '6: node "seen": tool find_fare takes no "dya" (did you mean "day"?)',
    ),
    "a literal of a wrong type": (
        ("amount_cents: ${seen.price_cents}", "amount_cents: lots"),
        '16: node "pay": tool refund: what.amount_cents: Input should be a valid integer',
    ),
    "a literal out of bounds": (
        ("amount_cents: ${seen.price_cents}", "amount_cents: -3"),
        '16: node "pay": tool refund: what.amount_cents: Input should be greater than 0',
    ),
    "a template of no node": (
        ("amount_cents: ${seen", "amount_cents: ${sen"),
        '16: node "pay": ${sen.price_cents}: sen is neither input nor a node (did you mean "seen"?)',
    ),
    "a template of no field": (
        ("amount_cents: ${seen.price_cents}", "amount_cents: ${seen.price}"),
        '16: node "pay": ${seen.price}: what seen returns has no "price" (did you mean "price_cents"?)',
    ),
    "a template that refers to nothing": (
        ("${seen.price_cents} cents", "${} cents"),
        '7: node "approve": ${} refers to nothing',
    ),
    "a template without an end": (
        ("${seen.price_cents} cents", "${seen cents"),
        '7: node "approve": ${seen cents? has no end',
    ),
    "a template that computes": (
        ("${seen.price_cents} cents", "${seen.price_cents + 1} cents"),
        '7: node "approve": ${seen.price_cents + 1}: " + 1" is not .name',
    ),
    "an item outside a map": (
        ("      booking: ${input.booking}\n  a", "      booking: ${item}\n  a"),
        '5: node "seen": ${item}: only',
    ),
    "a cycle": (
        ("booking: ${input.booking}\n  a", "booking: ${pay}\n  a"),
        'node "seen" waits for itself: seen -> pay -> approve -> seen',
    ),
    "a node that needs itself": (
        ("needs: seen", "needs: approve"),
        '6: node "approve" waits for itself: approve -> approve',
    ),
    "no duration": (("4h", "4 hours"), "9: node \"approve\": '4 hours' is not a duration: write seconds, or 30s"),
    "a duration that is a list": (("4h", "[4]"), '9: node "approve": [4] is not a duration: write seconds'),
    "a duration beyond any float": (("4h", "9" * 400), f'9: node "approve": {"9" * 60}... is not between zero'),
    "a bad name": (("  pay:", "  2pay:"), '11: node "2pay": a name is letters, digits'),
    "a name that is taken": (("  pay:", "  input:"), '11: node "input": a name is letters'),
    "a node twice": (("  pay:", "  seen:"), '11: "seen" stands here a second time'),
    "a node that is a text": (("  pay:\n", "  stop: now\n  pay:\n"), '11: node "stop" is not a mapping'),
    "arguments that are a list": (
        ("    with:\n      booking", "    with:\n      - booking"),
        '4: node "seen": `with` is a mapping',
    ),
    "a question that is no text": (
        ("approval: Refund ${seen.price_cents} cents?", "approval: [1]"),
        '7: node "approve": an approval is the question',
    ),
    "an output of no node": (
        ("nodes:", "output: ${paid}\nnodes:"),
        "1: output: ${paid}: paid is neither input nor a node",
    ),
    "an alias": (("nodes:", "x: &x 1\ny: *x\nnodes:"), "2: an alias (*name): write the value out"),
    "a tag": (
        ("role: operator", "role: !!python/name:os.system x"),
        "8: a tag (tag:yaml.org,2002:python/name:os.system)",
    ),
    "a second document": (("nodes:", "---\n{}\n---\nnodes:"), "3: a second document"),
    "a template bare in braces": (("needs: seen", "x: {y: ${seen}}"), "not YAML: expected"),
    "a tab in the layout": (("    role", "\trole"), "8: not YAML: "),
    "a huge number": (("expires: 4h", "expires: 1e999"), "9: 1e999 is more than a number can hold"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_said_with_file_and_line(case: str) -> None:
    """The author is told where, before anything runs."""
    (old, new), expected = CASES[case]
    assert old in GOOD
    message = said(GOOD.replace(old, new, 1))
    assert re.match(r"rebook\.yaml:\d+: ", message), message
    assert expected in message
    assert "\n" not in message


OTHERS = {
    "empty": ("", "rebook.yaml: it is empty: a graph has nodes"),
    "a text": ("hello", "rebook.yaml:1: a graph is a mapping with `nodes`"),
    "no nodes": ("output: 1", "rebook.yaml:1: `nodes` is empty"),
    "nodes without one": ("nodes:\n", "rebook.yaml:1: `nodes` is empty"),
    "a map without a list": (
        "nodes:\n  a:\n    map: find_fare",
        'rebook.yaml:2: node "a": a map says what it goes over',
    ),
    "a map of too many": (
        'nodes:\n  a:\n    map: find_fare\n    over: "${input}"\n    with: {booking: "${item}"}\n    at_most: 0',
        'rebook.yaml:6: node "a": at_most is how many calls run at once, 1 to 1000',
    ),
    "an item in what a map goes over": (
        'nodes:\n  a:\n    map: find_fare\n    over: "${item}"\n    with: {booking: "${item}"}',
        'rebook.yaml:4: node "a": ${item}: only the `with` of a map has an item',
    ),
    "a wait for a number of signals": (
        "nodes:\n  a:\n    wait: {signal: 3}",
        'rebook.yaml:3: node "a": a wait is a duration, or {signal: KEY}',
    ),
    "a condition without if": (
        "nodes:\n  a:\n    condition: yes",
        'rebook.yaml:3: node "a": a condition is {if: "${...}"}',
    ),
    "a condition on a text": (
        "nodes:\n  a:\n    condition: {if: hello}",
        'rebook.yaml:3: node "a": `if` is one template',
    ),
    "two comparisons": (
        'nodes:\n  a:\n    condition: {if: "${input}", above: 1, below: 3}',
        'rebook.yaml:3: node "a": a condition has `if` and one of equals, not',
    ),
    "a comparison that isn't one": (
        'nodes:\n  a:\n    condition: {if: "${input}", matches: x}',
        'rebook.yaml:3: node "a": a condition has `if` and one of equals, not',
    ),
    "exists with a text": (
        'nodes:\n  a:\n    condition: {if: "${input}", exists: maybe}',
        'rebook.yaml:3: node "a": exists is true or false',
    ),
    "a bad name of its own": ("name: a b\nnodes:\n  a: {wait: 1}", "rebook.yaml:1: name is letters, digits"),
    "half of a pair": ('nodes:\n  a: {approval: "\\ud800"}', "rebook.yaml:2: a text holds half of a surrogate pair"),
    "an int beyond any float": ("nodes: {a: {tool: find_fare, with: {day: " + "9" * 400 + "}}}", "rebook.yaml:1: "),
    "deep": ("[" * 90, "rebook.yaml:1: nested deeper than 64"),
    "long digits": ("nodes: " + "9" * 5000, "rebook.yaml:1: a number of thousands of digits"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_graph_that_is_hardly_one_is_refused(case: str) -> None:
    """Whatever is in the file, the answer is one line."""
    text, expected = OTHERS[case]
    assert said(text).startswith(expected)


def test_of_several_mistakes_the_first_is_said_and_the_rest_counted() -> None:
    """One line, and the author knows whether it was the last."""
    text = GOOD.replace("tool: find_fare", "tool: find").replace("[approve]", "[aprove]")
    assert said(text).startswith('rebook.yaml:3: node "seen" calls "find"')
    assert said(text).endswith("(and 1 more after it)")


def test_kinds_that_ctx_can_not_serve_are_refused() -> None:
    """A node that could never be carried out is no job."""
    text = "nodes:\n  ask:\n    llm: desk\n    with: {prompt: hello}\n"
    check(graph_of(text), TOOLS, FakeContext)
    without = type("Bare", (), {})
    assert said(text, ctx=without) == 'rebook.yaml:2: node "ask" (llm) needs ctx.llm, which this release does not have'
    assert "needs ctx.approval" in said(GOOD, ctx=without)
    assert "needs ctx.wait_signal" in said("nodes: {a: {wait: {signal: x}}}", ctx=without)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ('{kind: cash, desk: "${input.desk}"}', ""),
        ('{kind: card, number: "${input.desk}"}', ""),
        ('"${input}"', ""),
        ("{kind: cash, desk: 3}", "tool settle: by"),
        ("{kind: coin}", "tool settle: by"),
    ],
    ids=["one shape", "the other", "unknown yet", "wrong field", "neither"],
)
def test_an_argument_of_two_shapes_is_checked_as_far_as_it_is_known(by: str, expected: str) -> None:
    """A template must not make the checker refuse what would be sound, nor hide what can't be."""
    text = f"nodes:\n  a:\n    tool: settle\n    with: {{by: {by}}}\n"
    if expected:
        assert expected in said(text)
    else:
        check(graph_of(text), TOOLS, FakeContext)


def test_a_file_that_is_no_graph_is_named(tmp_path: Any) -> None:
    """Missing, of another kind, not text, too long: one line each."""
    with pytest.raises(ae.Refused, match=r"gone\.yaml: no such file or directory; give the file of a graph"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(ae.Refused, match=r"a graph is a file named"):
        load(tmp_path / "graph.toml")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ae.Refused, match=r"a\.yaml: not UTF-8 at byte 0"):
        load(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(ae.Refused, match=r"1,048,577 bytes, more than"):
        load(tmp_path / "b.yaml")
    (tmp_path / "a b.yaml").write_text("nodes: {a: {wait: 1}}")
    with pytest.raises(ae.Refused, match=r"'a b' is no name for a graph: say one in it"):
        load(tmp_path / "a b.yaml")


def test_input_that_a_template_misses_is_said_before_the_job_exists(tmp_path: Any) -> None:
    """Where it is certain to be read; behind a gate the graph may have asked first."""
    path = tmp_path / "rebook.yaml"
    path.write_text(
        "nodes:\n"
        "  seen: {tool: find_fare, with: {booking: '${input.booking}'}}\n"
        "  has: {condition: {if: '${input.day}', exists: true}}\n"
        "  then: {tool: find_fare, with: {booking: x, day: '${input.day}'}, needs: has}\n"
    )
    made = graph(path, [find_fare])
    assert dict(made.input_cells({"booking": "4W"}))
    with pytest.raises(ae.Refused, match=r"\.yaml:2: node \"seen\": \$\{input\.booking\}: input has no"):
        made.input_cells({"day": 3})
    with pytest.raises(ae.Refused, match=r"no input was given"):
        made.input_cells(None)


def test_a_worker_s_graph_agent_has_no_graph_to_submit() -> None:
    """It runs what others submit."""
    with pytest.raises(ae.Refused, match="no graph to submit"):
        GraphAgent([find_fare]).input_cells({})
