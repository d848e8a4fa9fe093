"""What can be wrong with a graph before its job exists: order, references, tools, their arguments.

Everything here is found without running anything. What depends on a result
that isn't there yet (a field of a plain dict, an item of a list) is found when
the graph runs, and fails the node in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from aetheris.runtime.context import Context
from aetheris.runtime.graphs.model import Graph, Node, meant
from aetheris.runtime.graphs.shapes import known_fields, schema_of
from aetheris.runtime.graphs.source import Findings, Tree
from aetheris.runtime.graphs.template import Missing, Reference, is_template, reach, references
from aetheris.runtime.tools import Tool

Tools = Mapping[str, Tool[Any, Any]]

#: Stands for a value that a template brings later.
_LATER = object()
#: What a node asks of ctx beyond calls and sleeps.
_ASKS = {"llm": "llm", "approval": "approval"}


def check(graph: Graph, tools: Tools, ctx: type = Context) -> None:
    """Return only if the graph can be carried out with these tools. Errors: Refused, with file and line."""
    findings = Findings(graph.source)
    for node in graph.nodes.values():
        _check_needs(graph, node, findings)
        _check_kind(node, ctx, findings)
        _check_tool(node, tools, findings)
        _check_roots(graph, node, tools, findings)
    _check_output(graph, tools, findings)
    findings.refuse()
    order(graph)


def order(graph: Graph) -> list[str]:
    """Return the nodes, each after its needs. Errors: Refused for a ring, with file and line."""
    left = {name: {need.node for need in node.needs} for name, node in graph.nodes.items()}
    found: list[str] = []
    while left:
        ready = [name for name, needs in left.items() if not needs]
        if not ready:
            ring = _ring(left)
            findings = Findings(graph.source)
            findings.add(graph.nodes[ring[0]].line, f'node "{ring[0]}" waits for itself: {" -> ".join(ring)}')
            findings.refuse()
        found += ready
        left = {name: needs.difference(ready) for name, needs in left.items() if needs}
    return found


def check_input(graph: Graph, value: Any) -> None:
    """Return only if every input that is certain to be read is there. Errors: Refused, with file and line.

    Behind a gate the graph itself may have asked whether it is there.
    """
    findings = Findings(graph.source)
    behind: set[str] = set()
    for name in order(graph):
        node = graph.nodes[name]
        if any(graph.nodes[need.node].is_gate or need.node in behind for need in node.needs):
            behind.add(name)
        elif node.kind != "condition" or "exists" not in node.target.value:
            _check_read(f'node "{name}"', node.references, value, findings)
    findings.refuse()


def _check_read(what: str, found: tuple[Reference, ...], value: Any, findings: Findings) -> None:
    for reference in found:
        if reference.path.root != "input":
            continue
        try:
            reach(reference.path, {"input": value})
        except Missing as error:
            given = "; no input was given" if value is None else ""
            findings.add(reference.line, f"{what}: {error}{given}")


def _check_needs(graph: Graph, node: Node, findings: Findings) -> None:
    for need in node.needs:
        other = graph.nodes.get(need.node)
        if other is None:
            if any(r.path.root == need.node for r in node.references) and need.when == "open":
                continue  # said of the template
            hint = meant(need.node, graph.nodes)
            findings.add(need.line, f'node "{node.name}" needs "{need.node}", which is not a node{hint}')
        elif need.when == "closed" and not other.is_gate:
            findings.add(
                need.line,
                f'node "{node.name}" needs not "{need.node}", which is no approval, condition or wait for a signal',
            )


def _check_kind(node: Node, ctx: type, findings: Findings) -> None:
    asks = "wait_signal" if node.waits_for_signal else _ASKS.get(node.kind)
    if asks is not None and not hasattr(ctx, asks):
        findings.add(node.line, f'node "{node.name}" ({node.kind}) needs ctx.{asks}, which this release does not have')


def _check_roots(graph: Graph, node: Node, tools: Tools, findings: Findings) -> None:
    allowed = ("input", "item") if node.kind == "map" else ("input",)
    over = set(references(node.fields["over"])) if "over" in node.fields else set()
    for reference in node.references:
        what = f'node "{node.name}"'
        if reference.path.root == "item" and (reference in over or "item" not in allowed):
            findings.add(reference.line, f"{what}: ${{{reference.path.text}}}: only the `with` of a map has an item")
        else:
            _check_reference(graph, what, reference, tools, findings)


def _check_output(graph: Graph, tools: Tools, findings: Findings) -> None:
    if graph.output is None:
        return
    try:
        found = list(references(graph.output))
    except ValueError as error:
        findings.add(error.args[1], f"output: {error.args[0]}")
        return
    for reference in found:
        _check_reference(graph, "output", reference, tools, findings)


def _check_reference(graph: Graph, what: str, reference: Reference, tools: Tools, findings: Findings) -> None:
    path = reference.path
    if path.root in ("input", "item") and not (what == "output" and path.root == "item"):
        return
    node = graph.nodes.get(path.root)
    if node is None:
        hint = meant(path.root, [*graph.nodes, "input"])
        findings.add(reference.line, f"{what}: ${{{path.text}}}: {path.root} is neither input nor a node{hint}")
        return
    schema = schema_of(node, tools)
    for key in path.keys:
        fields = known_fields(schema, key)
        if fields is None:
            return
        if key not in fields:
            there = ", ".join(sorted(fields)) or "no fields"
            hint = meant(str(key), fields)
            findings.add(
                reference.line,
                f'{what}: ${{{path.text}}}: what {path.root} returns has no "{key}"{hint}; it has {there}',
            )
            return
        schema = fields[str(key)]


def _check_tool(node: Node, tools: Tools, findings: Findings) -> None:
    for name in node.offers:
        if name not in tools:
            hint = meant(name, tools)
            findings.add(node.line, f'node "{node.name}" offers "{name}", which is not a tool{hint}')
    if node.tool is None:
        return
    tool = tools.get(node.tool)
    if tool is None:
        hint = meant(node.tool, tools) or (f"; there are {', '.join(sorted(tools))}" if tools else "; no tools given")
        findings.add(node.target.line, f'node "{node.name}" calls "{node.tool}", which is not a tool{hint}')
        return
    given = node.fields.get("with") or Tree({}, node.line)
    for line, text in _mistakes(tool.arguments, given):
        findings.add(line, f'node "{node.name}": tool {tool.name}{text}')


def _mistakes(model: type[BaseModel], given: Tree) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) with the arguments, as far as they are known beforehand."""
    try:
        model.model_validate(_beforehand(given))
        return
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
    except Exception:  # noqa: BLE001  a validator of the tool's own met a value that isn't there yet
        return
    for found in errors:
        loc = found["loc"]
        if found["input"] is _LATER and found["type"] != "extra_forbidden":
            continue
        place, walked = _place(given, loc)
        absent = found["type"] == "missing"
        if walked < len(loc) - absent and _has_template(place):
            continue  # one of several types; which one is known when the template is filled in
        name = ".".join(map(str, loc))
        if absent:
            yield place.line, f' needs "{name}"'
        elif found["type"] == "extra_forbidden":
            yield place.line, f' takes no "{name}"{meant(name, model.model_fields)}'
        else:
            yield place.line, f": {name}: {found['msg']}"


def _beforehand(tree: Tree) -> Any:
    if isinstance(tree.value, dict):
        return {key: _beforehand(item) for key, item in tree.value.items()}
    if isinstance(tree.value, list):
        return [_beforehand(item) for item in tree.value]
    if is_template(tree.value):
        return _LATER
    return tree.value.replace("$${", "${") if isinstance(tree.value, str) else tree.value


def _has_template(tree: Tree) -> bool:
    return next(references(tree), None) is not None


def _place(tree: Tree, loc: tuple[int | str, ...]) -> tuple[Tree, int]:
    """Return the part of the tree that `loc` leads to, and how many of its parts could be followed."""
    for count, part in enumerate(loc):
        inside = tree.value
        if isinstance(inside, dict) and part in inside:
            tree = inside[str(part)]
        elif isinstance(inside, list) and isinstance(part, int) and part < len(inside):
            tree = inside[part]
        else:
            return tree, count
    return tree, len(loc)


def _ring(left: dict[str, set[str]]) -> list[str]:
    way = [next(iter(left))]
    while True:
        step = min(name for name in left[way[-1]] if name in left)
        if step in way:
            return [*way[way.index(step) :], step]
        way.append(step)
