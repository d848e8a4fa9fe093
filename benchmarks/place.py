"""Where a benchmark works: a folder of its own, gone afterwards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder that an embedded PostgreSQL can live in, also where root starts it for another user."""
    made = Path(tempfile.mkdtemp(prefix="aetheris-bench-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def measured(work: Callable[[Path], Coroutine[None, None, dict[str, object]]]) -> dict[str, object]:
    """Return what `work` finds in such a folder."""
    with folder() as place:
        return asyncio.run(work(place))
