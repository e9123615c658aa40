"""The engines of a process: one for each model at an endpoint, so that all members and judges share its limits.

Engines run in an event loop that has a thread of its own. Those that may have many calls in progress run in another
process, so that a second core does the work of the calls: a third of all work against a fast endpoint.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine, Sequence

from pairsmith.config import Endpoint
from pairsmith.config.plugins import code_hashes
from pairsmith.ledger.replies import Account
from pairsmith.llms.endpoint.engine import EndpointEngine
from pairsmith.llms.endpoint.holds import Hold, Holds, Limited
from pairsmith.llms.endpoint.jobs import Deliver, GatheringSink, Job, ReplySink
from pairsmith.llms.endpoint.keys import key_of
from pairsmith.llms.endpoint.remote_engine import EngineProcess, RemoteEngine
from pairsmith.protocol import Request
from pairsmith.session import Session

MANY_CALLS = 32  # at a time; an engine that may have more runs in another process
GOODBYE_SECONDS = 2.0  # that connections may take to close


class ThreadEngine:
    """An engine in this process's event loop, as other threads see it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, model: str, key: str, hold: Hold) -> None:
        self._loop, self._engine = loop, EndpointEngine(endpoint, model, key, loop, hold)

    def divide(self, share: float) -> None:
        """Use no more than this share of the endpoint's rates; other processes have the rest."""
        self._loop.call_soon_threadsafe(self._engine.divide, share)

    def ask(self, requests: Sequence[Request], deliver: Deliver, account: Account | None = None) -> ThreadStream:
        """Send all of `requests`; the event loop calls `deliver` with their outcomes. `account`: who pays."""
        sink = GatheringSink(deliver, account is not None and account.is_bounded)
        jobs = [Job(index, request, sink) for index, request in enumerate(requests)]
        self._loop.call_soon_threadsafe(self._engine.add, jobs)
        return ThreadStream(self._loop, self._engine, jobs, sink)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.close()


class ThreadStream:
    """Requests that an engine of this process works on for one thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, engine: EndpointEngine, jobs: list[Job], sink: ReplySink
    ) -> None:
        self._loop, self._engine, self._jobs, self._sink = loop, engine, jobs, sink

    def recorded(self, replies: int) -> None:
        """Tell the engine that so many more replies are in the ledger."""
        self._loop.call_soon_threadsafe(self._engine.recorded, self._sink, replies)

    def cancel(self) -> None:
        """Drop the requests that have no reply yet."""
        self._loop.call_soon_threadsafe(self._engine.cancel, self._jobs, self._sink)


class EndpointEngines:
    """All engines of a process. Opens the event loop and the other process when they are needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[tuple[str, ...], ThreadEngine | RemoteEngine] = {}
        self._holds = Holds(self._tell_process)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process: EngineProcess | None = None
        atexit.register(self.close)

    def engine_for(self, endpoint: Endpoint, model: str, key: str) -> ThreadEngine | RemoteEngine:
        """The engine for a model at an endpoint; a new one where the process of the last one has ended."""
        name = (endpoint.model_dump_json(), model, key, *code_hashes(endpoint))
        with self._lock:
            known = self._engines.get(name)
            if known is None or (isinstance(known, RemoteEngine) and known.has_ended):
                known = self._engines[name] = self._opened(endpoint, model, key)
            return known

    def _opened(self, endpoint: Endpoint, model: str, key: str) -> ThreadEngine | RemoteEngine:
        if endpoint.concurrency <= MANY_CALLS:
            return ThreadEngine(self._running_loop(), endpoint, model, key, self._holds.of(endpoint, model, key))
        if self._process is None or self._process.has_ended:
            self._process = EngineProcess(self._holds)
            for hold in self._holds.under_way():
                self._process.hold(*hold)
        return RemoteEngine(self._process, endpoint, model, key)

    def _tell_process(self, limited: Limited, seconds: float, problem: str) -> None:
        if process := self._process:
            process.hold(limited, seconds, problem)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="endpoints", daemon=True)
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Close connections, end the event loop and the other process."""
        atexit.unregister(self.close)
        with self._lock:
            engines, loop, process = list(self._engines.values()), self._loop, self._process
            self._engines, self._loop, self._process = {}, None, None
        if process:
            process.close()
        if loop and self._thread:
            closing = [engine.close() for engine in engines if isinstance(engine, ThreadEngine)]
            asyncio.run_coroutine_threadsafe(_gather(closing), loop).result(GOODBYE_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()


async def _gather(closing: Sequence[Coroutine[None, None, None]]) -> None:
    await asyncio.gather(*closing)


def engine_for(endpoint: Endpoint, model: str, session: Session) -> ThreadEngine | RemoteEngine:
    """The engine for a model at an endpoint, which all sessions of this process share."""
    engines = session.share("engines", EndpointEngines, EndpointEngines.close)
    return engines.engine_for(endpoint, model, key_of(endpoint, session))
