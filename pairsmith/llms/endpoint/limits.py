"""What holds an endpoint's callers back: how many calls at a time, how many a minute, and none while it is down.

All of it lives in the one event loop that serves the endpoints of a process; times are those of its monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiolimiter import AsyncLimiter

from pairsmith.protocol import Request

_TOLERATED = 0.2  # share of calls refused for overload that is taken for chance
_FEWEST_JUDGED = 16  # answers: of fewer, a large share may be chance
_SETTLES = 1.0  # seconds between two reductions: what is under way was sent before the last one
_PROBES = 3  # failed, one after another, until an endpoint is given up
_CHARS_A_TOKEN = 4


class Adaptive:
    """How many calls may be under way: fewer while the endpoint refuses some for overload, then more again.

    Judged once per as many answers as calls may be under way; a burst of refusals counts once. `refusing` is judged at
    each answer, by the latest dozen or so.
    """

    def __init__(self, most: int) -> None:
        self._most, self._now = most, float(most)
        self._answers = self._refusals = 0
        self._reduced = -_SETTLES
        self._share, self._since = 0.0, 0.0  # of late answers that were refusals; when it became large

    @property
    def now(self) -> int:
        return max(1, int(self._now))

    def refusing(self, now: float) -> float:
        """Seconds in which the endpoint has refused more calls for overload than may be chance."""
        return now - self._since if self._share > _TOLERATED else 0.0

    def note(self, overloaded: bool, now: float) -> None:
        """Note an answer at the time `now`."""
        before, self._share = self._share, self._share + (overloaded - self._share) / _FEWEST_JUDGED
        if before <= _TOLERATED < self._share:
            self._since = now
        self._answers += 1
        self._refusals += overloaded
        if self._answers < max(self.now, _FEWEST_JUDGED):
            return
        share = self._refusals / self._answers
        self._answers = self._refusals = 0
        if share <= _TOLERATED:
            self._now = min(self._now * 1.25 + 1, self._most)
        elif now >= self._reduced + _SETTLES:
            self._now, self._reduced = max(1.0, self._now * (1 - share / 2)), now


class Breaker:
    """Stops calls to an endpoint that fails every time: a pause, one probe, another pause, and after three given up.

    Calls that were under way when the first of them failed count together as one failure: what broke their connections
    may have broken them all at once. Given up is until the next stream of requests, which begins with a probe.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._most, self._seconds = failures, seconds
        self._in_a_row = self._probes = 0
        self._until = 0.0
        self._first: float | None = None  # failure since the last answer
        self.problem = ""

    @property
    def given_up(self) -> bool:
        return self._probes >= _PROBES

    @property
    def _is_open(self) -> bool:
        return self._in_a_row >= self._most

    def pause(self, now: float) -> float:
        """Seconds until the next call may go out; 0 when one may go now."""
        return max(self._until - now, 0.0) if self._is_open else 0.0

    def let_out(self, now: float) -> bool:
        """Note that a call goes out, `pause` being 0; whether it is a probe, beside which no other call goes out."""
        if self._is_open:
            self._until = now + self._seconds
        return self._is_open

    def failing(self, now: float) -> float:
        """Seconds in which the endpoint has answered nobody."""
        return 0.0 if self._first is None else now - self._first

    def answered(self) -> bool:
        """Note that an answer came; whether it ends a pause."""
        ends_pause = self._is_open
        self._in_a_row = self._probes = 0
        self._first = None
        return ends_pause

    def failed(self, problem: str, begun: float, now: float, probe: bool = False, counts: bool = True) -> None:
        """Note that a call which went out at the time `begun` failed, and whether it counts against the endpoint."""
        if self._first is None:
            self._first = now
        if not counts:
            return
        was_open = self._is_open
        self.problem = problem
        if begun >= self._first or not self._in_a_row:
            self._in_a_row += 1
        self._probes += probe
        if probe or (self._is_open and not was_open):
            self._until = now + self._seconds

    def try_again(self) -> None:
        """Allow one more probe to an endpoint that was given up."""
        if self.given_up:
            self._probes, self._until = _PROBES - 1, 0.0


class Rates:
    """Calls and tokens a minute, evened out: no more than a second's worth of calls goes out at once."""

    def __init__(self, calls: float | None, tokens: float | None) -> None:
        self.share = 1.0  # of both that is this process's: what it takes counts for so much more
        period = max(1.0, 60 / calls) if calls else 1.0
        self._calls = AsyncLimiter(calls * period / 60, period) if calls else None
        self._tokens = AsyncLimiter(max(tokens / 60, 1.0), 1 if tokens >= 60 else 60 / tokens) if tokens else None

    async def take(self, request: Request) -> None:
        """Wait until a call for `request` may go out."""
        for limiter, amount in ((self._calls, 1), (self._tokens, tokens_at_most([request]))):
            left = amount / self.share if limiter else 0.0
            while limiter and left > 0:
                part = min(left, limiter.max_rate)
                await limiter.acquire(part)
                left -= part


def tokens_at_most(requests: Iterable[Request]) -> int:
    """Tokens that requests are reckoned at before they are asked: the prompt by its length, and max_tokens."""
    return sum(
        sum(len(message["content"]) // _CHARS_A_TOKEN + 4 for message in request.messages) + request.sampling.max_tokens
        for request in requests
    )
