"""`openai`: any endpoint that speaks OpenAI's chat completions: vLLM, SGLang, TGI, llama.cpp, Ollama, hosted ones.

Members and judges that name the same endpoint and model share an engine, and so its limits. The engines of a process
run in one event loop in a thread of its own. Those that may have many calls under way run in a process of their own:
a second processor core then does what a call costs, a third of all the work against a fast endpoint.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

from pairsmith.config import Endpoint, ModelSpec
from pairsmith.errors import DataError
from pairsmith.ledger.replies import Account
from pairsmith.llms.endpoint.engine import Arrivals, Deliver, Engine, Gathered, Job, Outcome
from pairsmith.llms.endpoint.engine_process import Apart, AskedApart, Gone
from pairsmith.llms.endpoint.keys import key_of
from pairsmith.protocol import Finished, Identity, Request

MANY_CALLS = 32  # at a time, from which on an engine has a process of its own


class OpenAI:
    """The backend; the engine behind it is shared by all that name the same endpoint and model."""

    def __init__(self, spec: ModelSpec, account: Account | None = None) -> None:
        assert spec.endpoint is not None
        self.identity = Identity("openai", spec.model, spec.revision)
        self._spec, self._endpoint, self._account = spec, spec.endpoint, account

    def recording(self, account: Account) -> OpenAI | None:
        """See `ledger.recording`.

        The process that asks records at once: this one may be at work on tables, and a call keeps its place till then.
        """
        is_apart = isinstance(engine_for(self._endpoint, self.identity.model), Apart)
        return OpenAI(self._spec, account) if is_apart else None

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        engine = engine_for(self._endpoint, self.identity.model)
        left, failures = len(requests), list[BaseException]()
        if self._account and isinstance(engine, Apart):
            asked: Asked | AskedApart = engine.ask(requests, outcomes.put, self._account)
        else:
            asked = engine.ask(requests, outcomes.put)
        try:
            while left:
                group = outcomes.get()
                left -= len(group)
                for item in group:
                    if isinstance(item, Gone | DataError):  # what is asked after it could not be kept
                        raise item
                failures += [item for item in group if isinstance(item, BaseException)]
                finished = [item for item in group if not isinstance(item, BaseException)]
                if finished:
                    yield finished
                asked.recorded(len(group))
        finally:
            asked.leave()
        if failures:  # only now: what was in flight beside it has been answered, and paid for
            raise failures[0]


class Here:
    """An engine of this process, as its threads see it."""

    def __init__(self, endpoint: Endpoint, model: str, key: str) -> None:
        self._engine = Engine(endpoint, model, key, loop())

    def divide(self, share: float) -> None:
        """Take no more than this share of the endpoint's rates; other processes have the rest."""
        loop().call_soon_threadsafe(self._engine.divide, share)

    def ask(self, requests: Sequence[Request], deliver: Deliver) -> Asked:
        """Ask all of `requests`; outcomes go to `deliver`, from the event loop."""
        arrived = Gathered(deliver)
        jobs = [Job(index, request, arrived) for index, request in enumerate(requests)]
        loop().call_soon_threadsafe(self._engine.take_in, jobs)
        return Asked(self._engine, jobs, arrived)


class Asked:
    """Requests that an engine of this process works on for one thread."""

    def __init__(self, engine: Engine, jobs: list[Job], arrived: Arrivals) -> None:
        self._engine, self._jobs, self._arrived = engine, jobs, arrived

    def recorded(self, replies: int) -> None:
        """So many of the replies are in the ledger."""
        loop().call_soon_threadsafe(self._engine.recorded, self._arrived, replies)

    def leave(self) -> None:
        """Nobody waits for what is left."""
        loop().call_soon_threadsafe(self._engine.leave, self._jobs, self._arrived)


_lock = threading.Lock()
_engines: dict[tuple[int, str, str, str], Here | Apart] = {}  # by process: one that was forked starts its own


def engine_for(endpoint: Endpoint, model: str) -> Here | Apart:
    """The engine of this process for a model at an endpoint."""
    key = key_of(endpoint)
    name = (os.getpid(), endpoint.model_dump_json(), model, key)
    with _lock:
        known = _engines.get(name)
        if known is None or (isinstance(known, Apart) and known.gone):
            kind = Apart if endpoint.concurrency > MANY_CALLS else Here
            known = _engines[name] = kind(endpoint, model, key)
        return known


def loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process for all endpoints, in a thread of its own."""
    return _loop(os.getpid())


@lru_cache(maxsize=1)
def _loop(_pid: int) -> asyncio.AbstractEventLoop:
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, name="endpoints", daemon=True).start()
    return made
