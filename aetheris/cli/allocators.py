"""Which allocators a process uses that lives long and mostly rests.

To be said before anything imports pyarrow, which looks at its environment once.
"""

from __future__ import annotations

import ctypes
import os

#: Whoever asks the C library for as much gets memory of its own.
MAPPED_BYTES = 64 * 1024
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def for_a_long_life() -> None:
    """Let this process's allocator map what is large by itself, so that it goes back when it is let go.

    Arrow's own keeps a heap for each thread, which none but that thread gives
    back, and its readers use it whatever pool Python is told to use; the C
    library's keeps ever larger pieces in its heaps, as it learns that they are
    asked for. Costs a fault a page.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if (tune := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        tune(_M_MMAP_THRESHOLD, MAPPED_BYTES)
