"""The engine behind the `openai` backend: asks one model at one endpoint, within its limits.

Requests wait in a queue and are asked first come, first served; replies are handed over as they arrive, and a call
counts as under way until whoever asked has come back for more: by then its reply is in the ledger. A passing failure
(429, 5xx, a broken connection) is tried again with jitter, never earlier than Retry-After says and within the deadline;
a wrong key, model or URL stops the run; any other refusal is that request's error alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint.keys import without
from pairsmith.llms.endpoint.limits import Adaptive, Breaker, Rates
from pairsmith.llms.endpoint.wire import PATH, STOPPING, body_of, moved_hint, readout_hint, reply_of, retry_after
from pairsmith.protocol import Reply, Request

GATHER_SECONDS = 0.005  # between the moments at which replies are handed over, to be recorded together
MOST_UNDER_WAY = 4  # times the concurrency: jobs that have a place or wait for their next attempt
PASSING = {408, 409, 425, 429}  # and all of 500 and above
OVERLOADED = {429, 503}
LONGEST_WAIT = 5.0  # seconds until another attempt, where the endpoint asks for no more


class Failure(Exception):
    """An attempt that failed in passing. `wait`: seconds that the endpoint asks to wait."""

    def __init__(self, problem: str, wait: float = 0.0, overloaded: bool = False, noted: bool = True) -> None:
        super().__init__(problem)
        self.wait, self.overloaded, self.noted = wait, overloaded, noted


def backoff(bad: float) -> float:
    """Seconds until another attempt: as long as the endpoint has been in a `bad` way, with jitter.

    Waits double with it while it answers nobody, or refuses many for overload; a call that was unlucky at an endpoint
    that answers others goes out soon, within the same limit on calls at a time.
    """
    return min(bad, LONGEST_WAIT) * random.uniform(1.0, 1.25) + random.uniform(0.01, 0.1)


Outcome = tuple[int, Reply] | BaseException
Deliver = Callable[[list[Outcome]], None]


@dataclass(frozen=True)
class Sent:
    """When a call went out, and whether as the one that tries whether the endpoint is back."""

    at: float
    probe: bool


class Arrivals(ABC):
    """Where the outcomes of a stream go. All of it belongs to the event loop.

    `places`: those of answered calls whose replies may not be recorded yet. `left`: nobody waits any more.
    """

    def __init__(self) -> None:
        self.places = 0
        self.left = False

    @abstractmethod
    def put(self, outcome: Outcome) -> None:
        """Take an outcome."""


class Gathered(Arrivals):
    """Hands outcomes over to whoever waits for them, some at a time.

    A thread that woke for each would fight with the loop for Python's lock, and the ledger would commit each alone.
    """

    def __init__(self, deliver: Deliver) -> None:
        super().__init__()
        self._deliver = deliver
        self._gathered: list[Outcome] = []

    def put(self, outcome: Outcome) -> None:
        if not self._gathered:
            loop = asyncio.get_running_loop()
            loop.call_at((loop.time() // GATHER_SECONDS + 1) * GATHER_SECONDS, self._hand_over)  # with other streams'
        self._gathered.append(outcome)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._deliver(gathered)


@dataclass(eq=False)
class Job:
    """A request in an engine's queue, and where its reply goes."""

    index: int
    request: Request
    arrived: Arrivals
    task: asyncio.Task[None] | None = field(default=None)


