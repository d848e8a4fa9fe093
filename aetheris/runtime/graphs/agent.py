"""A graph as an agent: its definition is part of the job's input, so a resume runs what was submitted.

The definition lies in the input cell, whose salted commitment stands in the
job's first event: it is bound as the input is, and can be erased as the input
can. The agent is one for all graphs, `graph`; what a job needs beyond it are
its tools, and those are capabilities: only a worker that was given them all
can claim it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, create_model

from aetheris.domain.errors import Refused
from aetheris.runtime import metrics
from aetheris.runtime.agents import Agent
from aetheris.runtime.context import Context
from aetheris.runtime.graphs.check import check, check_input, order
from aetheris.runtime.graphs.model import Graph, build
from aetheris.runtime.graphs.run import GraphRun
from aetheris.runtime.graphs.source import of_json, read
from aetheris.runtime.tools import Tool
from aetheris.runtime.values import Shape

NAME = "graph"
#: The version of the language of graphs; the definition itself is in the job.
LANGUAGE = "1"
SUFFIXES = (".yaml", ".yml", ".json")


class GraphJob(BaseModel):
    """The input of a graph's job: the definition, and what it was given."""

    graph: dict[str, Any]
    input: Any = None


class GraphAgent(Agent):
    """Runs any graph whose tools it has; with a `graph` of its own, it is what one submits."""

    def __init__(self, tools: Iterable[Tool[Any, Any]], graph: Graph | None = None) -> None:
        self.tools = _by_name(tools)
        self.graph = graph
        if graph is not None:
            check(graph, self.tools)
        super().__init__(self._code(), name=NAME, version=LANGUAGE)

    @property
    def offers(self) -> Sequence[str]:
        """The tools that a worker with this agent can call."""
        return [f"tool:{name}" for name in sorted(self.tools)]

    @property
    def asks(self) -> Sequence[str]:
        """The tools and models that its own graph needs: who runs it must offer them."""
        if self.graph is None:
            return []
        return [*(f"tool:{name}" for name in self.graph.tools), *(f"llm:{name}" for name in self.graph.models)]

    def input_cells(self, value: Any) -> list[tuple[str, bytes]]:
        """Return the cells of definition and input; what a pydantic model marks sensitive is a cell of its own.

        Errors: Refused where a template misses its input, or it is no JSON.
        """
        if self.graph is None:
            raise Refused("no graph to submit: load one with aetheris.graph(FILE, tools=...)")
        if not isinstance(value, BaseModel):
            check_input(self.graph, value)
            return Shape(Any).cells("input", {"graph": self.graph.definition, "input": value})
        check_input(self.graph, value.model_dump(mode="json"))
        hint = create_model("GraphJob", __base__=GraphJob, input=(type(value), ...))
        return Shape(hint).cells("input", hint(graph=self.graph.definition, input=value))

    def _code(self) -> Any:
        tools = self.tools

        async def graph(ctx: Context, job: GraphJob) -> Any:
            # Checked when it was submitted. Not again: a tool that has changed since must not fail a job half way,
            # where its next call may well be as good as the last.
            found = build(of_json(job.graph), f"graph {job.graph.get('name', '')}", "")

            def ended(kind: str, status: str) -> None:
                if not ctx.replaying:
                    metrics.node_ended(ctx.tenant, kind, status)

            return await GraphRun(cast(Any, ctx), found, order(found), tools, ended).run(job.input)

        return graph


def graph(source: Path | str, tools: Iterable[Tool[Any, Any]]) -> GraphAgent:
    """Return the graph in a YAML or JSON file as an agent: submit it, serve it.

    Errors: Refused, with file and line, for whatever can be known to be wrong
    before it runs.
    """
    return GraphAgent(tools, load(Path(source)))


def load(path: Path) -> Graph:
    """Return the graph in a file; its nodes fit each other in shape alone. Errors: Refused, with file and line."""
    if path.suffix not in SUFFIXES:
        raise Refused(f"{path}: a graph is a file named *{', *'.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or '').lower()}; give the file of a graph") from None
    return build(read(data, path.name), path.name, path.stem)


def _by_name(tools: Iterable[Tool[Any, Any]]) -> dict[str, Tool[Any, Any]]:
    found: dict[str, Tool[Any, Any]] = {}
    for tool in tools:
        if not isinstance(tool, Tool):
            raise Refused(f"{tool!r} is not a tool: declare it with @aetheris.tool")
        if found.setdefault(tool.name, tool) is not tool:
            raise Refused(f"two tools of the name {tool.name}: give one of them name=...")
    return found
