"""What a function says of its parameters: the signature of a tool or an agent, its type hints evaluated."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aetheris.domain.errors import Refused


def signature_of(fn: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """Return the signature and the evaluated hints, `Annotated` kept. Errors: Refused."""
    try:
        signature = inspect.signature(fn, eval_str=False)
        inner = inspect.unwrap(fn)
        names = {**getattr(inner, "__globals__", {}), **inspect.getclosurevars(inner).nonlocals}
        hints = {name: eval_hint(hint, names) for name, hint in inspect.get_annotations(inner).items()}
    except (NameError, TypeError, ValueError) as error:
        raise Refused(f"{fn.__qualname__}: its type hints can't be read ({error})") from None
    return signature, hints


def eval_hint(hint: Any, names: dict[str, Any]) -> Any:
    """Return a hint that may be written as a string, evaluated among `names`."""
    if isinstance(hint, str):
        return eval(hint, names)  # noqa: S307  the program's own annotation, as typing.get_type_hints evaluates it
    return type(None) if hint is None else hint
