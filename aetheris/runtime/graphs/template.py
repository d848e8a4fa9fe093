"""`${...}` in a graph: a path into the job's input and earlier results. Nothing is ever evaluated.

    ${input.ticket.seats[0].price}      names, and indexes from 0
    ${input["a key of any spelling"]}   in a mapping
    $${                                 stands for ${ itself

A text that is one template alone becomes the value itself, of any type; among
other text a template must be a text, a number, true or false.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aetheris.runtime.graphs.source import Tree

#: What a node that was skipped left behind: every path into it leads to null.
SKIPPED = object()
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PART = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_KEY = re.compile(r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|\[(?P<index>[0-9]{1,9})\]|\["(?P<key>[^"\\]*)"\]""")


class Missing(Exception):
    """A template leads nowhere; says where the way ends."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a template leads: a root (`input`, `item` or a node) and the way from there."""

    root: str
    keys: tuple[str | int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A template's path and the line that it stands on."""

    path: Path
    line: int


def parse(text: str) -> list[str | Path]:
    """Return the literal parts and paths of `text`, in order. Errors: ValueError, saying what is wrong."""
    parts: list[str | Path] = []
    at = 0
    for found in _PART.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()])
        if found[0] == "$${":
            parts.append("${")
        elif found[1] is None:
            raise ValueError(f"{_shown(text[found.start() :])} has no end: a template is ${{...}}")
        else:
            parts.append(_path(found[1].strip()))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    return parts


def references(tree: Tree) -> Iterator[Reference]:
    """Yield every template in a tree. Errors: ValueError with (text, line) for one that can't be read."""
    if isinstance(tree.value, dict | list):
        for item in tree.value.values() if isinstance(tree.value, dict) else tree.value:
            yield from references(item)
    elif isinstance(tree.value, str) and "${" in tree.value:
        try:
            parts = parse(tree.value)
        except ValueError as error:
            raise ValueError(str(error), tree.line) from None
        yield from (Reference(part, tree.line) for part in parts if isinstance(part, Path))


def is_template(value: Any) -> bool:
    """Return whether a scalar is known only when the graph runs."""
    return isinstance(value, str) and "${" in value and any(isinstance(p, Path) for p in parse(value))


def render(tree: Tree, scope: Mapping[str, Any]) -> Any:
    """Return the value of `tree` with every template filled in. Errors: Missing."""
    if isinstance(tree.value, dict):
        return {key: render(item, scope) for key, item in tree.value.items()}
    if isinstance(tree.value, list):
        return [render(item, scope) for item in tree.value]
    if not isinstance(tree.value, str) or "${" not in tree.value:
        return tree.value
    parts = parse(tree.value)
    if len(parts) == 1 and isinstance(parts[0], Path):
        return reach(parts[0], scope)
    return "".join(part if isinstance(part, str) else _inside(part, reach(part, scope)) for part in parts)


def reach(path: Path, scope: Mapping[str, Any]) -> Any:
    """Return what `path` leads to. Errors: Missing, naming the first part that isn't there."""
    if path.root not in scope:
        raise Missing(f"${{{path.text}}}: there is no {path.root}")
    value, way = scope[path.root], path.root
    if value is SKIPPED:
        return None
    for key in path.keys:
        if isinstance(key, int):
            if not isinstance(value, list):
                raise Missing(f"${{{path.text}}}: {way} is {_kind(value)}, not a list")
            if key >= len(value):
                raise Missing(f"${{{path.text}}}: {way} has {len(value)} items, and none at {key}")
            value, way = value[key], f"{way}[{key}]"
            continue
        if not isinstance(value, dict):
            raise Missing(f"${{{path.text}}}: {way} is {_kind(value)}, it has no {key!r}")
        if key not in value:
            raise Missing(f"${{{path.text}}}: {way} has no {key!r}")
        value, way = value[key], f"{way}.{key}"
    return value


def _path(text: str) -> Path:
    root = NAME.match(text)
    if root is None:
        raise ValueError(f"${{{_shown(text)}}} refers to nothing: it begins with input, item or a node's name")
    keys: list[str | int] = []
    at = root.end()
    while at < len(text):
        found = _KEY.match(text, at)
        if found is None:
            raise ValueError(f'${{{_shown(text)}}}: "{_shown(text[at:])}" is not .name, [0] or ["key"]')
        index = found["index"]
        keys.append(int(index) if index is not None else found["name"] or found["key"] or "")
        at = found.end()
    return Path(root[0], tuple(keys), text)


def _inside(path: Path, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise Missing(f"${{{path.text}}} is {_kind(value)}: it can't stand inside a text")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
