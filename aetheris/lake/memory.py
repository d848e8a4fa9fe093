"""Memory that was needed once, given back."""

from __future__ import annotations

import pyarrow as pa


def give_back() -> None:
    """Return to the system what Arrow and the C library keep for later without using it.

    For a process that rests between pieces of work: Arrow's allocator keeps what
    the largest of them took, once for each thread that did one.
    """
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()  # malloc_trim, where the C library is GNU's
