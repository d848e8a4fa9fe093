"""ToolNodeAdapter: what each kind of node does, by the same ctx that agents written in Python use.

Every effect and every wait is a step of the job, so a graph is resumed node by
node: in a replay the nodes that are through get their results from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from pydantic_core import to_jsonable_python

from aetheris.runtime.answers import Expired
from aetheris.runtime.graphs.condition import holds
from aetheris.runtime.graphs.model import AT_MOST, Node, seconds
from aetheris.runtime.graphs.source import Tree
from aetheris.runtime.graphs.template import Missing, render
from aetheris.runtime.tools import Tool

Scope = Mapping[str, Any]


class GraphContext(Protocol):
    """The part of ctx that graphs stand on."""

    def call(self, tool: Tool[Any, Any], /, **arguments: Any) -> Any:
        """Call a tool."""

    def gather(self, *parts: Any, return_exceptions: bool = False) -> Any:
        """Run parts concurrently."""

    def sleep(self, duration: float) -> Any:
        """Wait durably."""

    def wait_signal(self, key: str, *, expires: float | None = None) -> Any:
        """Wait for a signal's payload."""

    def approval(self, title: str, *, role: str | None = None, expires: float | None = None) -> Any:
        """Ask a person."""

    def llm(self, model: str, **arguments: Any) -> Any:
        """Ask a model."""


class NodeFailed(Exception):
    """A node could not be carried out; the graph's job fails with it."""

    def __init__(self, node: str, error: Exception) -> None:
        super().__init__(f"{node}: {error}")
        self.node = node


class ToolNodeAdapter:
    """Carries out one node at a time. `going` is asked before each item of a map begins."""

    def __init__(self, ctx: GraphContext, tools: Mapping[str, Tool[Any, Any]], going: Callable[[], bool]) -> None:
        self._ctx, self._tools, self._going = ctx, tools, going
        self._kinds: dict[str, Callable[[Node, Scope], Coroutine[Any, Any, tuple[Any, bool]]]] = {
            "tool": self._tool,
            "map": self._map,
            "llm": self._llm,
            "approval": self._approval,
            "wait": self._wait,
            "condition": self._condition,
        }

    async def run(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        """Return the node's result as JSON, and whether its gate is open (True for what is no gate).

        Errors: what its tool raised; Missing and ValueError where a template
        or a comparison leads nowhere.
        """
        return await self._kinds[node.kind](node, scope)

    async def _tool(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        return await self._call(node, scope), True

    async def _call(self, node: Node, scope: Scope) -> Any:
        arguments = render(node.fields["with"], scope) if "with" in node.fields else {}
        returned = await self._ctx.call(self._tools[str(node.target.value)], **arguments)
        return to_jsonable_python(returned, by_alias=False)

    async def _map(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        items = render(node.fields["over"], scope)
        if not isinstance(items, list):
            raise Missing(f"{node.fields['over'].plain} is not a list: a map goes over a list")
        results: list[Any] = [None] * len(items)
        places = iter(range(len(items)))
        failed: list[Exception] = []

        async def strand() -> None:
            for place in places:
                if failed or not self._going():
                    return
                try:
                    results[place] = await self._call(node, {**scope, "item": items[place]})
                except Exception as error:  # noqa: BLE001  the first is raised once all strands are through
                    failed.append(error)

        limit = node.fields["at_most"].value if "at_most" in node.fields else AT_MOST
        await self._ctx.gather(*[strand() for _ in range(min(limit, len(items)))])
        if failed:
            raise failed[0]
        return results, True

    async def _llm(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        arguments = render(node.fields["with"], scope) if "with" in node.fields else {}
        if offered := node.offers:
            arguments["tools"] = [self._tools[name] for name in offered]
        answer = await self._ctx.llm(str(node.target.value), **arguments)
        return to_jsonable_python(answer, by_alias=False), True

    async def _approval(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        role = render(node.fields["role"], scope) if "role" in node.fields else None
        answer = await self._ctx.approval(
            str(render(node.target, scope)), role=role, expires=_length(node.fields.get("expires"), scope)
        )
        told = {"approved": bool(answer), "by": answer.by, "why": answer.why, "expired": answer.expired}
        return told, bool(answer)

    async def _wait(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        if not node.waits_for_signal:
            await self._ctx.sleep(seconds(render(node.target, scope)))
            return None, True
        key = str(render(node.target.value["signal"], scope))
        try:
            payload = await self._ctx.wait_signal(key, expires=_length(node.target.value.get("expires"), scope))
        except Expired:
            return None, False
        return payload, True

    async def _condition(self, node: Node, scope: Scope) -> tuple[Any, bool]:
        true = holds(node.target, scope)
        return true, true


def _length(tree: Tree | None, scope: Scope) -> float | None:
    return None if tree is None else seconds(render(tree, scope))
