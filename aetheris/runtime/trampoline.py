"""The trampoline: a job's coroutine stepped by us, not by an event loop.

The protocol. A job's code can wait for nothing but a `Waitable` that its `ctx`
made. Awaiting one yields it to the trampoline; when it resolves, the fiber
that waits for it runs on until it waits again. One resolution is delivered at
a time, in the order of the log, and everything that it sets free runs before
the next is delivered. The order in which fibers become ready is the order in
which they began to wait. Nothing here reads a clock, a random number or an
event loop, so the same resolutions in the same order make the code do the same
things: live, and in every replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType, TracebackType
from typing import Any, Generic, TypeVar

from aetheris.domain.errors import Refused
from aetheris.runtime.answers import Abandoned
from aetheris.runtime.foreign import by_signal

T = TypeVar("T")
#: Code that waits again so often while it is being unwound is left to the garbage collector.
ABANDON_TRIES = 100


class Waitable(Generic[T]):
    """Something that a job may await once or often; it resolves once."""

    __slots__ = ("_error", "_trace", "_value", "done", "label", "started", "waiters")

    def __init__(self, label: str) -> None:
        self.label = label
        self.started = False
        self.done = False
        self.waiters: list[Callable[[], None]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    def __await__(self) -> Generator[Waitable[Any], None, T]:
        if not self.done:
            yield self
        return self.outcome()

    def outcome(self) -> T:
        """Return the value, or raise the error, that it resolved to."""
        if self._error is not None:
            # The traceback it came with: raised often, it must not grow.
            raise self._error.with_traceback(self._trace)
        value: T = self._value
        return value

    def settled(self) -> tuple[T, BaseException | None]:
        """Return the value and the error that it resolved to."""
        return self._value, self._error

    def resolve(self, value: Any = None, error: BaseException | None = None) -> None:
        """Settle it and wake who waits, in the order in which they began to wait."""
        self.done, self._value, self._error = True, value, error
        self._trace = error.__traceback__ if error is not None else None
        waiters, self.waiters = self.waiters, []
        for wake in waiters:
            wake()


class Gather(Waitable[list[Any]]):
    """Resolves when all its parts have; with the first part's error, in order, if any failed."""

    __slots__ = ("_left", "keep_errors", "parts")

    def __init__(self, parts: list[Waitable[Any]], *, keep_errors: bool) -> None:
        super().__init__("gather")
        self.parts = parts
        self.keep_errors = keep_errors
        self._left = sum(not part.done for part in parts)
        for part in parts:
            if not part.done:
                part.waiters.append(self._part_done)
        if not self._left:
            self._finish()

    def _part_done(self) -> None:
        self._left -= 1
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        values: list[Any] = []
        for part in self.parts:
            if part._error is not None and not self.keep_errors:
                self.resolve(error=part._error)
                return
            values.append(part._error if part._error is not None else part._value)
        self.resolve(values)


class Fiber(Waitable[Any]):
    """One strand of a job's code; resolves with what it returns."""

    __slots__ = ("coroutine", "thrown", "turn")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], label: str) -> None:
        super().__init__(label)
        self.coroutine = coroutine
        self.thrown: BaseException | None = None
        self.turn = 0  # counts its waits: a wake-up for an earlier one is void


class Trampoline:
    """Runs fibers until all of them wait. `start` is told of each Waitable at its first await."""

    def __init__(self, start: Callable[[Waitable[Any]], None]) -> None:
        self._start = start
        self._ready: deque[Fiber] = deque()
        self._fibers: dict[Fiber, None] = {}
        self._running = False

    def spawn(self, coroutine: Coroutine[Any, Any, Any], label: str) -> Fiber:
        """Return a new fiber, which begins when the trampoline next runs."""
        fiber = Fiber(coroutine, label)
        fiber.started = True
        self._fibers[fiber] = None
        self._ready.append(fiber)
        return fiber

    def throw(self, fiber: Fiber, error: BaseException) -> None:
        """Make `fiber` go on by raising `error` where it waits; what it waited for may still come, unheard."""
        fiber.thrown = error
        fiber.turn += 1
        self._ready.append(fiber)

    def abandon(self) -> None:
        """Unwind every fiber that still waits; whatever its code does on the way out leads nowhere."""
        fibers, self._fibers = list(self._fibers), {}
        for fiber in fibers:
            for _ in range(ABANDON_TRIES):
                try:
                    fiber.coroutine.throw(Abandoned())
                except BaseException:  # noqa: BLE001  it has unwound; how doesn't matter any more
                    break

    def run(self) -> None:
        """Run every ready fiber until it waits or ends."""
        if self._running:
            return
        self._running = True
        try:
            while self._ready:
                self._advance(self._ready.popleft())
        finally:
            self._running = False

    def begin(self, waitable: Waitable[Any]) -> None:
        """Tell the engine of the first await of this, or of each of its parts in order."""
        if isinstance(waitable, Gather):
            for part in waitable.parts:
                self.begin(part)
        elif not waitable.started:
            waitable.started = True
            self._start(waitable)

    def _advance(self, fiber: Fiber) -> None:
        while True:
            thrown, fiber.thrown = fiber.thrown, None
            try:
                waited = fiber.coroutine.send(None) if thrown is None else fiber.coroutine.throw(thrown)
            except StopIteration as stop:
                self._fibers.pop(fiber, None)
                fiber.resolve(stop.value)
                return
            except BaseException as error:
                if isinstance(error, Abandoned) or by_signal(error):
                    raise
                self._fibers.pop(fiber, None)
                fiber.resolve(error=error)
                return
            if not isinstance(waited, Waitable):
                refusal = Refused(f"{_where(fiber.coroutine)} awaits something other than ctx: put it into a tool")
                self._fibers.pop(fiber, None)
                fiber.coroutine.close()
                fiber.resolve(error=refusal)
                return
            self.begin(waited)
            if not waited.done:
                fiber.turn += 1
                waited.waiters.append(lambda turn=fiber.turn: self._wake(fiber, turn))  # type: ignore[misc]
                return

    def _wake(self, fiber: Fiber, turn: int) -> None:
        if fiber.turn == turn:
            self._ready.append(fiber)


def _where(coroutine: Any) -> str:
    """Name the line of the job's own file that waits: deeper frames may be a library's."""
    frame = coroutine.cr_frame
    home = frame.f_code.co_filename
    inner: Any = coroutine
    while isinstance(inner := inner.cr_await, CoroutineType) and inner.cr_frame is not None:
        if inner.cr_frame.f_code.co_filename == home:
            frame = inner.cr_frame
    return f"{home}:{frame.f_lineno}"
