"""Keeps the memory of a long-running process small.

Measured with benchmarks/endpoint.py: the peak was 490 MB and grew with the data set while Arrow used its own allocator,
which keeps freed memory, and each of many threads had its own arena. With the system's allocator and two arenas it is
280 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

# For gc.set_threshold: new objects before the youngest generation is collected, then rounds before each older one is.
_THRESHOLDS = (10_000, 20, 50)
_M_ARENA_MAX = -8  # of glibc's malloc.h


def give_back() -> None:
    """Return freed memory to the system; without this, the buffers of a model's file would stay with the process."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def frugal_memory() -> Iterator[None]:
    """Exclude the objects that exist now from garbage collection, collect less often, and share arenas between threads.

    A process that has imported Prefect, pandas and torch has a million objects that are never freed. Scanning them
    again and again took a quarter of the time of a run against a fast endpoint.
    """
    with contextlib.suppress(AttributeError, OSError):  # only glibc has mallopt
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
