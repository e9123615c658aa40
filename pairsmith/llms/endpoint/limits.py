"""The limits on calls to an endpoint: how many at a time, how many a minute, and none while it is down or says to wait.

They are used in one event loop alone, so they need no locks; times are those of its monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiolimiter import AsyncLimiter

from pairsmith.config import Endpoint
from pairsmith.llms.endpoint.holds import Hold
from pairsmith.protocol import Request

_TOLERATED = 0.2  # share of calls refused for overload that may be chance
_FEWEST_JUDGED = 16  # answers; a large share of fewer may be chance
_SETTLES = 1.0  # seconds between two reductions: calls in progress were sent before the last one
_PROBES = 3  # that fail one after another until an endpoint is given up
_CHARS_A_TOKEN = 4


class AdaptiveConcurrency:
    """How many calls may be in progress: fewer while the endpoint refuses some for overload, then more again.

    `limit` changes once per `limit` answers, so a burst of refusals counts once. `refusing` changes with each answer
    and looks at the latest dozen or so.
    """

    def __init__(self, most: int) -> None:
        self._most, self._limit = most, float(most)
        self._answers = self._refusals = 0
        self._reduced = -_SETTLES
        self._share, self._since = 0.0, 0.0  # of the latest answers that were refusals; when it became too large

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    def refusing(self, now: float) -> float:
        """Seconds for which the endpoint has refused more calls for overload than may be chance."""
        return now - self._since if self._share > _TOLERATED else 0.0

    def note(self, overloaded: bool, now: float) -> None:
        """Count an answer at the time `now`."""
        before, self._share = self._share, self._share + (overloaded - self._share) / _FEWEST_JUDGED
        if before <= _TOLERATED < self._share:
            self._since = now
        self._answers += 1
        self._refusals += overloaded
        if self._answers < max(self.limit, _FEWEST_JUDGED):
            return
        share = self._refusals / self._answers
        self._answers = self._refusals = 0
        if share <= _TOLERATED:
            self._limit = min(self._limit * 1.25 + 1, self._most)
        elif now >= self._reduced + _SETTLES:
            self._limit, self._reduced = max(1.0, self._limit * (1 - share / 2)), now


class Breaker:
    """Stops calls to an endpoint that fails every time: a pause, one call as a probe, another pause, and so on.

    After three failed probes the endpoint is given up, until the next stream of requests, which begins with a probe.
    Calls that were in progress when the first one failed count as one failure together, since one cause, such as a
    broken network, may have ended them all.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._most, self._seconds = failures, seconds
        self._in_a_row = self._probes = 0
        self._until = 0.0
        self._first_failure: float | None = None  # since the last answer
        self.problem = ""

    @property
    def given_up(self) -> bool:
        return self._probes >= _PROBES

    @property
    def _is_open(self) -> bool:
        return self._in_a_row >= self._most

    def pause(self, now: float) -> float:
        """Seconds until the next call may be sent; 0 where one may be sent now."""
        return max(self._until - now, 0.0) if self._is_open else 0.0

    def let_out(self, now: float) -> bool:
        """Count a call that is sent when `pause` is 0; returns whether it is a probe, beside which no other is sent."""
        if self._is_open:
            self._until = now + self._seconds
        return self._is_open

    def failing(self, now: float) -> float:
        """Seconds for which the endpoint has answered nobody."""
        return 0.0 if self._first_failure is None else now - self._first_failure

    def answered(self) -> bool:
        """Count an answer; returns whether it ends a pause."""
        ends_pause = self._is_open
        self._in_a_row = self._probes = 0
        self._first_failure = None
        return ends_pause

    def failed(self, problem: str, begun: float, now: float, probe: bool = False, counts: bool = True) -> None:
        """Count a failed call that was sent at the time `begun`; `counts`: whether it speaks against the endpoint."""
        if self._first_failure is None:
            self._first_failure = now
        if not counts:
            return
        was_open = self._is_open
        self.problem = problem
        if begun >= self._first_failure or not self._in_a_row:
            self._in_a_row += 1
        self._probes += probe
        if probe or (self._is_open and not was_open):
            self._until = now + self._seconds

    def give_up(self, problem: str) -> None:
        """Take the endpoint for given up at once."""
        self._in_a_row, self._probes, self.problem = self._most, _PROBES, problem

    def try_again(self) -> None:
        """Allow one more probe to an endpoint that was given up."""
        if self.given_up:
            self._probes, self._until = _PROBES - 1, 0.0


class Rates:
    """Calls and tokens a minute, spread evenly: no more than a second's worth of calls is sent at once."""

    def __init__(self, calls: float | None, tokens: float | None) -> None:
        self.share = 1.0  # of both rates that this process may use
        period = max(1.0, 60 / calls) if calls else 1.0
        self._calls = AsyncLimiter(calls * period / 60, period) if calls else None
        self._tokens = AsyncLimiter(max(tokens / 60, 1.0), 1 if tokens >= 60 else 60 / tokens) if tokens else None

    async def take(self, request: Request) -> None:
        """Wait until a call for `request` may be sent."""
        for limiter, amount in ((self._calls, 1), (self._tokens, tokens_at_most([request]))):
            remaining = amount / self.share if limiter else 0.0
            while limiter and remaining > 0:
                part = min(remaining, limiter.max_rate)
                await limiter.acquire(part)
                remaining -= part


class Limits:
    """All limits on the calls to one model at an endpoint."""

    def __init__(self, endpoint: Endpoint, hold: Hold) -> None:
        self.hold = hold
        self.concurrency = AdaptiveConcurrency(endpoint.concurrency)
        self.breaker = Breaker(endpoint.breaker, endpoint.breaker_seconds)
        self.rates = Rates(endpoint.requests_per_minute, endpoint.tokens_per_minute)


def tokens_at_most(requests: Iterable[Request]) -> int:
    """An estimate of the tokens that requests take, before they are sent: the prompt by its length, and max_tokens."""
    return sum(
        sum(len(message["content"]) // _CHARS_A_TOKEN + 4 for message in request.messages) + request.sampling.max_tokens
        for request in requests
    )
