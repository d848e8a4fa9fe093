"""The step of `ctx.llm`: a call whose tool is a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import Refused
from aetheris.runtime.llm.model import Llm
from aetheris.runtime.llm.replies import definitions, reply_of
from aetheris.runtime.steps import ToolStep
from aetheris.runtime.tools import Tool


class LlmStep(ToolStep):
    """One question to a model.

    Compared with the record are the messages, the names of the tools and the
    options. The definitions of the tools stand in the record as they were
    sent, in a cell that is not compared: a tool's docstring may be mended
    under a job.
    """

    __slots__ = ("offered",)

    def __init__(
        self,
        step: int,
        llm: Llm,
        prompt: str | None,
        system: str | None,
        messages: Sequence[Mapping[str, Any]] | None,
        tools: Sequence[Tool[Any, Any]],
        options: Mapping[str, Any],
    ) -> None:
        if (prompt is None) == (messages is None):
            raise Refused(f"{llm.name}: give either a prompt or messages")
        said = [{"role": "user", "content": prompt}] if messages is None else list(messages)
        if system is not None:
            said.insert(0, {"role": "system", "content": system})
        if not said:
            raise Refused(f"{llm.name}: no message is asked")
        offered = definitions(tools)
        given = {k: v for k, v in options.items() if v is not None}
        if tools:
            given["tools"] = [tool.name for tool in tools]
        super().__init__(step, llm, {"messages": said, **given})
        self.offered = tuple(tools)
        self.arguments["definitions"] = offered
        if offered:
            self.bodies.append(("tools", body_bytes(offered)))

    def delivered(self, value: Any) -> Any:
        """The answer with its calls validated."""
        return reply_of(value, self.offered)
