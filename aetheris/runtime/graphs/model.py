"""A graph as nodes, each of one kind, and what is wrong with its shape.

    tool       call a tool            with
    map        a tool for each item   over, with (`${item}`), at_most (10)
    llm        ask a model            with
    approval   ask a person           role, expires
    wait       a time or a signal     (2d, or signal and expires)
    condition  if, and one comparison

`needs` says what a node comes after; what its templates refer to, it needs too.
Approvals, conditions and waits for a signal are gates, open or closed:

    needs: [check]         runs if the gate is open
    needs: [not check]     runs if it is closed
    needs: [after check]   runs whatever came of it, also if it was skipped

A node with a gate the wrong way, or a skipped node, among its needs is skipped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from aetheris.runtime.graphs.condition import mistakes
from aetheris.runtime.graphs.source import Findings, Tree
from aetheris.runtime.graphs.template import NAME, Reference, references

NODES_LIMIT = 1000
AT_MOST = 10
When = Literal["open", "closed", "after"]

#: kind -> what else such a node may say, beside `needs`.
KINDS: dict[str, tuple[str, ...]] = {
    "tool": ("with",),
    "llm": ("with",),
    "approval": ("role", "expires"),
    "wait": (),
    "map": ("over", "with", "at_most"),
    "condition": (),
}
ROOTS = ("input", "item")
_NEED = re.compile(r"(?:(not|after)\s+)?(\S+)")
_WHEN: dict[str | None, When] = {None: "open", "not": "closed", "after": "after"}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Need:
    """What a node comes after, and when it runs then."""

    node: str
    when: When
    line: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `target` is what stands behind its kind; `fields` the rest of what it says."""

    name: str
    kind: str
    line: int
    target: Tree
    fields: dict[str, Tree]
    needs: tuple[Need, ...]
    references: tuple[Reference, ...]

    @property
    def is_gate(self) -> bool:
        """True when what came of it is a yes or a no."""
        return self.kind in ("approval", "condition") or self.waits_for_signal

    @property
    def waits_for_signal(self) -> bool:
        """True for a wait that someone else ends."""
        return self.kind == "wait" and isinstance(self.target.value, dict)

    @property
    def offers(self) -> tuple[str, ...]:
        """The names of the tools that it offers to a model."""
        given = self.fields["with"].value.get("tools") if self.kind == "llm" and "with" in self.fields else None
        return tuple(str(item.value) for item in given.value) if given is not None else ()

    @property
    def tool(self) -> str | None:
        """The name of the tool that it calls, if it calls one."""
        return str(self.target.value) if self.kind in ("tool", "map") else None


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by name in the order of the file; `definition` is the JSON that a job is bound to."""

    name: str
    source: str
    nodes: dict[str, Node]
    output: Tree | None
    tool_modules: tuple[str, ...]
    definition: dict[str, Any]

    @property
    def tools(self) -> list[str]:
        """The names of the tools that it calls, sorted."""
        called = {node.tool for node in self.nodes.values() if node.tool is not None}
        return sorted(called.union(*(node.offers for node in self.nodes.values())))

    @property
    def models(self) -> list[str]:
        """The names of the models that it asks, sorted."""
        return sorted({str(node.target.value) for node in self.nodes.values() if node.kind == "llm"})


def build(tree: Tree, source: str, name: str) -> Graph:
    """Return the graph of a tree; `name` serves where it says none. Errors: Refused for a wrong shape."""
    findings = Findings(source)
    if not isinstance(tree.value, dict):
        findings.add(tree.line, "a graph is a mapping with `nodes`")
        findings.refuse()
    top = tree.value
    _unknown(top, ("name", "nodes", "output", "tools"), "a graph", findings)
    named = _text(top.get("name"), "name", findings) if "name" in top else name
    if not NAME.fullmatch(named):
        findings.add(tree.line, f"{named!r} is no name for a graph: say one in it (name: rebook)")
    nodes: dict[str, Node] = {}
    listed = top.get("nodes")
    if listed is None or not isinstance(listed.value, dict) or not listed.value:
        findings.add(listed.line if listed else tree.line, "`nodes` is empty: a graph has at least one node")
    elif len(listed.value) > NODES_LIMIT:
        findings.add(listed.line, f"{len(listed.value):,} nodes, more than {NODES_LIMIT:,}")
    else:
        made = (_node(key, item, findings) for key, item in listed.value.items())
        nodes = {node.name: node for node in made if node is not None}
    findings.refuse()
    definition = {key: item.plain for key, item in top.items() if key != "tools"} | {"name": named}
    modules = _texts(top.get("tools"), "tools", findings)
    findings.refuse()
    return Graph(named, source, nodes, top.get("output"), modules, definition)


def seconds(value: Any) -> float:
    """Return a duration (`90`, `"4h"`, `"1h30m"`) in seconds. Errors: ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        length: float = value
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value)
        length = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        raise ValueError(f"{_shown(value)} is not a duration: write seconds, or 30s, 15m, 4h, 2d, 1h30m")
    # Compared before it is made a float: an integer may be beyond any.
    if not 0 <= length <= timedelta(days=36_600).total_seconds():
        raise ValueError(f"{_shown(value)} is not between zero and a century")
    return float(length)


