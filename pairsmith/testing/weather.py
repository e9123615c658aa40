"""Which calls of a fake endpoint fail, how, and how long each takes: faults by name, and the weather."""

from __future__ import annotations

from dataclasses import dataclass, field

from pairsmith.ids import draw


@dataclass(frozen=True)
class Fault:
    """A missing or bad answer.

    `hang`: seconds before anything is sent. `cut`: bytes after which the connection is broken. `drip`: seconds between
    one byte and the next. `size`: bytes of a body made only of blanks.
    """

    status: int = 500
    body: str = '{"error": {"message": "told to fail"}}'
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: int | None = None
    drip: float = 0.0
    size: int = 0


KINDS: dict[str, Fault] = {
    "500": Fault(500),
    "503": Fault(503),
    "429": Fault(429, headers={"retry-after-ms": "200"}),
    "reset": Fault(200, cut=0),
    "cut": Fault(200, '{"id": "fake", "choices": [{"index": 0, "mess', cut=30),
    "garbage": Fault(200, "<html>try again</html>"),
    "blank": Fault(200, '{"choices": []}'),
    "hang": Fault(hang=3600),
}


@dataclass(frozen=True)
class Weather:
    """How an endpoint behaves when its list of faults is empty.

    `latency` in seconds, drawn evenly from latency * (1 - spread) to latency * (1 + spread). `errors`: share of calls
    that fail, each in one of `kinds`. For the last `storm` seconds of every `storm_every`, every call gets a 429.
    """

    latency: float = 0.0
    spread: float = 0.0
    errors: float = 0.0
    kinds: tuple[str, ...] = ("500", "503", "reset")
    storm: float = 0.0
    storm_every: float = 5.0
    seed: int = 0

    def seconds(self, mark: str) -> float:
        """The latency of a call; `mark` identifies it by its request and how often that was sent."""
        return self.latency * (1 + self.spread * (2 * draw("latency", self.seed, mark) - 1))

    def fault(self, mark: str, elapsed: float) -> Fault | None:
        """The fault, if any, of the call `mark` that arrives `elapsed` seconds after the endpoint was opened."""
        if self.storm and elapsed % self.storm_every > self.storm_every - self.storm:
            return KINDS["429"]
        if self.errors and draw("error", self.seed, mark) < self.errors:
            return KINDS[self.kinds[int(draw("kind", self.seed, mark) * len(self.kinds))]]
        return None
