"""Tools: functions that touch the world, with a declared effect.

    effect="none"        reads only; may run again freely
    effect="idempotent"  may run again under the same `call.key`, which the outside must honour
    effect="once"        the default: started at most once per step, whatever dies and whenever

Type hints are the schema: arguments are validated by pydantic before anything
is recorded, and what a tool returns is delivered as it would be read back from
the record, so that a live run and a replay see the same value.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import random
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from aetheris.domain.errors import Refused
from aetheris.runtime.answers import Uncertain
from aetheris.runtime.sensitive import Plan, plan_of_fields, split
from aetheris.runtime.signature import signature_of
from aetheris.runtime.threads import in_thread
from aetheris.runtime.values import Shape, explain

Effect = Literal["none", "idempotent", "once"]
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    """What a tool may know of the call it serves. Take it as the first parameter: `call: ae.Call`."""

    tenant: str
    job: str
    step: int
    attempt: int
    tool: str
    #: The same for every attempt of this step, and for no other: hand it to the outside.
    key: str
    #: The validated arguments, as `confirm` may need them.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: W3C trace context to pass on to whatever the tool calls, or "".
    traceparent: str = ""


#: Names by which well-known clients (httpx, requests, aiohttp, psycopg, ...) call a connection that was lost.
_LOST_CONNECTION = frozenset(
    {
        "TransportError",
        "ConnectionError",
        "Timeout",
        "TimeoutError",
        "TimeoutException",
        "ClientConnectionError",
        "RemoteDisconnected",
        "IncompleteRead",
        "IncompleteReadError",
        "OperationalError",
        "InterfaceError",
    }
)


class ToolFailed(Exception):
    """A tool raised. Raised in the job where it awaits the call, live and in replay alike."""

    def __init__(self, tool: str, kind: str, message: str) -> None:
        super().__init__(f"{tool}: {kind}: {message}")
        self.tool, self.kind, self.message = tool, kind, message


#: What limits, metrics and traces tell apart.
Kind = Literal["tool", "llm"]
RETRY_FIRST_SECONDS = 0.1
RETRY_LONGEST_SECONDS = 30.0


class Tool(Generic[P, R]):
    """A function declared as a tool; calling it directly still calls the function."""

    kind: Kind = "tool"

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None,
        effect: Effect,
        timeout: timedelta | None,
        retries: int,
        unknown_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        if effect not in ("none", "idempotent", "once"):
            raise Refused(f"tool {fn.__name__}: effect {effect!r} is not one of none, idempotent, once")
        if retries < 0 or (retries and effect == "once"):
            raise Refused(f"tool {fn.__name__}: a once tool is never run again by itself; retries must be 0")
        self.fn, self.name, self.effect = fn, name or fn.__name__, effect
        self.timeout_seconds = timeout.total_seconds() if timeout is not None else None
        self.retries = retries
        self.unknown_on = unknown_on
        self.confirmer: Callable[[Call], Awaitable[Any]] | None = None
        self.confirms_replay = False
        self.is_async = inspect.iscoroutinefunction(fn)
        functools.update_wrapper(self, fn)
        signature, hints = signature_of(fn)
        parameters = list(signature.parameters.values())
        self.takes_call = bool(parameters) and hints.get(parameters[0].name) is Call
        self._parameters = parameters[1:] if self.takes_call else parameters
        self._model, self._args_plan = _arguments(self.name, self._parameters, hints)
        self._result = Shape(hints.get("return", Any))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name} effect={self.effect}>"

    @property
    def arguments(self) -> type[BaseModel]:
        """The model that its arguments are validated by."""
        return self._model

    @property
    def budget(self) -> str:
        """Whose limit its calls count against."""
        return self.name

    def lacking(self) -> str:
        """Return what is wanting here before it can be called, or ""."""
        return ""

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Return how many tokens a call is thought to use."""
        return 0

    def used(self, value: Any) -> int:
        """Return how many tokens the call that returned `value` used."""
        return 0

    def start_data(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the line of its start says beside what every start says."""
        return {}

    def end_data(self, value: Any) -> dict[str, Any]:
        """Return what the line of its end says beside what every end says."""
        return {}

    def failure_data(self, error: BaseException) -> dict[str, Any]:
        """Return what the line of a failed attempt says beside what every one says."""
        return {}

    def span_data(self) -> dict[str, Any]:
        """Return what the span of an attempt says of it, by OpenTelemetry's names for generative AI."""
        return {"gen_ai.tool.name": self.name, "gen_ai.tool.type": "function", "aetheris.effect": self.effect}

    def holds(self, error: BaseException) -> float:
        """Return for how many seconds the far side wants no call at all, by what it answered."""
        return 0.0

    def again_after(self, error: BaseException, attempt: int) -> float | None:
        """Return the seconds until the next attempt, or None when this was the last."""
        if attempt > self.retries:
            return None
        # Jitter keeps many jobs that failed together from trying again together; the record holds what was drawn.
        doubled: float = min(RETRY_FIRST_SECONDS * 2 ** (attempt - 1), RETRY_LONGEST_SECONDS)
        return doubled * (1 + random.random() / 2)

    def confirm(self, fn: Callable[[Call], Any] | None = None, /, *, replay: bool = False) -> Any:
        """Declare what tells whether a call took effect: `fn(call)` returns Done, NotDone or StillUnknown.

        It is asked when a call started and its end was not recorded; with
        `replay=True` also before a recorded result is used again. NotDone is a
        promise that this attempt can take no effect any more: fence `call.key`.
        Errors: Refused for a tool whose effect is not `once`.
        """
        if self.effect != "once":
            raise Refused(f"tool {self.name}: only a once tool has doubts to confirm; its effect is {self.effect}")
        if fn is None:
            return functools.partial(self.confirm, replay=replay)
        self.confirmer = fn if inspect.iscoroutinefunction(fn) else _in_thread(fn)
        self.confirms_replay = replay
        return fn

    def uncertain(self, error: BaseException) -> bool:
        """Return whether this error leaves open if the effect happened: a lost connection, a time-out, a cut."""
        if isinstance(error, (Uncertain, ConnectionError, TimeoutError, CancelledError, *self.unknown_on)):
            return True
        return any(kind.__name__ in _LOST_CONNECTION for kind in type(error).__mro__)

    def bind(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
        """Return the validated arguments and their cells. Errors: Refused, naming each bad argument."""
        try:
            model = self._model.model_validate(kwargs)
        except ValidationError as error:
            raise Refused(f"tool {self.name}: {explain(error)}") from None
        arguments = {name: getattr(model, name) for name in self._model.model_fields}
        return arguments, split("args", model.model_dump(mode="json"), self._args_plan)

    async def run(self, call: Call, arguments: dict[str, Any]) -> Any:
        """Call the function, in a thread when it is a plain one."""
        args = (call,) if self.takes_call else ()
        function: Callable[..., Any] = self.fn
        if self.is_async:
            return await function(*args, **arguments)
        return await in_thread(function, *args, **arguments)

    def result_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of what the tool returned. Errors: Refused when it can't be stored as JSON."""
        return self._result.cells("result", value)

    def result_value(self, stored: Any) -> Any:
        """Return a stored result as the declared type."""
        return self._result.read(stored)


@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout: timedelta | None = None,
    retries: int = 0,
    unknown_on: tuple[type[BaseException], ...] = (),
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout: timedelta | None = None,
    retries: int = 0,
    unknown_on: tuple[type[BaseException], ...] = (),
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Declare a function as a tool. Without an effect it is `once`: never silently run again.

    `timeout` bounds one attempt. `retries` is how often an attempt that failed
    is made again (never for `once`), after waits that double. `unknown_on`
    names further errors that leave open whether a `once` effect happened, as
    lost connections and time-outs always do. Errors: Refused for hints that pydantic
    can't use.
    """
    if fn is not None:
        return Tool(fn, name=None, effect="once", timeout=None, retries=0)
    return lambda fn: Tool(fn, name=name, effect=effect, timeout=timeout, retries=retries, unknown_on=unknown_on)


def idempotency_key(tenant: str, job: str, step: int, tool: str) -> str:
    """Return the key of a call: the same for all its attempts, without a trace of its arguments."""
    return hashlib.sha256("\0".join((tenant, job, str(step), tool)).encode()).hexdigest()


def _in_thread(fn: Callable[[Call], Any]) -> Callable[[Call], Awaitable[Any]]:
    async def called(call: Call) -> Any:
        return await in_thread(fn, call)

    return called


def _arguments(
    name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> tuple[type[BaseModel], Plan | None]:
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise Refused(f"tool {name}: parameter {parameter.name} must have a name of its own")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    try:
        model = create_model(
            f"{name}_arguments",
            __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False, protected_namespaces=()),
            **fields,
        )
    except Exception as error:  # noqa: BLE001  pydantic raises many kinds for a hint it can't use
        raise Refused(f"tool {name}: pydantic can't use its parameters ({error})") from None
    return model, plan_of_fields({n: f[0] for n, f in fields.items()})
