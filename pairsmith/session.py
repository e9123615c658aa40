"""A session: what a run keeps open while it works, and lets go of when it ends.

Ledgers, weights, engines of endpoints, the tables read last, the keys of endpoints and whoever listens to progress: all
of it hangs on one value that is passed to what needs it, so a second run in the same process starts clean. A session is
never sent to another process: what runs there has that process's own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Listener = Callable[[Any], None]


class Session:
    """What is open, by key. `with Session() as session:` keeps it until the block ends; threads may share it.

    `listeners` are called with every piece of progress; `secrets` are keys of endpoints by the name of their block.
    """

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.secrets: dict[str, str] = {}
        self._open: dict[Hashable, Any] = {}
        self._ends = ExitStack()
        self._lock = threading.RLock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all that is open, what was opened last first. The session may be used again, and starts clean."""
        with self._lock:
            ends, self._ends, self._open = self._ends, ExitStack(), {}
            self.secrets.clear()
        ends.close()

    def keep(self, key: Hashable, make: Callable[[], T], close: Callable[[T], None] | None = None) -> T:
        """What this session has under `key`, made at the first call and closed with the session."""
        with self._lock:
            if key not in self._open:
                made = make()
                if close:
                    self._ends.callback(close, made)
                self._open[key] = made
            found: T = self._open[key]
            return found

    @contextmanager
    def having(self, key: Hashable, value: Any) -> Iterator[None]:
        """Let `find` give this value under `key` for as long as the block runs."""
        with self._lock:
            self._open[key] = value
        try:
            yield
        finally:
            with self._lock:
                self._open.pop(key, None)

    def find(self, key: Hashable) -> Any:
        """What this session has under `key`; None where it has nothing."""
        with self._lock:
            return self._open.get(key)

    def share(self, key: Hashable, make: Callable[[], T], close: Callable[[T], None] | None = None) -> T:
        """What all open sessions of this process have under `key` together, closed with the last of them.

        For what must hold over a whole process, such as the rates of an endpoint and the budget of a data set.
        """
        name = (os.getpid(), key)  # a process that was forked from another starts its own
        return self.keep(("shared", *name), lambda: _common.take(name, make, close), lambda _: _common.leave(name))

    def tell(self, event: Any) -> None:
        """Call all listeners with a piece of progress."""
        for listener in list(self.listeners):
            listener(event)

    def beside(self) -> Session:
        """The same that is open, with listeners of its own: what one of several pieces of work tells is heard apart."""
        other = copy(self)
        other.listeners = []
        return other

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call `listener` with every piece of progress, from any thread, for as long as the block runs."""
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)


@dataclass
class _Shared:
    """A value that several sessions hold, and how many of them do."""

    value: Any
    close: Callable[[Any], None] | None
    holders: int = 0


@dataclass
class _Common:
    """What the open sessions of this process share."""

    held: dict[Hashable, _Shared] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, name: Hashable, make: Callable[[], T], close: Callable[[T], None] | None) -> T:
        with self.lock:
            if name not in self.held:
                self.held[name] = _Shared(make(), close)
            self.held[name].holders += 1
            found: T = self.held[name].value
            return found

    def leave(self, name: Hashable) -> None:
        with self.lock:
            shared = self.held[name]
            shared.holders -= 1
            if shared.holders:
                return
            del self.held[name]
        if shared.close:
            shared.close(shared.value)


_common = _Common()


@cache
def process_session() -> Session:
    """The session of a process that works for another one, opened at the first call, closed when the process ends."""
    session = Session()
    atexit.register(session.close)
    return session
