"""A process that rests holds no more than it needs."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from aetheris.lake.memory import give_back

ROWS = 200_000


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def work(number: int) -> int:
    """Read, sort and write anew, as a compaction does; nothing of it is kept."""
    table = pa.table({"line": [f"{n:0100}{number}" for n in range(ROWS)]})
    return table.take(pa.array(range(ROWS - 1, -1, -1))).num_rows


def held() -> tuple[int, int]:
    """Return what this process holds beyond before after work in threads, and once that is given back."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))  # what is loaded once is no matter
        give_back()
        before = resident()
        list(pool.map(work, range(8)))
        gc.collect()
        after = resident() - before
        give_back()
        return after, resident() - before


def test_what_threads_took_for_arrow_is_given_back() -> None:
    """Without it a mirror holds for hours what its largest compaction took. In a process that did nothing before."""
    words = [sys.executable, "-c", "from tests.unit.test_lake_memory import held; print(*held())"]
    after, left = map(int, subprocess.check_output(words, text=True).split())
    assert after > 20_000_000
    assert left < after / 2
