"""How long to wait for a lock: not at all, unless the caller or an enclosing `patient` block says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger(__name__)
LONGEST_PAUSE = 1.0  # seconds between two tries
_patience: ContextVar[float] = ContextVar("patience", default=0.0)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let locks taken within the block wait for up to so many seconds, where they name no time of their own."""
    before = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(before)


def holder_after(take: Callable[[], str | None], what: str, wait: float | None = None) -> str | None:
    """Call `take` until it returns None (taken) or the time is over; returns its last answer, the lock's holder.

    The holder is logged once, with `what` is being locked.
    """
    wait = _patience.get() if wait is None else wait
    ends, pause = time.monotonic() + wait, 0.05
    holder = take()
    if holder is not None and wait:
        log.warning("%s: waiting for up to %g s for %s", what, wait, holder)
    while holder is not None and (left := ends - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)
        holder = take()
    return holder