class Engine:
    """One model at one endpoint: a queue of requests, and the limits on how they are asked.

    Belongs to one event loop, in which everything but `__init__` is called.
    """

    def __init__(self, endpoint: Endpoint, model: str, key: str, loop: asyncio.AbstractEventLoop) -> None:
        from pairsmith.llms.endpoint.client import Client

        self._endpoint, self._model, self._key, self._loop = endpoint, model, key, loop
        self._client = Client(endpoint.base_url, key, endpoint.headers)
        self._queue: deque[Job] = deque()
        self._under_way: set[Job] = set()
        self._calls = 0  # places taken; a job that waits for its next attempt has none
        self._returning: deque[asyncio.Future[None]] = deque()  # those that wait for a place again, served first
        self._places = Adaptive(endpoint.concurrency)
        self._breaker = Breaker(endpoint.breaker, endpoint.breaker_seconds)
        self._wakes: asyncio.TimerHandle | None = None
        self._has_answered = False
        self._reopens: asyncio.Future[None] = loop.create_future()
        self._rates = Rates(endpoint.requests_per_minute, endpoint.tokens_per_minute)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def divide(self, share: float) -> None:
        """Take no more than this share of the endpoint's rates; other processes have the rest."""
        self._rates.share = share

    def take_in(self, jobs: list[Job]) -> None:
        """Put jobs at the end of the queue."""
        self._breaker.try_again()
        self._queue += jobs
        self._pump()

    def recorded(self, arrived: Arrivals, replies: int) -> None:
        """Give the places of calls back whose replies have been dealt with."""
        given_back = min(replies, arrived.places)
        arrived.places -= given_back
        self._calls -= given_back
        self._pump()

    def leave(self, jobs: list[Job], arrived: Arrivals) -> None:
        """Forget what nobody waits for any more."""
        arrived.left = True
        dropped = set(jobs)
        self._queue = deque(job for job in self._queue if job not in dropped)
        for job in dropped & self._under_way:
            if job.task:
                job.task.cancel()
        self.recorded(arrived, arrived.places)

    def _pump(self) -> None:
        """Start as many waiting jobs as the limits allow."""
        if self._wakes:
            self._wakes.cancel()
            self._wakes = None
        if self._breaker.given_up:
            self._end_queue(self._down())
        now = self._loop.time()
        while self._calls < self._places.now:
            while self._returning and self._returning[0].done():  # cancelled
                self._returning.popleft()
            if self._returning:
                self._calls += 1
                self._returning.popleft().set_result(None)
                continue
            if not self._queue or len(self._under_way) >= MOST_UNDER_WAY * self._endpoint.concurrency:
                return
            if pause := self._breaker.pause(now):
                self._wakes = self._loop.call_later(pause, self._pump)
                return
            self._calls += 1
            job = self._queue.popleft()
            self._under_way.add(job)
            job.task = self._loop.create_task(self._work(job, self._breaker.let_out(now)))
            job.task.add_done_callback(partial(self._ended, job))

    async def _step_aside(self, seconds: float, unless: asyncio.Future[None] | None = None) -> None:
        """Wait for the next attempt, or until `unless` is done, without a place, then for a place."""
        place = self._loop.create_future()
        self._calls -= 1
        self._pump()
        try:
            await asyncio.wait([unless or place], timeout=seconds)
            self._returning.append(place)
            self._pump()
            await place
        except asyncio.CancelledError:
            if not place.done() or place.cancelled():
                self._calls += 1  # for the end of the work to give back
            raise

    def _end_queue(self, outcome: Reply | BaseException) -> None:
        for job in self._queue:
            job.arrived.put(outcome if isinstance(outcome, BaseException) else (job.index, outcome))
        self._queue.clear()

    async def _work(self, job: Job, probe: bool) -> None:
        try:
            job.arrived.put((job.index, await self._ask(job.request, probe)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            job.arrived.put(error)
            self._end_queue(error)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        """A job's place goes with its reply; only one whose reply nobody waits for gives it back at once."""
        self._under_way.discard(job)
        if task.cancelled() or job.arrived.left:
            self._calls -= 1
        else:
            job.arrived.places += 1
        self._pump()

    async def _ask(self, request: Request, probe: bool) -> Reply:
        """One reply within the deadline, after as many attempts as the recipe allows."""
        await self._rates.take(request)  # in its turn, which is no wait for a reply
        deadline, begun = self._endpoint.deadline, self._loop.time()
        ends, last = begun + deadline, Failure("none was answered", noted=False)
        try:
            async with asyncio.timeout_at(ends):
                for left in reversed(range(self._endpoint.attempts)):
                    try:
                        return await self._attempt(request, probe)
                    except Failure as failure:
                        probe, last = False, failure
                    if self._loop.time() + last.wait > ends:
                        raise TimeoutError
                    if left:
                        await self._step_aside(max(last.wait, backoff(self._bad(self._loop.time()))))
                        await self._rates.take(request)
            problem = f"{self._endpoint.attempts} attempts failed; the last: {last}"
        except TimeoutError:
            late = f"no answer within {deadline:g} s; last problem: {last}"
            problem = f"told to wait {last.wait:g} s, longer than the deadline: {last}" if last.wait else late
        if last.overloaded or not last.noted:
            self._breaker.failed(problem, self._loop.time() if last.noted else begun, self._loop.time(), probe)
            if self._breaker.given_up:
                self._reopen()
        return Reply("", error=problem)

    async def _attempt(self, request: Request, probe: bool) -> Reply:
        """A reply. Raises Failure where another attempt may help, ConfigError where none can."""
        while not probe and (pause := self._breaker.pause(self._loop.time())) and not self._breaker.given_up:
            await self._step_aside(pause, self._reopens)
        if self._breaker.given_up:
            return self._down()
        sent = Sent(self._loop.time(), probe or self._breaker.let_out(self._loop.time()))
        body = body_of(request, self._model, self._endpoint.max_tokens_name)
        try:
            status, headers, content = await self._client.post(PATH, body)
            if not 200 <= status < 300:
                return self._refused(status, headers, content, request, sent)
            reply = reply_of(json.loads(content), request)
        except (ConnectionError, ValueError, RecursionError) as error:  # broken connections, answers that are no JSON
            problem = f"{type(error).__name__}: {self._clean(error)}"
            self._failed(problem, sent)
            raise Failure(problem) from None
        self._has_answered = True
        self._answered()
        return reply

    def _down(self) -> Reply:
        return Reply("", error=f"not asked, the endpoint is down: {self._breaker.problem}")

    def _refused(self, status: int, headers: Mapping[str, str], content: bytes, request: Request, sent: Sent) -> Reply:
        """What a status means: try again, stop the run, or an error of this request alone.

        Only a prompt that is too large is refused for good; another setting may make the rest work on the next run.
        """
        problem = self._clean(f"status {status}: {content.decode(errors='replace')}")
        if status in PASSING or status >= 500:
            overloaded = status in OVERLOADED
            self._failed(problem, sent, overloaded)
            raise Failure(problem, retry_after(headers), overloaded)
        if status in STOPPING or (status == 403 and not self._has_answered):  # some use 403 for a prompt they dislike
            told = (
                f"endpoint {self._endpoint.base_url}, model {self._model}: {problem}{self._clean(moved_hint(headers))}"
            )
            raise ConfigError(told)
        self._answered()
        too_large = status == 413 or "context length" in problem.lower()
        return Reply("", error=f"refused: {problem}{readout_hint(request)}", final=too_large)

    def _bad(self, now: float) -> float:
        """Seconds in which the endpoint has answered nobody, or refused many for overload."""
        return max(self._breaker.failing(now), self._places.refusing(now))

    def _answered(self) -> None:
        """An answer came: what the limits make of it."""
        self._places.note(False, self._loop.time())
        if self._breaker.answered():
            self._reopen()

    def _failed(self, problem: str, sent: Sent, overloaded: bool = False) -> None:
        """No answer came: what the limits make of it.

        Overload is for the places; the breaker counts it when all attempts of a request ended in it.
        """
        self._places.note(overloaded, self._loop.time())
        self._breaker.failed(problem, sent.at, self._loop.time(), sent.probe, counts=sent.probe or not overloaded)
        if self._breaker.given_up:
            self._reopen()

    def _reopen(self) -> None:
        """Wake those that wait for the endpoint to be back."""
        self._reopens.set_result(None)
        self._reopens = self._loop.create_future()
        self._pump()

    def _clean(self, error: object) -> str:
        """An error's text, which may quote the request, without the key."""
        return without(self._key, error)[:500]
