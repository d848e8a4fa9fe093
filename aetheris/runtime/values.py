"""From Python values to JSON and back, by type hints: one way for arguments, inputs and results.

A value is stored as JSON and delivered as its declared type, read back from
what was stored, so that a live run and a replay see the same thing. What JSON
can't hold is refused: pydantic alone would write NaN as null and an undeclared
set as a list, which is another value than was said.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from aetheris.domain.errors import Refused
from aetheris.runtime.sensitive import plan_of, split


class Shape:
    """How values of one declared type are stored and read back."""

    def __init__(self, hint: Any) -> None:
        self._declared = hint is not Any
        self._adapter = TypeAdapter[Any](hint)
        self._plan = plan_of(hint)

    def check(self, value: Any) -> Any:
        """Return `value` as the declared type. Errors: pydantic's ValidationError."""
        return self._adapter.validate_python(value)

    def cells(self, name: str, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of `value`, `name` first. Errors: Refused when it can't be stored as JSON."""
        _refuse_infinite(value)
        if not self._declared and not isinstance(value, BaseModel):
            return split(name, value, None)
        try:
            stored = self._adapter.dump_python(value, mode="json", warnings="error")
        except Exception as error:  # noqa: BLE001  a value's own serialiser may raise anything
            raise Refused(f"can't be stored as JSON: {' '.join(str(error).split())}") from None
        return split(name, stored, self._plan)

    def read(self, stored: Any) -> Any:
        """Return what was stored as the declared type. Errors: Refused when the type has changed under it."""
        try:
            return self._adapter.validate_python(stored)
        except ValidationError as error:
            raise Refused(f"what is stored is not of the declared type any more: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Return pydantic's findings as one line, without the values: they may be sensitive."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}"
        for e in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _refuse_infinite(value: Any) -> None:
    kind = type(value)
    if kind is str or kind is int or value is None:
        return
    if kind is float:
        if not math.isfinite(value):
            raise Refused("can't be stored as JSON: NaN or infinity")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_infinite(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _refuse_infinite(item)
    elif isinstance(value, BaseModel):
        _refuse_infinite(vars(value))
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            _refuse_infinite(getattr(value, part.name))
