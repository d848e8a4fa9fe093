"""Which parts of a value are cells of their own, read once from the type hints.

`Annotated[T, ae.Sensitive]` on a field or parameter marks it. `plan_of` turns a
type into a plan; `split` applies it: the value with references in place of
what is sensitive, and the cells taken out. A plan of None means that nothing
inside is sensitive, and costs nothing per value.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from aetheris.domain.cells import child_name, escape, escape_key, reference
from aetheris.domain.encode import body_bytes


class Sensitive:
    """Marks a field as a cell of its own: `Annotated[str, Sensitive]`."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The value itself is sensitive."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Some of an object's fields have plans."""

    plans: dict[str, Plan]


@dataclass(frozen=True, slots=True)
class Each:
    """Every item of a list, or every value of a mapping, has the plan."""

    plan: Plan


Plan = Whole | Fields | Each


def plan_of(hint: Any) -> Plan | None:
    """Return the plan for values of type `hint`, or None when nothing in it is sensitive."""
    return _plan(hint, ())


def plan_of_fields(hints: dict[str, Any]) -> Plan | None:
    """Return the plan for an object with these named parts."""
    return _fields(hints, ())


def split(name: str, value: Any, plan: Plan | None) -> list[tuple[str, bytes]]:
    """Return the cells of `value` (JSON): (`name`, body) first, then its sensitive parts.

    Errors: Refused when the value can't be stored as JSON.
    """
    if plan is None:
        return [(name, _body(value))]
    taken: list[tuple[str, bytes]] = []
    rest = _take(value, plan, (), name, taken)
    return [(name, body_bytes(rest)), *taken]


def _body(value: Any) -> bytes:
    body = body_bytes(value)
    # Only a value that could be read as a reference needs the slow way.
    return body_bytes(escape(value)) if b'$cell"' in body else body


def _take(value: Any, plan: Plan | None, path: tuple[str, ...], name: str, taken: list[tuple[str, bytes]]) -> Any:
    if plan is None:
        return escape(value)
    if isinstance(plan, Whole):
        child = child_name(name, *path)
        taken.append((child, _body(value)))
        return reference(child)
    if isinstance(plan, Fields) and isinstance(value, dict):
        return escape_key({k: _take(v, plan.plans.get(k), (*path, k), name, taken) for k, v in value.items()})
    if isinstance(plan, Each) and isinstance(value, dict):
        return escape_key({k: _take(v, plan.plan, (*path, k), name, taken) for k, v in value.items()})
    if isinstance(plan, Each) and isinstance(value, list):
        return [_take(v, plan.plan, (*path, str(i)), name, taken) for i, v in enumerate(value)]
    return escape(value)


def _plan(hint: Any, above: tuple[type, ...]) -> Plan | None:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if any(mark is Sensitive or isinstance(mark, Sensitive) for mark in args[1:]):
            return Whole()
        return _plan(args[0], above)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        if hint in above:
            return None
        hints = typing.get_type_hints(hint, include_extras=True)
        return _fields({n: hints[n] for n in hint.model_fields}, (*above, hint))
    if origin in (list, tuple, set, frozenset, dict):
        inner = _merge([_plan(arg, above) for arg in (args[1:] if origin is dict else args)])
        return None if inner is None else Each(inner)
    return _merge([_plan(arg, above) for arg in args])


def _fields(hints: dict[str, Any], above: tuple[type, ...]) -> Plan | None:
    plans = {name: plan for name, hint in hints.items() if (plan := _plan(hint, above)) is not None}
    return Fields(plans) if plans else None


def _merge(plans: list[Plan | None]) -> Plan | None:
    found = [plan for plan in plans if plan is not None]
    if len(found) < 2:
        return found[0] if found else None
    if all(isinstance(plan, Fields) for plan in found):
        names = {name for plan in found if isinstance(plan, Fields) for name in plan.plans}
        parts = {n: _merge([p.plans.get(n) for p in found if isinstance(p, Fields)]) for n in names}
        return Fields({n: p for n, p in parts.items() if p is not None})
    # Alternatives of different shapes: hide the whole rather than miss a part.
    return Whole()
