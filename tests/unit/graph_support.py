"""A ctx over the real trampoline whose steps are settled by the test, in whatever order it likes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import aetheris as ae
from aetheris.runtime.graphs.check import check, order
from aetheris.runtime.graphs.model import Graph, build
from aetheris.runtime.graphs.run import GraphRun
from aetheris.runtime.graphs.source import read
from aetheris.runtime.trampoline import Gather, Trampoline, Waitable


class Answer:
    """What ctx.approval comes to."""

    def __init__(self, approved: bool, *, expired: bool = False) -> None:
        self.approved, self.by, self.why, self.expired = approved, "user/ana", "seen", expired

    def __bool__(self) -> bool:
        return self.approved


class FakeContext:
    """Notes what is asked of it; `settle` brings one thing to its end."""

    def __init__(self) -> None:
        self.trampoline = Trampoline(self._started)
        self.waiting: list[tuple[str, Any, Waitable[Any]]] = []
        self.asked: list[tuple[str, Any]] = []

    def _started(self, waited: Waitable[Any]) -> None:
        what = self._what.pop(waited)
        self.asked.append(what)
        self.waiting.append((*what, waited))

    _what: dict[Waitable[Any], tuple[str, Any]] = {}  # noqa: RUF012

    def _make(self, kind: str, said: Any) -> Waitable[Any]:
        made: Waitable[Any] = Waitable(kind)
        self._what[made] = kind, said
        return made

    def call(self, tool: ae.Tool[Any, Any], /, **arguments: Any) -> Waitable[Any]:
        return self._make(tool.name, tool.bind(arguments)[0])

    def gather(self, *parts: Any, return_exceptions: bool = False) -> Gather:
        made = [p if isinstance(p, Waitable) else self.trampoline.spawn(p, "part") for p in parts]
        return Gather(made, keep_errors=return_exceptions)

    def sleep(self, seconds: float) -> Waitable[Any]:
        return self._make("sleep", seconds)

    def wait_signal(self, key: str, *, expires: float | None = None) -> Waitable[Any]:
        return self._make("signal", (key, expires))

    def approval(self, title: str, *, role: str | None = None, expires: float | None = None) -> Waitable[Any]:
        return self._make("approval", (title, role, expires))

    def llm(self, model: str, **arguments: Any) -> Waitable[Any]:
        return self._make("llm", (model, arguments))

    def settle(self, place: int, value: Any = None, error: Exception | None = None) -> None:
        """Bring the thing at `place` among those waited for to its end."""
        self.waiting.pop(place)[2].resolve(value, error)
        self.trampoline.run()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Waitable[Any]:
        """Run until everything waits."""
        root = self.trampoline.spawn(work, "graph")
        self.trampoline.run()
        return root


def graph_of(text: str, name: str = "rebook.yaml") -> Graph:
    """Return the graph that a file with this text holds."""
    return build(read(text.encode(), name), name, "rebook")


def started(text: str, *tools: ae.Tool[Any, Any], value: Any = None) -> tuple[FakeContext, Waitable[Any]]:
    """Begin a graph on a fake ctx."""
    graph, ctx = graph_of(text), FakeContext()
    known = {tool.name: tool for tool in tools}
    check(graph, known, FakeContext)
    return ctx, ctx.begin(GraphRun(ctx, graph, order(graph), known).run(value))


def finish(ctx: FakeContext, root: Waitable[Any], answer: Callable[[str, Any], Any]) -> Any:
    """Settle whatever is waited for, first come first, until the graph has ended; return its result."""
    while not root.done:
        kind, said, _ = ctx.waiting[0]
        ctx.settle(0, answer(kind, said))
    return root.outcome()
