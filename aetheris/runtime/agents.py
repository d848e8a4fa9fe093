"""Agents: the code of a job, `async def` or `def`, driven by the runtime."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

from pydantic import TypeAdapter, ValidationError

from aetheris.domain.errors import Refused
from aetheris.runtime.sensitive import plan_of, split
from aetheris.runtime.tools import explain, signature_of


class Agent:
    """A function of (ctx) or (ctx, input) declared as an agent."""

    def __init__(self, fn: Callable[..., Any], *, name: str | None, version: str) -> None:
        self.fn, self.name, self.version = fn, name or fn.__name__, version
        self.is_async = inspect.iscoroutinefunction(fn)
        functools.update_wrapper(self, fn)
        signature, hints = signature_of(fn)
        parameters = list(signature.parameters)
        if not 1 <= len(parameters) <= 2:
            raise Refused(f"agent {self.name}: takes (ctx) or (ctx, input), not {len(parameters)} parameters")
        if not version:
            raise Refused(f"agent {self.name}: its version is empty")
        self.takes_input = len(parameters) == 2
        kind = hints.get(parameters[1], Any) if self.takes_input else type(None)
        self._input, self._input_plan = TypeAdapter[Any](kind), plan_of(kind)
        returns = hints.get("return", Any)
        self._result, self._result_plan = TypeAdapter[Any](returns), plan_of(returns)

    def __repr__(self) -> str:
        return f"<agent {self.name} version={self.version}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def input_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of a job's input. Errors: Refused, naming each bad field."""
        try:
            valid = self._input.validate_python(value)
        except ValidationError as error:
            raise Refused(f"agent {self.name}: {explain(error)}") from None
        return split("input", self._input.dump_python(valid, mode="json"), self._input_plan)

    def state_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of a checkpoint's state: what the code starts anew with, in place of its input."""
        try:
            valid = self._input.validate_python(value)
        except ValidationError as error:
            raise Refused(
                f"agent {self.name}: a checkpoint's state must be what the agent takes: {explain(error)}"
            ) from None
        return split("state", self._input.dump_python(valid, mode="json"), self._input_plan)

    def input_value(self, stored: Any) -> Any:
        """Return a stored input (or state) as the declared type."""
        return self._input.validate_python(stored)

    def result_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of what the job returned. Errors: Refused when it can't be stored as JSON."""
        try:
            return split("result", self._result.dump_python(value, mode="json", warnings="error"), self._result_plan)
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"can't be stored as JSON: {error}") from None

    def result_value(self, stored: Any) -> Any:
        """Return a stored result as the declared type."""
        return self._result.validate_python(stored)


@overload
def agent(fn: Callable[..., Any], /) -> Agent: ...
@overload
def agent(*, name: str | None = None, version: str = "1") -> Callable[[Callable[..., Any]], Agent]: ...
def agent(
    fn: Callable[..., Any] | None = None, /, *, name: str | None = None, version: str = "1"
) -> Agent | Callable[[Callable[..., Any]], Agent]:
    """Declare a function as an agent. `version` is recorded with each job, in its first event."""
    if fn is not None:
        return Agent(fn, name=None, version="1")
    return lambda fn: Agent(fn, name=name, version=version)
