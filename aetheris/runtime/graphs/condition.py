"""Conditions: `if`, one template, and at most one comparison with it.

    condition: {if: "${quote.price_cents}", below: 50000}

Without a comparison the value must itself be true or false. A comparison that
makes no sense (a text below a number) fails the node: it is not simply false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aetheris.runtime.graphs.source import Tree
from aetheris.runtime.graphs.template import Missing, Path, parse, reach, render


def holds(condition: Tree, scope: Mapping[str, Any]) -> bool:
    """Return whether the condition is true. Errors: Missing, ValueError where it can't be decided."""
    asked = condition.value["if"]
    name = next((key for key in condition.value if key != "if"), None)
    if name == "exists":
        return _exists(asked, scope) is condition.value["exists"].value
    value = render(asked, scope)
    if name is None:
        if not isinstance(value, bool):
            raise ValueError(f"{asked.value} is not true or false: compare it ({', '.join(COMPARISONS)})")
        return value
    return COMPARISONS[name](value, render(condition.value[name], scope))


def mistakes(condition: Tree) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) with a condition's shape."""
    body = condition.value
    if not isinstance(body, dict) or "if" not in body:
        yield condition.line, ': a condition is {if: "${...}"} with or without one comparison'
        return
    comparisons = [key for key in body if key != "if"]
    known = [*COMPARISONS, "exists"]
    if len(comparisons) > 1 or not set(comparisons) <= set(known):
        yield condition.line, f": a condition has `if` and one of {', '.join(known)}"
        return
    if not _is_one_path(body["if"].value):
        yield body["if"].line, ': `if` is one template ("${...}") and nothing else'
    if "exists" in body and not isinstance(body["exists"].value, bool):
        yield body["exists"].line, ": exists is true or false"
    if "in" in body and not isinstance(body["in"].value, list | str):
        yield body["in"].line, ": in is a list"


def _is_one_path(value: Any) -> bool:
    try:
        parts = parse(value) if isinstance(value, str) else []
    except ValueError:
        return True  # said where templates are read
    return len(parts) == 1 and isinstance(parts[0], Path)


def _exists(asked: Tree, scope: Mapping[str, Any]) -> bool:
    (path,) = parse(asked.value)
    assert isinstance(path, Path)
    try:
        return reach(path, scope) is not None
    except Missing:
        return False


def _same(a: Any, b: Any) -> bool:
    # In JSON true is not 1, though Python says so.
    return isinstance(a, bool) is isinstance(b, bool) and a == b


def _in(value: Any, of: Any) -> bool:
    if not isinstance(of, list):
        raise ValueError("`in` compares with a list")
    return any(_same(value, item) for item in of)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(a: Any, b: Any) -> bool:
        for value in (a, b):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError("above, below, at_least and at_most compare numbers alone")
        return compare(a, b)

    return compared


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "equals": _same,
    "not": lambda a, b: not _same(a, b),
    "in": _in,
    "above": _ordered(lambda a, b: a > b),
    "below": _ordered(lambda a, b: a < b),
    "at_least": _ordered(lambda a, b: a >= b),
    "at_most": _ordered(lambda a, b: a <= b),
}
