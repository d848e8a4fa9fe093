"""A process that rests holds no more than it needs."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

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


def rounds(folder: str) -> list[int]:
    """Return what this process holds after each of six rounds of reading a lake's files in four threads."""
    lines = pa.array([f"{n:0300}" for n in range(4000)])
    for number in range(24):
        pq.write_table(pa.table({"line": lines}), f"{folder}/{number}.parquet", compression="zstd")

    def read(_: int) -> int:
        files = [f"{folder}/{number}.parquet" for number in range(24)]
        some = [pq.read_table(file, filters=pc.field("line") > f"{3000:0300}") for file in files]
        table = pa.concat_tables([pq.read_table(file) for file in files])
        pq.write_table(table, pa.BufferOutputStream(), compression="zstd")
        return some[0].num_rows + table.take(pa.array(range(table.num_rows - 1, -1, -1))).num_rows

    found = []
    for _ in range(6):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(4)))
        gc.collect()
        give_back()
        found.append(resident())
    return found


def test_a_process_for_a_long_life_holds_after_each_round_what_it_held_before(tmp_path: Path) -> None:
    """The soaks: a mirror that came to 230 MB more, in heaps of threads that rested, and of Arrow's own readers."""
    code = (
        "import sys; from aetheris.cli.allocators import for_a_long_life; for_a_long_life();"
        " from tests.unit.test_lake_memory import rounds; import pyarrow as pa;"
        " print(*rounds(sys.argv[1]), pa.default_memory_pool().backend_name)"
    )
    *found, allocator = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True).split()
    assert allocator == "system"
    after = [int(held) for held in found[1:]]
    assert max(after) - min(after) < 5_000_000


def test_the_mirror_is_such_a_process_and_is_told_before_arrow_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow looks at its environment when it is loaded, and never again."""
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    code = (
        "import sys; from aetheris.cli.main import cli; assert 'pyarrow' not in sys.modules;"
        " assert cli.get_command(None, 'mirror'); import pyarrow as pa; print(pa.default_memory_pool().backend_name)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "system"


def test_what_threads_took_for_arrow_is_given_back() -> None:
    """Without it a mirror holds for hours what its largest compaction took. In a process that did nothing before."""
    words = [sys.executable, "-c", "from tests.unit.test_lake_memory import held; print(*held())"]
    after, left = map(int, subprocess.check_output(words, text=True).split())
    assert after > 20_000_000
    assert left < after / 2
