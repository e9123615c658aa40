"""Settings of memory for a process that works for long.

Measured with benchmarks/endpoint.py: with Arrow's own allocator, which keeps what was freed, and an arena for each of
many threads, the peak was 490 MB and grew with the data set; with the system's allocator and two arenas it is 280 MB.
The C library's settings exist in glibc alone; other systems go without them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

# New objects until a collection of these, then collections until older objects are looked at too.
_THRESHOLDS = (10_000, 20, 50)
_M_ARENA_MAX = -8  # as in glibc's malloc.h
_UNKNOWN_HERE = (AttributeError, OSError, TypeError)  # what asking for them raises where the library is another


def give_back() -> None:
    """Give freed memory back to the system; otherwise the process keeps what a model's file was read into."""
    gc.collect()
    with contextlib.suppress(*_UNKNOWN_HERE):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def frugal_memory() -> Iterator[None]:
    """Exclude existing objects from garbage collection, collect less often, and share arenas between threads.

    A process that has imported Prefect, pandas and torch has a million objects that never go away; to look through
    them at each collection took a quarter of the time of a run against a fast endpoint. Within another such
    block this one does nothing, so that a process which works on many data sets looks through its objects once.
    """
    if gc.get_freeze_count():
        yield
        return
    with contextlib.suppress(*_UNKNOWN_HERE):
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
