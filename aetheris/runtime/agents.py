"""Agents: the code of a job, `async def` or `def`, driven by the runtime."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, overload

from pydantic import ValidationError

from aetheris.domain.errors import Refused
from aetheris.runtime.signature import signature_of
from aetheris.runtime.values import Shape, explain


class Agent:
    """A function of (ctx) or (ctx, input) declared as an agent."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None,
        version: str,
        accepts: Sequence[str] = (),
        timeout: timedelta | None = None,
    ) -> None:
        self.fn, self.name, self.version = fn, name or fn.__name__, version
        self.accepts = tuple(accepts)
        self.timeout_seconds = timeout.total_seconds() if timeout is not None else None
        self.is_async = inspect.iscoroutinefunction(fn)
        functools.update_wrapper(self, fn)
        signature, hints = signature_of(fn)
        parameters = list(signature.parameters)
        if not 1 <= len(parameters) <= 2:
            raise Refused(f"agent {self.name}: takes (ctx) or (ctx, input), not {len(parameters)} parameters")
        if not isinstance(version, str) or not version:
            raise Refused(f"agent {self.name}: its version is a text that isn't empty, not {version!r}")
        if isinstance(accepts, str):  # which is a sequence too, of its letters
            raise Refused(f"agent {self.name}: accepts is a list of versions: accepts=[{accepts!r}]")
        if any(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in signature.parameters.values()):
            raise Refused(f"agent {self.name}: takes (ctx) or (ctx, input) by place, not by keyword")
        self.takes_input = len(parameters) == 2
        kind = hints.get(parameters[1], Any) if self.takes_input else type(None)
        self._input = Shape(kind)
        self._result = Shape(hints.get("return", Any))

    def __repr__(self) -> str:
        return f"<agent {self.name} version={self.version}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    @property
    def asks(self) -> Sequence[str]:
        """The capabilities that a worker must have to take up a job of this agent."""
        return ()

    @property
    def offers(self) -> Sequence[str]:
        """The capabilities that a worker has by serving this agent."""
        return ()

    def input_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of a job's input. Errors: Refused, naming each bad field."""
        return self._checked("input", value, "")

    def state_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of a checkpoint's state: what the code starts anew with, in place of its input."""
        return self._checked("state", value, "a checkpoint's state must be what the agent takes: ")

    def input_value(self, stored: Any) -> Any:
        """Return a stored input (or state) as the declared type."""
        return self._input.read(stored)

    def result_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of what the job returned. Errors: Refused when it can't be stored as JSON."""
        return self._result.cells("result", value)

    def result_value(self, stored: Any) -> Any:
        """Return a stored result as the declared type."""
        return self._result.read(stored)

    def _checked(self, name: str, value: Any, what: str) -> list[tuple[str, bytes]]:
        try:
            valid = self._input.check(value)
        except ValidationError as error:
            raise Refused(f"agent {self.name}: {what}{explain(error)}") from None
        return self._input.cells(name, valid)


@overload
def agent(fn: Callable[..., Any], /) -> Agent: ...
@overload
def agent(
    *, name: str | None = None, version: str = "1", accepts: Sequence[str] = (), timeout: timedelta | None = None
) -> Callable[[Callable[..., Any]], Agent]: ...
def agent(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    accepts: Sequence[str] = (),
    timeout: timedelta | None = None,
) -> Agent | Callable[[Callable[..., Any]], Agent]:
    """Declare a function as an agent.

    `version` is recorded with each job. A job that has begun is not touched by
    code of another version, unless `accepts` names the version it began with.
    `timeout` bounds a job of this agent from submission to end.
    """
    if fn is not None:
        return Agent(fn, name=None, version="1")
    return lambda fn: Agent(fn, name=name, version=version, accepts=accepts, timeout=timeout)
