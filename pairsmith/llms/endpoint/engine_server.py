"""The process in which engines run: requests come in and outcomes go out as lines of JSON.

    python -m pairsmith.llms.endpoint.engine_server

`remote_engine` starts it and says what goes in and out. Engines with many calls at a time run here, so that Python's
lock does not bind calls and tables to one core.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from pairsmith import errors
from pairsmith.config import Endpoint, Sampling
from pairsmith.errors import DataError
from pairsmith.ledger.replies import Account, Entry, open_ledger, storable
from pairsmith.llms.endpoint.engine import Arrivals, Engine, Gathered, Job, Outcome
from pairsmith.memory import frugal_memory
from pairsmith.protocol import Reply, Request
from pairsmith.session import Session

_LONGEST = 1 << 30  # bytes of a line
SAID_SECONDS = 0.02  # between the moments at which what is recorded is said: nobody is in a hurry for it
log = logging.getLogger(__name__)
_REPLY = tuple(Reply.__dataclass_fields__)


def read_outcome(told: list[Any]) -> Outcome:
    if told[0] is None:
        return getattr(errors, told[1], RuntimeError)(told[2])
    return told[0], Reply(*told[1:])


def _told(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, BaseException):
        return [None, type(outcome).__name__, str(outcome)]
    index, reply = outcome
    return [index, *(getattr(reply, name) for name in _REPLY)]


class _Output:
    """Where outcomes are said, a line at a time, from any thread."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines, self._lock = lines, threading.Lock()

    def say(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        line = json.dumps([(stream, _told(outcome)) for stream, outcome in outcomes]).encode() + b"\n"
        with self._lock:
            self._lines.write(line)
            self._lines.flush()


class _Recorder:
    """Records outcomes of all streams, those that come while it writes together in the next go, and then says them."""

    def __init__(self, output: _Output) -> None:
        self._output, self._session = output, Session()
        self._waiting: list[tuple[_Recorded, Outcome]] = []
        self._done: list[tuple[int, Outcome]] = []
        self._writer, self._speaker = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None
        self._says: asyncio.TimerHandle | None = None

    def take(self, arrived: _Recorded, outcome: Outcome) -> None:
        self._waiting.append((arrived, outcome))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            recorded = await loop.run_in_executor(self._writer, _record, group, self._session)  # raises nothing
            self._done += recorded  # in two steps: what was there before the wait may have been said meanwhile
            for arrived, count in Counter(arrived for arrived, _ in group).items():
                arrived.give_back(count)
            if self._says is None:
                self._says = loop.call_later(SAID_SECONDS, self._say)
        self._task = None

    def _say(self) -> None:
        self._says, done, self._done = None, self._done, []
        asyncio.get_running_loop().run_in_executor(self._speaker, self._output.say, done)


class _Recorded(Arrivals):
    """Hands the outcomes of a stream over to be recorded, and then to who waits for them."""

    def __init__(self, stream: int, engine: Engine, recorder: _Recorder, account: Account, keys: Sequence[str]) -> None:
        super().__init__()
        self.stream, self.account, self.keys = stream, account, keys
        self._engine, self._recorder = engine, recorder

    def put(self, outcome: Outcome) -> None:
        self._recorder.take(self, outcome)

    def give_back(self, places: int) -> None:
        self._engine.recorded(self, places)


def _record(group: list[tuple[_Recorded, Outcome]], session: Session) -> list[tuple[int, Outcome]]:
    """Make the replies of a group durable; returns the outcomes by stream, a ledger's error in place of its replies."""
    done: list[tuple[int, Outcome]] = [
        (arrived.stream, outcome) for arrived, outcome in group if isinstance(outcome, BaseException)
    ]
    replies = [(arrived, outcome) for arrived, outcome in group if not isinstance(outcome, BaseException)]
    for url in {arrived.account.ledger for arrived, _ in replies}:
        part = [(arrived, outcome) for arrived, outcome in replies if arrived.account.ledger == url]
        entries = [Entry(arrived.account, arrived.keys[index], storable(reply)) for arrived, (index, reply) in part]
        try:
            kept: list[Reply | DataError] = [*open_ledger(url, session).record(entries)]
        except Exception as error:
            told = str(error) if isinstance(error, DataError) else f"ledger: {type(error).__name__}: {error}"
            kept = [DataError(told)] * len(entries)
        for (arrived, (index, _)), now in zip(part, kept, strict=True):
            done.append((arrived.stream, now if isinstance(now, DataError) else (index, now)))
    return done


class _Serving:
    """The other process's side."""

    def __init__(self, output: _Output) -> None:
        self._output = output
        self._engines: dict[int, Engine] = {}
        self._streams: dict[int, tuple[Engine, list[Job], Arrivals]] = {}
        self._recorder = _Recorder(output)
        self._broken: dict[int, Exception] = {}  # engines that could not be opened

    def heed(self, message: dict[str, Any]) -> None:
        """Do as told; what goes wrong in it is said to those who wait for it, and to nobody else."""
        try:
            self._heed(**message)
        except Exception as error:
            log.exception("a message could not be heeded")
            if message["what"] == "open":
                self._broken[message["engine"]] = error
            elif message["what"] == "ask":
                cause = self._broken.get(message["engine"], error)
                self._output.say([(message["stream"], cause)] * len(message["requests"]))

    def _heed(self, what: str, engine: int = -1, stream: int = -1, **more: Any) -> None:
        if what == "open":
            endpoint = Endpoint.model_validate(more["endpoint"])
            self._engines[engine] = Engine(endpoint, more["model"], more["key"], asyncio.get_running_loop())
        elif what == "divide":
            self._engines[engine].divide(more["share"])
        elif what == "ask":
            self._ask(self._engines[engine], stream, **more)
        elif stream in self._streams:
            asked, jobs, arrived = self._streams[stream]
            if what == "recorded":
                asked.recorded(arrived, more["replies"])
            else:
                asked.leave(jobs, arrived)
                del self._streams[stream]

    def _ask(
        self, engine: Engine, stream: int, samplings: list[Any], requests: list[Any], kept: dict[str, Any] | None
    ) -> None:
        known = [Sampling.model_validate(sampling) for sampling in samplings]
        arrived: Arrivals
        if kept:
            account = TypeAdapter(Account).validate_python(kept["account"])
            arrived = _Recorded(stream, engine, self._recorder, account, kept["keys"])
        else:
            arrived = Gathered(lambda outcomes: self._output.say([(stream, outcome) for outcome in outcomes]))
        jobs = []
        for index, (sampling, messages, seed, sample, schema, choices) in enumerate(requests):
            request = Request(tuple(messages), known[sampling], seed, sample, schema, choices and tuple(choices))
            jobs.append(Job(index, request, arrived))
        self._streams[stream] = (engine, jobs, arrived)
        engine.take_in(jobs)


async def _serve(output: _Output) -> None:
    reader, serving = asyncio.StreamReader(limit=_LONGEST), _Serving(output)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        serving.heed(json.loads(line))
    os._exit(0)  # with calls in flight or not


if __name__ == "__main__":
    output = _Output(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what others print is no line of ours
    with frugal_memory():
        asyncio.run(_serve(output))
