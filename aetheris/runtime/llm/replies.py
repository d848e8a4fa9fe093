"""What a model is offered and what it answers: tools as definitions, calls read back and validated.

A tool's pydantic schema is its definition. A call in an answer is untrusted
text: its name and arguments are checked before anything is run, and what is
wrong with it is said, so that it can be told to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, PrivateAttr
from pydantic_core import to_jsonable_python

from aetheris.domain.errors import Refused
from aetheris.runtime.tools import Tool

_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
#: What the protocol allows a tool's name to be.
NAME_LIMIT = 64


class Stored(BaseModel):
    """An answer as it is recorded: the assistant's message to the letter, and what it cost."""

    message: dict[str, Any]
    finish_reason: str
    model: str
    input_tokens: int
    output_tokens: int
    #: The mean probability of the answer's tokens in millionths, where the endpoint was asked for logprobs.
    confidence_ppm: int | None = None


class AskedCall(BaseModel):
    """A call that a model asks for. `error` says what is wrong with it, or is empty; then `ctx.call` takes it."""

    id: str
    name: str
    arguments: dict[str, Any]
    error: str = ""
    _tool: Tool[Any, Any] | None = PrivateAttr(None)

    @property
    def tool(self) -> Tool[Any, Any]:
        """The tool that it names. Errors: Refused when it names none, or its arguments don't validate."""
        if self._tool is None or self.error:
            raise Refused(f"the model's call of {self.name!r:.80} can't be run: {self.error}")
        return self._tool

    def answered(self, result: Any) -> dict[str, Any]:
        """Return the message that tells the model what came of it; an exception is told as an error."""
        if isinstance(result, BaseException):
            result = {"error": str(result)}
        plain = to_jsonable_python(result, by_alias=False)
        content = plain if isinstance(plain, str) else orjson.dumps(plain).decode()
        return {"role": "tool", "tool_call_id": self.id, "content": content}


class Reply(BaseModel):
    """What a model answered. `message` is to be appended to the messages of the next turn."""

    text: str
    calls: list[AskedCall]
    finish_reason: str
    model: str
    input_tokens: int
    output_tokens: int
    message: dict[str, Any]


def reply_of(stored: Stored, tools: Sequence[Tool[Any, Any]]) -> Reply:
    """Return a recorded answer with its calls validated against these tools."""
    message = stored.message
    asked = message.get("tool_calls")
    return Reply(
        text=_text(message.get("content")),
        calls=[_asked(call, tools) for call in (asked if isinstance(asked, list) else [])],
        finish_reason=stored.finish_reason,
        model=stored.model,
        input_tokens=stored.input_tokens,
        output_tokens=stored.output_tokens,
        message=message,
    )


def definitions(tools: Sequence[Tool[Any, Any]]) -> list[dict[str, Any]]:
    """Return the tools as the protocol offers them. Errors: Refused when two would go by one name."""
    found: dict[str, dict[str, Any]] = {}
    for tool in tools:
        if not isinstance(tool, Tool):
            raise Refused(f"{tool!r:.80} is no tool: offer what @aetheris.tool declared")
        name = offered_name(tool)
        if name in found:
            raise Refused(f"two tools are offered to the model as {name}: give one of them name=...")
        function = {"name": name, "description": (tool.fn.__doc__ or "").strip()}
        found[name] = {"type": "function", "function": function | {"parameters": tool.arguments.model_json_schema()}}
    return list(found.values())


def offered_name(tool: Tool[Any, Any]) -> str:
    """Return the name under which a model knows the tool: letters, digits, - and _, at most 64."""
    return _UNFIT.sub("_", tool.name)[:NAME_LIMIT]


def _text(content: Any) -> str:
    # Some endpoints answer in parts.
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _asked(call: Any, tools: Sequence[Tool[Any, Any]]) -> AskedCall:
    call = call if isinstance(call, Mapping) else {}
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    made = AskedCall(id=str(call.get("id", "")), name=str(function.get("name", "")), arguments={})
    tool = next((t for t in tools if offered_name(t) == made.name), None)
    if tool is None:
        offered = ", ".join(offered_name(t) for t in tools) or "no tools"
        made.error = f"there is no such tool; offered were {offered}"
        return made
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        made.error = "its arguments are not a JSON object"
        return made
    made.arguments, made._tool = arguments, tool
    try:
        tool.bind(arguments)
    except Refused as error:
        made.error = str(error)
    return made
