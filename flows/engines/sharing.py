"""How many processes an engine has for a run at a time: they share the rates of its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_counting: ContextVar[Callable[[], int] | None] = ContextVar("processes", default=None)


@contextmanager
def sharing_among(count: Callable[[], int]) -> Iterator[None]:
    """Within the block, as many processes work as `count` says whenever it is asked."""
    token = _counting.set(count)
    try:
        yield
    finally:
        _counting.reset(token)


def processes_at_work() -> int | None:
    """How many other processes work for the run now; None where its tasks are threads of its own."""
    count = _counting.get()
    return max(1, count()) if count else None
