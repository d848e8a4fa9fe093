"""One run of a graph: which node begins when, which is skipped, and what comes of it all.

Each node is a strand of its own, begun at once; it waits for those that it
needs, so whatever is ready runs concurrently. After a failure nothing new
begins: calls under way end and are recorded, then the job fails; sleeps,
signals and approvals are not waited for any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aetheris.runtime.graphs.adapter import GraphContext, NodeFailed, ToolNodeAdapter
from aetheris.runtime.graphs.model import Graph, Node
from aetheris.runtime.graphs.template import SKIPPED, Missing, render
from aetheris.runtime.tools import Tool
from aetheris.runtime.trampoline import Waitable

#: Kinds of nodes whose effect may be under way.
_CALLING = frozenset({"tool", "map", "llm"})


class GraphRun:
    """Runs `graph` once. `order` has every node after its needs; `ended` is told of each: kind; ok, failed, skipped."""

    def __init__(
        self,
        ctx: GraphContext,
        graph: Graph,
        order: Sequence[str],
        tools: Mapping[str, Tool[Any, Any]],
        ended: Callable[[str, str], None] = lambda kind, status: None,
    ) -> None:
        self._ctx, self._graph, self._order, self._ended = ctx, graph, order, ended
        self._adapter = ToolNodeAdapter(ctx, tools, lambda: self._failed is None)
        self._open: dict[str, bool] = {}
        self._failed: BaseException | None = None
        self._left, self._calling = len(order), 0
        self._end: Waitable[None] = Waitable("the graph")
        self._end.started = True  # nothing but the strands brings it

    async def run(self, value: Any) -> Any:
        """Return the graph's output for this input: `output`, else what the last nodes came to, by name.

        Errors: NodeFailed.
        """
        scope: dict[str, Any] = {"input": value}
        strands: dict[str, Any] = {}
        for name in self._order:
            node = self._graph.nodes[name]
            needs = [strands[need.node] for need in node.needs]
            strands[name] = self._ctx.gather(self._strand(node, needs, scope))
        await self._end
        if self._failed is not None:
            raise self._failed
        return self._output(scope)

    async def _strand(self, node: Node, needs: list[Any], scope: dict[str, Any]) -> None:
        try:
            if needs:
                await self._ctx.gather(*needs)
            if self._failed is None:
                await self._node(node, scope)
        except BaseException as error:
            self._failed = self._failed or error
            raise
        finally:
            self._left -= 1
            over = not self._left or (self._failed is not None and not self._calling)
            if over and not self._end.done:
                self._end.resolve()

    async def _node(self, node: Node, scope: dict[str, Any]) -> None:
        if self._skips(node, scope):
            scope[node.name] = SKIPPED
            self._ended(node.kind, "skipped")
            return
        self._calling += node.kind in _CALLING
        try:
            scope[node.name], self._open[node.name] = await self._adapter.run(node, scope)
            self._ended(node.kind, "ok")
        except Exception as error:  # noqa: BLE001  whatever it was, the job fails with it
            self._failed = self._failed or NodeFailed(f'node "{node.name}"', error)
            self._ended(node.kind, "failed")
        finally:
            self._calling -= node.kind in _CALLING

    def _skips(self, node: Node, scope: Mapping[str, Any]) -> bool:
        for need in node.needs:
            if need.when == "after":
                continue
            if scope[need.node] is SKIPPED or self._open[need.node] is not (need.when == "open"):
                return True
        return False

    def _output(self, scope: Mapping[str, Any]) -> Any:
        if self._graph.output is not None:
            try:
                return render(self._graph.output, scope)
            except Missing as error:
                raise NodeFailed("output", error) from None
        needed = {need.node for node in self._graph.nodes.values() for need in node.needs}
        last = [name for name in self._graph.nodes if name not in needed and scope[name] is not SKIPPED]
        return {name: scope[name] for name in last}
