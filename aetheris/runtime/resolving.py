"""Which events end what a job's code waits for, and the queue in which they are delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aetheris.domain.events import Event

if TYPE_CHECKING:
    from aetheris.runtime.packed import Entry

_RESOLVES = frozenset(
    {
        "tool_invocation_finished",
        "tool_call_refused",
        "timer_fired",
        "state_checkpointed",
        "wait_completed",
        "approval_completed",
        "child_completed",
        "run_continued",
        "cancel_requested",  # delivered to the job itself, in its place among the others
    }
)
#: They begin a wait that a resolution ends.
WAITS = frozenset({"job_waiting", "approval_requested", "child_requested"})


def resolves(event: Event) -> bool:
    """Return whether this event is delivered to the code."""
    if event.type in ("tool_invocation_confirmed", "tool_invocation_resolved"):
        return bool(event.data["outcome"] != "not_done")
    return event.type in _RESOLVES and "retry_after_us" not in event.data


class Resolutions:
    """What is to be delivered, in order: first what a snapshot holds, unpacked one at a time, then events."""

    def __init__(self) -> None:
        self._packed: Iterator[Entry] = iter(())
        self._take: Callable[[Entry], None] = _nothing
        self._left = 0
        self._queue: deque[Event] = deque()

    def begin_with(self, entries: Iterator[Entry], count: int, take: Callable[[Entry], None]) -> None:
        """Deliver `count` packed entries before all else; `take` gets each when its turn comes."""
        self._packed, self._left, self._take = entries, count, take
        self._fill()

    def __bool__(self) -> bool:
        return bool(self._queue)

    def drain(self) -> Iterator[Event]:
        """Yield what is left, once nothing is to be delivered any more."""
        while self._queue:
            yield self.popleft()

    @property
    def first(self) -> Event:
        """The next to be delivered."""
        return self._queue[0]

    def append(self, event: Event) -> None:
        """Add one at the end."""
        self._queue.append(event)

    def popleft(self) -> Event:
        """Return the next and let go of it."""
        event = self._queue.popleft()
        if self._left:
            self._fill()
        return event

    def _fill(self) -> None:
        # One packed entry ahead of the queue, so that the next is always known.
        if self._left:
            self._left -= 1
            entry = next(self._packed)
            self._take(entry)
            self._queue.appendleft(entry.event)


def _nothing(entry: Entry) -> None:
    raise AssertionError(entry)
