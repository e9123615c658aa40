"""How memory is kept in a process that works for long.

Measured with benchmarks/endpoint.py: with Arrow's own allocator, which keeps what was freed, and an arena for each of
many threads, the peak was 490 MB and grew with the data set; with the system's allocator and two arenas it is 280 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

# Young objects looked at, then rounds until older ones are.
_THRESHOLDS = (10_000, 20, 50)
_M_ARENA_MAX = -8  # of glibc's malloc.h


def give_back() -> None:
    """Give freed memory back to the system: what a model's file was read into would stay with the process."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def frugal_memory() -> Iterator[None]:
    """Leave out of each collection what is there already, collect less often, and share arenas between threads.

    A process that has imported Prefect, pandas and torch has a million objects that never go away; looking through
    them again and again took a quarter of the time of a run against a fast endpoint.
    """
    with contextlib.suppress(AttributeError, OSError):  # other systems have no such setting
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
