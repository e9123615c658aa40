"""The engine behind the `openai` backend: a queue of requests for one model at one endpoint, sent within its limits.

Requests are sent first come, first served, and replies are delivered as they arrive. Each call holds a permit. It is
given back once the reply is in the ledger, not when it arrives, so the replies that a killed run can lose, and has to
pay for twice, are never more than the permits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from functools import partial

from pairsmith.config import Endpoint
from pairsmith.llms.endpoint.attempts import Attempts, Waste, held
from pairsmith.llms.endpoint.holds import Hold
from pairsmith.llms.endpoint.jobs import Job, ReplySink
from pairsmith.llms.endpoint.limits import Limits
from pairsmith.protocol import Reply

MOST_STARTED = 4  # times the concurrency: jobs that hold a permit or wait for their next attempt


class EndpointEngine:
    """The queue of requests for one model at one endpoint, and the permits to send them.

    Belongs to one event loop, in which everything but `__init__` is called.
    """

    def __init__(self, endpoint: Endpoint, model: str, key: str, loop: asyncio.AbstractEventLoop, hold: Hold) -> None:
        limits = Limits(endpoint, hold)
        self._loop, self._most_started = loop, MOST_STARTED * endpoint.concurrency
        self._hold, self._deadline = hold, endpoint.deadline
        self._concurrency, self._breaker, self._rates = limits.concurrency, limits.breaker, limits.rates
        self._attempts = Attempts(endpoint, model, key, loop, limits, self._wait_without_permit, self._start_jobs)
        self._queue: deque[Job] = deque()
        self._started: set[Job] = set()
        self._permits = 0  # taken; a job that waits for its next attempt has none
        self._resuming: deque[asyncio.Future[None]] = deque()  # waits for a permit, served before jobs of the queue
        self._timer: asyncio.TimerHandle | None = None  # set for the end of a hold or of the breaker's pause

    async def close(self) -> None:
        """Close the connections."""
        await self._attempts.close()

    def divide(self, share: float) -> None:
        """Use no more than this share of the endpoint's rates; other processes have the rest."""
        self._rates.share = share

    def add(self, jobs: list[Job]) -> None:
        """Put jobs at the end of the queue."""
        self._breaker.try_again()
        self._queue += jobs
        self._start_jobs()

    def recorded(self, sink: ReplySink, replies: int) -> None:
        """Give back the permits of so many replies, which are in the ledger now."""
        given_back = min(replies, sink.unrecorded)
        sink.unrecorded -= given_back
        self._permits -= given_back
        self._start_jobs()

    def cancel(self, jobs: list[Job], sink: ReplySink) -> None:
        """Drop the jobs of a stream that nobody waits for any more."""
        sink.is_cancelled = True
        dropped = set(jobs)
        self._queue = deque(job for job in self._queue if job not in dropped)
        for job in dropped & self._started:
            if job.task:
                job.task.cancel()
        self.recorded(sink, sink.unrecorded)

    def _start_jobs(self) -> None:
        """Start as many waiting jobs as the limits allow."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._breaker.given_up:
            self._end_queue(self._attempts.down())
        now = self._loop.time()
        if (seconds := self._hold.remaining()) > self._deadline:
            self._end_queue(held(self._hold))  # those that wait for a permit get one, and give up with it
        elif seconds:
            self._timer = self._loop.call_later(seconds, self._start_jobs)
            return
        while self._permits < self._concurrency.limit:
            while self._resuming and self._resuming[0].done():  # cancelled
                self._resuming.popleft()
            if self._resuming:
                self._permits += 1
                self._resuming.popleft().set_result(None)
                continue
            if not self._queue or len(self._started) >= self._most_started:
                return
            if pause := self._breaker.pause(now):
                self._timer = self._loop.call_later(pause, self._start_jobs)
                return
            self._permits += 1
            job = self._queue.popleft()
            self._started.add(job)
            job.task = self._loop.create_task(self._work(job, self._breaker.let_out(now)))
            job.task.add_done_callback(partial(self._ended, job))

    async def _wait_without_permit(self, seconds: float, until: asyncio.Future[None] | None) -> None:
        """Give the permit up, wait so many seconds or for `until`, then wait for a permit again."""
        permit = self._loop.create_future()
        self._permits -= 1
        self._start_jobs()
        try:
            await asyncio.wait([until or permit], timeout=seconds)
            self._resuming.append(permit)
            self._start_jobs()
            await permit
        except asyncio.CancelledError:
            if not permit.done() or permit.cancelled():
                self._permits += 1  # `_ended` will give it back
            raise

    def _end_queue(self, outcome: Reply | BaseException) -> None:
        for job in self._queue:
            job.sink.put(outcome if isinstance(outcome, BaseException) else (job.index, outcome))
        self._queue.clear()

    async def _work(self, job: Job, probe: bool) -> None:
        try:
            waste = Waste(job.request, job.sink.is_bounded, lambda bill: job.sink.put((job.index, bill)))
            reply = await self._attempts.ask(job.request, probe, waste)
            if waste.retries or any(waste.tokens):
                reply = replace(reply, wasted=waste.tokens, retries=waste.retries)
            job.sink.put((job.index, reply))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            job.sink.put(error)
            self._end_queue(error)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        """Keep a job's permit until its reply is recorded, or give it back at once where nobody waits for the reply."""
        self._started.discard(job)
        if task.cancelled() or job.sink.is_cancelled:
            self._permits -= 1
        else:
            job.sink.unrecorded += 1
        self._start_jobs()
