"""The batches of a run: streams of all its models gather requests, then the run waits for them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

from pairsmith.llms.endpoint.batch_desk import BatchDesk
from pairsmith.session import Session

POLL_SECONDS = 15.0


def wait(desks: Sequence[BatchDesk], ends: float) -> bool:
    """Submit and wait, until `ends` at most, for all that streams ask for; returns whether all of it has ended."""
    while True:
        waits = [desk for desk in desks if not desk.advance()]
        if not waits or time.monotonic() + POLL_SECONDS > ends:
            return not waits
        time.sleep(POLL_SECONDS)


class BatchDesks:
    """The desks of a session. Within a run that gathers, a stream raises Awaited instead of waiting for its batches."""

    def __init__(self) -> None:
        self.gathers = self.gives_up = False
        self._handed_over = 0
        self._desks: dict[Hashable, BatchDesk] = {}
        self._lock = threading.Lock()

    def desk(self, name: Hashable, make: Callable[[], BatchDesk]) -> BatchDesk:
        """The desk under a name, opened at the first call."""
        with self._lock:
            if name not in self._desks:
                self._desks[name] = make()
            return self._desks[name]

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Let streams gather their requests until the block ends."""
        self.gathers, self.gives_up = True, False
        try:
            yield
        finally:
            self.gathers = self.gives_up = False

    def settle(self, seconds: float) -> None:
        """Submit what was gathered at all desks, and wait for it.

        Where that takes longer, or there is nothing to wait for, streams no longer wait for the rest.
        """
        ends, open_desks = time.monotonic() + seconds, list(self._desks.values())
        before, self._handed_over = self._handed_over, sum(desk.handed_over for desk in open_desks)
        has_waited = any(desk.is_waiting for desk in open_desks)
        all_ended = wait(open_desks, ends)
        self.gives_up = not all_ended or not (has_waited or self._handed_over > before)

    def close(self) -> None:
        for desk in self._desks.values():
            desk.close()


def desks_of(session: Session) -> BatchDesks:
    """Where the requests of a session's streams are gathered."""
    return session.keep("batch desks", BatchDesks, BatchDesks.close)
