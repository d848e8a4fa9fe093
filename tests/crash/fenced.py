"""An agent whose tool can confirm and fence, over a world in a file: what a paused worker can't undo."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import aetheris as ae
from tests.crash.world import World


class Ledger:
    """Effects under keys, and keys that are fenced up to an attempt; one lock over both."""

    def __init__(self) -> None:
        self.world = World.of_environment()
        self.fences = Path(os.environ["WORLD"] + ".fences")

    def pay(self, call: ae.Call) -> str:
        """Pay unless this attempt is fenced."""
        with self._lock():
            if f"{call.key} {call.attempt}" in self._fenced():
                with open(os.environ["WORLD"] + ".refused", "a") as file:
                    file.write(f"{call.key} {call.attempt}\n")
                raise ValueError("this attempt is fenced")
            return self.world.effect(call.key)

    def find_or_fence(self, call: ae.Call) -> ae.Answer:
        """Say that it was paid, or make sure that this attempt never will be."""
        with self._lock():
            if self.world.keys()[call.key]:
                return ae.Done(f"receipt-{call.key[:24]}")
            with self.fences.open("a") as file:
                file.write(f"{call.key} {call.attempt}\n")
            return ae.NotDone()

    def _fenced(self) -> set[str]:
        return set(self.fences.read_text().splitlines()) if self.fences.exists() else set()

    def _lock(self) -> _Lock:
        return _Lock(Path(os.environ["WORLD"] + ".lock"))


class _Lock:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


@ae.tool
def fenced_effect(call: ae.Call, number: int) -> str:
    """One effect, refused for an attempt that was fenced."""
    return Ledger().pay(call)


@fenced_effect.confirm
def fenced_confirm(call: ae.Call) -> ae.Answer:
    """Found, or fenced."""
    return Ledger().find_or_fence(call)


@ae.agent(version="1")
async def banker(ctx: ae.Context, steps: int) -> list[str]:
    """Make `steps` effects that can be confirmed."""
    return [await ctx.call(fenced_effect, number=n) for n in range(steps)]
