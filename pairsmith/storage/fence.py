"""A run's hold on a data set, and how the run learns that another one has taken over.

A lock among machines can be lost by a run that still works: its connection is cut, or it slept for too long. So each
holder gets a number that is higher than those before it, and whoever has a lower one must publish nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pairsmith.errors import RunError
from pairsmith.storage.lock_wait import holder_after


class Fence:
    """A hold on `what`. This one is of a lock that goes with its process, so nobody can take over from it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lost: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it was noticed that the hold is lost."""
        return self._lost is not None

    def lose(self, why: str) -> None:
        """Note why the hold is lost; the first reason stays."""
        self._lost = self._lost or why

    def stop_if_lost(self, *_: object) -> None:
        """Raise RunError where it was noticed that the hold is lost; asks nobody."""
        if self._lost:
            raise RunError(f"{self._what}: {self._lost}; this run stops, and what it recorded is kept")

    def check(self) -> None:
        """Ask where the lock is kept; raises RunError that names the new holder where another run has taken over."""
        self.stop_if_lost()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """`check`, and let nobody take over before the block ends: for the moment in which a version is published."""
        self.check()
        yield


def take_among_machines(take: Callable[[], str | None], what: str, wait: float | None) -> None:
    """Take a lock as `lock_wait.holder_after` does; raises RunError with its holder where another run keeps it."""
    if holder := holder_after(take, what, wait):
        raise RunError(f"{what}: another run works on this data set, perhaps on another machine ({holder})")


@contextmanager
def beside(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Have a thread do `work` for as long as the block runs; the event tells it that the block has ended."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def taken_over_by(holder: str) -> str:
    """Why a hold is lost, for `Fence.lose`."""
    return f"another run has taken over this data set ({holder})"


def fence_key(root: str) -> tuple[str, str]:
    """The key under which a session has the fence of a data set."""
    return "fence", root
