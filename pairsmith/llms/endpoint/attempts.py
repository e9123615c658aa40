"""The attempts to get a reply for one request from an endpoint, and what each answer or failure means.

After a passing failure (429, 5xx, a broken connection) the request is sent again with jitter and only within the
deadline. Until the time that Retry-After says, neither it nor any other request is sent. A wrong key, model or URL
stops the run. Any other refusal is an error of that request alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError
from pairsmith.llms.bills import bill_of, most_of, said
from pairsmith.llms.endpoint.holds import Hold
from pairsmith.llms.endpoint.limits import Limits
from pairsmith.llms.endpoint.reach import NotReached, Reach
from pairsmith.llms.endpoint.told_errors import error_in, is_final, is_without_money
from pairsmith.llms.endpoint.wire import (
    PASSING,
    STOPPING,
    BrokenAnswer,
    Unreached,
    body_of,
    mend_hint,
    moved_hint,
    readout_hint,
    reply_of,
    retry_after,
    unread_bill,
)
from pairsmith.protocol import Bill, Reply, Request

OVERLOADED = {429, 503, 529}
LONGEST_WAIT = 5.0  # seconds until the next attempt, unless the endpoint asks for more

WaitWithoutPermit = Callable[[float, asyncio.Future[None] | None], Coroutine[Any, Any, None]]


class PassingFailure(Exception):
    """An attempt that failed where another may succeed.

    `wait`: seconds that the endpoint asks to wait. `noted`: whether the limits have counted this failure.
    """

    def __init__(self, problem: str, wait: float = 0.0, overloaded: bool = False, noted: bool = True) -> None:
        super().__init__(problem)
        self.wait, self.overloaded, self.noted = wait, overloaded, noted


def backoff(failing: float) -> float:
    """Seconds until the next attempt at an endpoint that has been failing for so many seconds, with jitter.

    The wait doubles with each attempt while the endpoint answers nobody, or refuses many calls for overload. A single
    call that failed at an endpoint that answers others is sent again soon, within the same limit on concurrent calls.
    """
    return min(failing, LONGEST_WAIT) * random.uniform(1.0, 1.25) + random.uniform(0.01, 0.1)


def held(hold: Hold) -> Reply:
    """The reply to a request that is not sent, since the endpoint says to wait longer than the deadline."""
    return Reply("", error=f"not asked, {_too_long(hold.remaining())}: {hold.problem}")


def _too_long(seconds: float) -> str:
    return f"told to wait {seconds:g} s, longer than the deadline"


@dataclass
class Waste:
    """What answers to one request cost in which there was no reply. Each is passed to `note` at once. `sent`: how
    often the request was sent.

    A budget reserves twice what a request can cost. Where one holds (`is_bounded`), the request is sent again as long
    as these answers cost no more together than one answer can.
    """

    request: Request
    is_bounded: bool
    note: Callable[[Bill], None]
    tokens: tuple[int, int] = (0, 0)  # of the prompt and of the answers
    sent: int = 0

    def add(self, bill: Bill) -> None:
        self.tokens = (self.tokens[0] + bill.n_prompt_tokens, self.tokens[1] + bill.n_tokens)
        self.note(bill)

    @property
    def retries(self) -> int:
        """How often the request was sent again."""
        return max(self.sent - 1, 0)

    @property
    def is_too_much(self) -> bool:
        """Whether another attempt could cost more than was reserved."""
        pairs = zip(self.tokens, most_of(self.request), strict=True)
        return self.is_bounded and any(wasted > most for wasted, most in pairs)


@dataclass(frozen=True)
class SentCall:
    """When a call was sent, and whether it is the probe that finds out whether the endpoint is back."""

    at: float
    is_probe: bool


class Attempts:
    """Sends the requests for one model to one endpoint, and notes in its limits how each call ended.

    Belongs to the engine's event loop. `wait` waits without holding a permit for a call, and returns with one;
    `start_jobs` starts what changed limits allow.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        key: str,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        wait: WaitWithoutPermit,
        start_jobs: Callable[[], None],
    ) -> None:
        from pairsmith.llms.endpoint.client import Client

        self._endpoint, self._model, self._loop = endpoint, model, loop
        self._client = Client(endpoint, model, key)
        self._concurrency, self._breaker, self._rates = limits.concurrency, limits.breaker, limits.rates
        self._hold = limits.hold
        self._wait, self._start_jobs = wait, start_jobs
        self._has_answered, self._reach = False, Reach(endpoint, model)
        self._reopened: asyncio.Future[None] = loop.create_future()  # done when the breaker's pause ends

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def down(self) -> Reply:
        """The reply to a request that is not sent, since the endpoint was given up."""
        if not self._reach.has_answered and self._reach.problem:
            return self._reach.gave_up()
        return Reply("", error=f"not asked, the endpoint is down: {self._breaker.problem}")

    async def ask(self, request: Request, probe: bool, waste: Waste) -> Reply:
        """One reply; waits first for an endpoint that has never answered, as long as the recipe says."""
        while True:
            try:
                return await self._ask(request, probe, waste)
            except NotReached as failure:
                now = self._loop.time()
                if self._breaker.given_up or not self._reach.goes_on(str(failure), now):
                    self._breaker.give_up(self._reach.problem)
                    self._reopen()
                    return self._reach.gave_up()
            await self._wait(backoff(self._reach.waited(now)), self._reopened)

    async def _ask(self, request: Request, probe: bool, waste: Waste) -> Reply:
        """One reply within the deadline, after as many attempts as the recipe and the budget allow."""
        await self._rates.take(request)  # before the deadline begins: this is no wait for the endpoint
        deadline, begun = self._endpoint.deadline, self._loop.time()
        ends, last = begun + deadline, PassingFailure("none was answered", noted=False)
        try:
            async with asyncio.timeout_at(ends):
                for remaining in reversed(range(self._endpoint.attempts)):
                    try:
                        return await self._attempt(request, probe, ends, waste)
                    except PassingFailure as failure:
                        probe, last = False, failure
                    if waste.is_too_much:
                        return Reply("", error=f"no more attempts within the budget; the last: {last}")
                    if self._loop.time() + last.wait > ends:
                        raise TimeoutError
                    if remaining:
                        await self._wait(max(last.wait, backoff(self._failing_for(self._loop.time()))), None)
                        await self._rates.take(request)
            problem = f"{self._endpoint.attempts} attempts failed; the last: {last}"
        except TimeoutError:
            late = f"no answer within {deadline:g} s; last problem: {last}"
            problem = f"{_too_long(last.wait)}: {last}" if last.wait else late
        if last.overloaded or not last.noted:
            self._breaker.failed(problem, self._loop.time() if last.noted else begun, self._loop.time(), probe)
            if self._breaker.given_up:
                self._reopen()
        return Reply("", error=problem)

    async def _attempt(self, request: Request, probe: bool, ends: float, waste: Waste) -> Reply:
        """A reply. Raises PassingFailure where another attempt may help, ConfigError where none can."""
        await self._may_be_called(probe, ends)
        if self._breaker.given_up:
            return self.down()
        sent = SentCall(self._loop.time(), probe or self._breaker.let_out(self._loop.time()))
        body = body_of(request, self._model, self._endpoint.max_tokens_name)
        content, waste.sent = b"", waste.sent + 1
        try:
            status, headers, content = await self._client.post(body)
            self._note_reached(status)
            if not 200 <= status < 300:
                return self._refused(status, headers, content, request, sent)
            answer = json.loads(content)
            if (told := error_in(answer)) and told.status:
                if any(said(answer)):
                    waste.add(unread_bill(request, content, told.words))
                return self._refused(told.status, headers, told.words.encode(), request, sent)
            reply = reply_of(answer, request)
        except (ConnectionError, ValueError, RecursionError) as error:  # a broken connection, or a body that is no JSON
            name = "ConnectionError" if isinstance(error, ConnectionError) else type(error).__name__
            problem = f"{name}: {self._clean(error)}"
            if isinstance(error, Unreached) and not self._reach.has_answered:
                raise NotReached(problem) from None
            if isinstance(error, BrokenAnswer):
                waste.add(bill_of(request, None, error.size, problem=problem))
            elif not isinstance(error, ConnectionError):
                waste.add(unread_bill(request, content, problem))
            self._note_failure(problem, sent)
            raise PassingFailure(problem) from None
        self._has_answered = True
        self._note_answer()
        return reply

    async def _may_be_called(self, probe: bool, ends: float) -> None:
        """Wait until neither the endpoint nor its breaker asks for a pause, which a probe is there to end.

        Raises PassingFailure where the endpoint asks for one that lasts longer than until `ends`.
        """
        while not self._breaker.given_up:
            now = self._loop.time()
            held = self._hold.remaining()
            if now + held > ends:
                raise PassingFailure(self._hold.problem, held)
            if held:
                await self._wait(held, None)
            elif not probe and (pause := self._breaker.pause(now)):
                await self._wait(pause, self._reopened)
            else:
                return

    def _refused(
        self, status: int, headers: Mapping[str, str], content: bytes, request: Request, sent: SentCall
    ) -> Reply:
        """What a status means: send again, stop the run, or an error of this request alone.

        Only a prompt that is too large, or that a filter does not let pass, is refused for good; any other request may
        succeed in a later run, with another setting.
        """
        problem = self._clean(f"status {status}: {content.decode(errors='replace')}")
        is_spent = status == 429 and is_without_money(problem)
        if (status in PASSING or status >= 500) and not is_spent:
            overloaded, wait = status in OVERLOADED, retry_after(headers)
            self._hold.begin(wait, problem)
            self._note_failure(problem, sent, overloaded)
            raise PassingFailure(problem, wait, overloaded)
        if (
            status in STOPPING or is_spent or (status == 403 and not self._has_answered)
        ):  # some use 403 for a prompt they dislike
            hint = self._clean(moved_hint(headers) + mend_hint(status, self._endpoint))
            raise ConfigError(f"endpoint {self._endpoint.base_url}, model {self._model}: {problem}{hint}")
        self._note_answer()
        return Reply("", error=f"refused: {problem}{readout_hint(request)}", final=is_final(status, problem))

    def _failing_for(self, now: float) -> float:
        """Seconds for which the endpoint has answered nobody, or refused many calls for overload."""
        return max(self._breaker.failing(now), self._concurrency.refusing(now))

    def _note_reached(self, status: int) -> None:
        """Send at once what waited for the endpoint, which is there. Raises NotReached where it is starting."""
        if self._reach.is_starting(status):
            raise NotReached(f"status {status}")
        if self._reach.answered(self._loop.time()):
            self._reopen()

    def _note_answer(self) -> None:
        """Count an answer in the limits."""
        self._concurrency.note(False, self._loop.time())
        if self._breaker.answered():
            self._reopen()

    def _note_failure(self, problem: str, sent: SentCall, overloaded: bool = False) -> None:
        """Count a failed call in the limits.

        Overload lowers the concurrency; the breaker counts it only when it ended all attempts of a request.
        """
        self._concurrency.note(overloaded, self._loop.time())
        counts = sent.is_probe or not overloaded
        self._breaker.failed(problem, sent.at, self._loop.time(), sent.is_probe, counts=counts)
        if self._breaker.given_up:
            self._reopen()

    def _reopen(self) -> None:
        """Wake the requests that wait for the breaker's pause to end."""
        self._reopened.set_result(None)
        self._reopened = self._loop.create_future()
        self._start_jobs()

    def _clean(self, error: object) -> str:
        """An error's text, which may quote the request, without the key."""
        return self._client.clean(error)[:500]
