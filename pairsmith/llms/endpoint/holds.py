"""Holds: the times for which endpoints have asked, by Retry-After, not to be called, whatever the request.

A hold is kept by address, model and key, since providers limit by these three: engines with other settings for the same
three share it, and other models of the same address are called meanwhile. This process and the engine process tell each
other of their holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pairsmith.config import Endpoint

Limited = tuple[str, str, str]  # address, model, key


class Hold:
    """The time until which nothing is sent. Safe to use from several threads."""

    def __init__(self, tell: Callable[[float, str], None]) -> None:
        self._tell, self._until, self._lock = tell, 0.0, threading.Lock()
        self.problem = ""

    def remaining(self) -> float:
        """Seconds until a call may be sent."""
        return max(self._until - time.monotonic(), 0.0)

    def begin(self, seconds: float, problem: str) -> None:
        """Hold all calls for so many seconds, as an answer to a call of this process asks, and tell the other one."""
        if self.extend(seconds, problem):
            self._tell(seconds, problem)

    def extend(self, seconds: float, problem: str) -> bool:
        """Hold all calls for so many seconds; returns whether that is longer than they were held already."""
        with self._lock:
            until = time.monotonic() + seconds
            is_longer = seconds > 0 and until > self._until
            if is_longer:
                self._until, self.problem = until, problem
            return is_longer


class Holds:
    """The holds of a process. `tell` passes those that begin here on to the other process."""

    def __init__(self, tell: Callable[[Limited, float, str], None]) -> None:
        self._tell, self._holds = tell, dict[Limited, Hold]()

    def of(self, endpoint: Endpoint, model: str, key: str) -> Hold:
        """The hold of a model at an endpoint."""
        return self[endpoint.base_url.rstrip("/"), model, key]

    def __getitem__(self, limited: Limited) -> Hold:
        return self._holds.setdefault(limited, Hold(lambda seconds, problem: self._tell(limited, seconds, problem)))

    def under_way(self) -> list[tuple[Limited, float, str]]:
        """The holds that have not ended: of what, seconds and reason."""
        held = [(limited, hold.remaining(), hold.problem) for limited, hold in list(self._holds.items())]
        return [one for one in held if one[1]]
