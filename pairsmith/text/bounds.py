"""How much a template from a recipe may take: time, and the size of what it makes in all."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import SecurityError

MAX_RENDERED = 4_000_000  # characters or items of one value, those within it included
_MAX_MADE = 8 * MAX_RENDERED  # of all values that one rendering makes
_ITEM = 8  # how much an item of a list counts, beside what it holds: about its bytes
_SECONDS = 1.0  # of processor time


@dataclass
class _Rendering:
    """One rendering: when its time ends, and the size of all that it has made."""

    deadline: float = math.inf
    made: float = 0


_rendering: ContextVar[_Rendering | None] = ContextVar("rendering", default=None)


def check_bounds(size: float = 0) -> None:
    """Raise SecurityError if `size` is too large or the rendering has taken too long."""
    if size > MAX_RENDERED:
        raise SecurityError(f"more than {MAX_RENDERED} characters or items")
    current = _rendering.get()
    if current and time.thread_time() > current.deadline:
        raise SecurityError(f"takes more than {_SECONDS:g} s")


def spend(size: float) -> None:
    """Note that the rendering made a value of this size; raises SecurityError where all together are too large."""
    current = _rendering.get()
    if current:
        current.made += size
        if current.made > _MAX_MADE:
            raise SecurityError(f"makes more than {_MAX_MADE} characters or items in all")


def deep_size(value: Any) -> float:
    """The characters and items of a value and of all within it; of a number, its distance from zero."""
    if isinstance(value, int | float):
        return abs(value)
    return _extent(value)


def _extent(value: Any) -> float:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_ITEM + _extent(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return sum(_ITEM + _extent(one) for one in value)
    return 1


@contextmanager
def time_bound() -> Iterator[None]:
    """Limit all rendering within the block to one second of processor time, and what it makes in size."""
    token = _rendering.set(_Rendering(time.thread_time() + _SECONDS))
    try:
        yield
    finally:
        _rendering.reset(token)