def meant(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean "..."?)` where one of `names` is near."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _node(name: str, tree: Tree, findings: Findings) -> Node | None:
    def wrong(line: int, text: str) -> None:
        findings.add(line, f'node "{name}"{text}')

    if not NAME.fullmatch(name) or name in ROOTS:
        wrong(tree.line, ": a name is letters, digits, - and _, begins with a letter, and is not input or item")
        return None
    if not isinstance(tree.value, dict):
        wrong(tree.line, f" is not a mapping: give it one of {', '.join(KINDS)}")
        return None
    kinds = [kind for kind in KINDS if kind in tree.value]
    if len(kinds) != 1:
        near = meant(next(iter(tree.value), ""), KINDS) if not kinds else ""
        wrong(tree.line, f" is {' and '.join(kinds) or 'nothing'}: give it one of {', '.join(KINDS)}{near}")
        return None
    kind = kinds[0]
    _unknown(tree.value, (kind, "needs", *KINDS[kind]), f'node "{name}" ({kind})', findings)
    target = tree.value[kind]
    _SHAPES[kind](target, tree, wrong)
    found = _references(tree, wrong)
    needs = _needs(tree.value.get("needs"), wrong)
    explicit = {need.node for need in needs}
    implied = {
        r.path.root: Need(r.path.root, "open", r.line)
        for r in reversed(found)
        if r.path.root not in ROOTS and r.path.root not in explicit
    }
    fields = {key: item for key, item in tree.value.items() if key not in (kind, "needs")}
    return Node(name, kind, tree.line, target, fields, (*needs, *implied.values()), tuple(found))


Wrong = Callable[[int, str], None]


def _references(tree: Tree, wrong: Wrong) -> list[Reference]:
    try:
        return [r for key, item in tree.value.items() if key != "needs" for r in references(item)]
    except ValueError as error:
        text, line = error.args
        wrong(line, f": {text}")
        return []


def _needs(tree: Tree | None, wrong: Wrong) -> list[Need]:
    if tree is None:
        return []
    needs: list[Need] = []
    for item in tree.value if isinstance(tree.value, list) else [tree]:
        found = _NEED.fullmatch(item.value.strip()) if isinstance(item.value, str) else None
        if found is None:
            wrong(item.line, ": needs is a list of nodes' names, each alone or as `not NAME` or `after NAME`")
        elif any(need.node == found[2] for need in needs):
            wrong(item.line, f' needs "{found[2]}" twice')
        else:
            needs.append(Need(found[2], _WHEN[found[1]], item.line))
    return needs


def _named(target: Tree, node: Tree, wrong: Wrong) -> None:
    if not isinstance(target.value, str) or not target.value or "${" in target.value:
        wrong(target.line, " must name its tool or model by a text without a template: it is checked beforehand")
    given = node.value.get("with")
    if given is not None and not isinstance(given.value, dict):
        wrong(given.line, ": `with` is a mapping of arguments")


def _modelled(target: Tree, node: Tree, wrong: Wrong) -> None:
    _named(target, node, wrong)
    given = node.value.get("with")
    asked = given.value if given is not None and isinstance(given.value, dict) else {}
    if ("prompt" in asked) == ("messages" in asked):
        wrong(node.line, ": `with` holds either a prompt or messages")
    tools = asked.get("tools")
    if tools is not None and not (isinstance(tools.value, list) and all(isinstance(t.value, str) for t in tools.value)):
        wrong(tools.line, ": tools is a list of tools' names, without templates")


def _mapped(target: Tree, node: Tree, wrong: Wrong) -> None:
    _named(target, node, wrong)
    if "over" not in node.value:
        wrong(node.line, ': a map says what it goes over (over: "${input.items}")')
    limit = node.value.get("at_most")
    if limit is not None and (type(limit.value) is not int or not 1 <= limit.value <= 1000):
        wrong(limit.line, ": at_most is how many calls run at once, 1 to 1000")


def _asked(target: Tree, node: Tree, wrong: Wrong) -> None:
    if not isinstance(target.value, str) or not target.value:
        wrong(target.line, ": an approval is the question that a person answers, a text")
    role = node.value.get("role")
    if role is not None and not isinstance(role.value, str):
        wrong(role.line, ": role is a text")
    _duration(node.value.get("expires"), wrong)


def _waited(target: Tree, node: Tree, wrong: Wrong) -> None:
    if not isinstance(target.value, dict):
        _duration(target, wrong)
        return
    signal = target.value.get("signal")
    if set(target.value) - {"signal", "expires"} or signal is None or not isinstance(signal.value, str):
        wrong(target.line, ": a wait is a duration, or {signal: KEY} with or without expires")
    _duration(target.value.get("expires"), wrong)


def _compared(target: Tree, node: Tree, wrong: Wrong) -> None:
    for line, text in mistakes(target):
        wrong(line, text)


def _duration(tree: Tree | None, wrong: Wrong) -> None:
    if tree is None or (isinstance(tree.value, str) and "${" in tree.value):
        return
    try:
        seconds(tree.plain)
    except ValueError as error:
        wrong(tree.line, f": {error}")


_SHAPES: dict[str, Callable[[Tree, Tree, Wrong], None]] = {
    "tool": _named,
    "llm": _modelled,
    "map": _mapped,
    "approval": _asked,
    "wait": _waited,
    "condition": _compared,
}


def _unknown(mapping: dict[str, Tree], known: Iterable[str], what: str, findings: Findings) -> None:
    known = list(known)
    for key, item in mapping.items():
        # A second kind is said where the kinds are counted.
        if key not in known and key not in KINDS:
            findings.add(item.line, f'{what} knows no "{key}"{meant(key, known)}')


def _text(tree: Tree | None, what: str, findings: Findings) -> str:
    if tree is None:
        return ""
    if not isinstance(tree.value, str) or not NAME.fullmatch(tree.value):
        findings.add(tree.line, f"{what} is letters, digits, - and _, beginning with a letter")
        return ""
    return tree.value


def _texts(tree: Tree | None, what: str, findings: Findings) -> tuple[str, ...]:
    if tree is None:
        return ()
    items = tree.value if isinstance(tree.value, list) else [tree]
    if not items or not all(isinstance(item.value, str) and item.value for item in items):
        findings.add(tree.line, f"{what} is a module's name, or a list of them")
        return ()
    return tuple(item.value for item in items)
