"""The world that crashes are judged by: an append-only file, fsynced, one line an effect.

Standard library alone: whatever system makes the effects, they are counted by
the same code.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: How long the outside takes to answer once the effect has happened: the time in which a kill leaves a doubt.
ANSWER_SECONDS = 0.02


class World:
    """Effects under keys; a key that stands twice was done twice."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def of_environment(cls) -> World:
        """Return the world that this process was given (WORLD)."""
        return cls(os.environ["WORLD"])

    def effect(self, key: str) -> str:
        """Make the effect durable and return its receipt."""
        receipt = f"receipt-{key[:24]}"
        line = f"{key} {receipt} {os.getpid()} {time.time_ns() // 1000}\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())  # one write to an append-only file: lines never mix
            os.fsync(file)
        finally:
            os.close(file)
        return receipt

    def effect_by_key(self, key: str) -> str:
        """Make the effect once, however often it is asked for under this key; return its receipt."""
        with self._locked():
            return f"receipt-{key[:24]}" if key in self.keys() else self.effect(key)

    def effect_unless_fenced(self, key: str, attempt: int) -> str:
        """Make the effect of this attempt, unless it was fenced. Errors: PermissionError then."""
        with self._locked():
            if f"{key} {attempt}" in self._fences():
                raise PermissionError(f"attempt {attempt} was fenced")
            return self.effect(key)

    def find_or_fence(self, key: str, attempt: int) -> str | None:
        """Return the receipt of the effect under `key`; or None, after which this attempt can't make it any more."""
        with self._locked():
            if key in self.keys():
                return f"receipt-{key[:24]}"
            with self._fenced.open("a") as file:
                file.write(f"{key} {attempt}\n")
                file.flush()
                os.fsync(file.fileno())
            return None

    @property
    def _fenced(self) -> Path:
        return self.path.with_name(f"{self.path.name}.fenced")

    def _fences(self) -> set[str]:
        return set(self._fenced.read_text().splitlines()) if self._fenced.exists() else set()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def answer(self) -> None:
        """Take the time that an answer takes."""
        time.sleep(ANSWER_SECONDS)

    def keys(self) -> Counter[str]:
        """Return how often each key's effect happened."""
        text = self.path.read_text() if self.path.exists() else ""
        return Counter(line.split(" ", 1)[0] for line in text.splitlines())

    @property
    def duplicates(self) -> int:
        """How many effects happened beyond the first of their key."""
        return sum(count - 1 for count in self.keys().values())
