"""A request in an engine's queue, and the sink that takes its reply."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pairsmith.protocol import Bill, Reply, Request

GATHER_SECONDS = 0.005  # between two deliveries: the replies of one are recorded together

Outcome = tuple[int, Reply | Bill] | BaseException  # a bill: an answer was paid for, and the request is sent again
Deliver = Callable[[list[Outcome]], None]


class ReplySink(ABC):
    """Takes the outcomes of one stream of requests. Used in the engine's event loop alone.

    `is_bounded`: a budget holds for the stream; see `attempts.Waste`. `unrecorded`: permits of answered calls whose
    replies may not be in the ledger yet. `is_cancelled`: nobody waits for this stream any more.
    """

    def __init__(self, is_bounded: bool = False) -> None:
        self.is_bounded = is_bounded
        self.unrecorded = 0
        self.is_cancelled = False

    @abstractmethod
    def put(self, outcome: Outcome) -> None:
        """Take an outcome."""


class GatheringSink(ReplySink):
    """Delivers the outcomes of a few milliseconds together.

    Delivered one by one, each would wake a thread that competes with the event loop for Python's lock, and the ledger
    would commit each reply alone.
    """

    def __init__(self, deliver: Deliver, is_bounded: bool = False) -> None:
        super().__init__(is_bounded)
        self._deliver = deliver
        self._gathered: list[Outcome] = []

    def put(self, outcome: Outcome) -> None:
        if not self._gathered:
            loop = asyncio.get_running_loop()  # all streams deliver at the same moments
            loop.call_at((loop.time() // GATHER_SECONDS + 1) * GATHER_SECONDS, self._deliver_gathered)
        self._gathered.append(outcome)

    def _deliver_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._deliver(gathered)


def replies_in(outcomes: Sequence[Outcome]) -> int:
    """How many requests ended with these outcomes."""
    return sum(isinstance(outcome, BaseException) or isinstance(outcome[1], Reply) for outcome in outcomes)


@dataclass(eq=False)
class Job:
    """A request in an engine's queue, the sink of its reply, and the task that works on it once it was started."""

    index: int
    request: Request
    sink: ReplySink
    task: asyncio.Task[None] | None = field(default=None)
