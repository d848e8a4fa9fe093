"""Memory that was needed once, given back."""

from __future__ import annotations

import ctypes

import pyarrow as pa

#: Whoever asks the C library for as much gets memory of its own.
MAPPED_BYTES = 64 * 1024
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def give_back() -> None:
    """Return to the system what Arrow and the C library keep for later without using it.

    For a process that rests between pieces of work: Arrow's allocator keeps what
    the largest of them took, once for each thread that did one.
    """
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()  # malloc_trim, where the C library is GNU's


def for_a_long_life() -> None:
    """Let this process's allocator map what is large by itself, so that it goes back when it is let go.

    Arrow's own keeps a heap for each thread, which none but that thread gives
    back; the C library's keeps ever larger pieces in its heaps, as it learns
    that they are asked for. Costs a fault a page; for a process that mostly rests.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    if (tune := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        tune(_M_MMAP_THRESHOLD, MAPPED_BYTES)
