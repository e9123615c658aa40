"""Engines in a process of their own: requests go there and outcomes come back as lines of JSON.

It also records replies, where it is told in which ledger: whoever asked hears of them when they are durable. The
process ends when the one that started it does, however that ended: its standard input closes then. It holds nothing
that would be lost; what was in flight is asked again by the next run, as after any crash.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from pairsmith import errors
from pairsmith.config import Endpoint, Sampling
from pairsmith.errors import DataError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.replies import Account, Entry, storable
from pairsmith.llms.endpoint.engine import Arrivals, Deliver, Engine, Gathered, Job, Outcome
from pairsmith.memory import frugal_memory
from pairsmith.protocol import Reply, Request

_LONGEST = 1 << 30  # bytes of a line
SAID_SECONDS = 0.02  # between the moments at which what is recorded is said: nobody is in a hurry for it
log = logging.getLogger(__name__)
_lines: BinaryIO  # of the other process; see the end
_saying = threading.Lock()
_REPLY = tuple(Reply.__dataclass_fields__)


class Gone(OSError):
    """The process ended while requests were under way; a rerun of the task starts another."""


class Apart:
    """An engine of the other process, as the threads of this one see it."""

    def __init__(self, endpoint: Endpoint, model: str, key: str) -> None:
        self._process = _process(os.getpid())
        if self._process.gone:
            _process.cache_clear()
            self._process = _process(os.getpid())
        self._number = self._process.number()
        self._tell("open", endpoint=endpoint.model_dump(mode="json"), model=model, key=key)

    @property
    def gone(self) -> bool:
        return self._process.gone

    def divide(self, share: float) -> None:
        """Take no more than this share of the endpoint's rates; other processes have the rest."""
        self._tell("divide", share=share)

    def ask(self, requests: Sequence[Request], deliver: Deliver, account: Account | None = None) -> AskedApart:
        """Ask all of `requests`; outcomes go to `deliver`, from a thread that reads them, recorded in `account`."""
        asked = AskedApart(self._process, self._process.number(), recorded=account is not None)
        samplings = {id(request.sampling): request.sampling for request in requests}
        known = {name: place for place, name in enumerate(samplings)}
        told = [(known[id(r.sampling)], r.messages, r.seed, r.sample, r.schema, r.choices) for r in requests]
        dumped = [sampling.model_dump(mode="json") for sampling in samplings.values()]
        kept = account and {
            "account": TypeAdapter(Account).dump_python(account, mode="json"),
            "keys": [request.key(account.identity) for request in requests],
        }
        self._process.expect(asked.number, deliver)
        self._tell("ask", stream=asked.number, samplings=dumped, requests=told, kept=kept)
        return asked

    def _tell(self, what: str, **more: Any) -> None:
        self._process.tell({"what": what, "engine": self._number, **more})


class AskedApart:
    """Requests that the other process works on for one thread of this one."""

    def __init__(self, process: _Process, number: int, recorded: bool) -> None:
        self._process, self.number, self._recorded = process, number, recorded

    def recorded(self, replies: int) -> None:
        """So many of the replies are in the ledger."""
        if not self._recorded:
            self._process.tell({"what": "recorded", "stream": self.number, "replies": replies})

    def leave(self) -> None:
        """Nobody waits for what is left."""
        self._process.forget(self.number)
        self._process.tell({"what": "leave", "stream": self.number})


class _Process:
    """The other process, and the thread that reads what it says."""

    def __init__(self) -> None:
        self.gone = False
        self._numbers, self._expected = itertools.count(), dict[int, Deliver]()
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],  # -P: no module of the working folder stands in for ours
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is for this process to deal with
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        threading.Thread(target=self._listen, name="endpoints", daemon=True).start()

    def number(self) -> int:
        """A number that nothing else of the process has."""
        return next(self._numbers)

    def expect(self, stream: int, deliver: Deliver) -> None:
        self._expected[stream] = deliver

    def forget(self, stream: int) -> None:
        self._expected.pop(stream, None)

    def tell(self, message: dict[str, Any]) -> None:
        """Say something; what a process that is gone cannot hear is told to those who wait instead."""
        line = json.dumps(message).encode() + b"\n"
        assert self._child.stdin is not None
        try:
            with self._lock:
                self._child.stdin.write(line)
                self._child.stdin.flush()
        except (OSError, ValueError):
            self._end()
        except BaseException:  # an interrupt leaves half a line behind
            self._end()
            raise

    def _listen(self) -> None:
        assert self._child.stdout is not None
        try:
            for line in self._child.stdout:
                if not line.endswith(b"\n"):  # cut off by its end
                    break
                outcomes: dict[int, list[Outcome]] = defaultdict(list)
                for stream, told in json.loads(line):
                    outcomes[stream].append(_outcome(told))
                for stream, some in outcomes.items():
                    if deliver := self._expected.get(stream):
                        deliver(some)
        finally:
            self._end()

    def _end(self) -> None:
        self.gone = True
        for deliver in list(self._expected.values()):
            deliver([Gone("the process that asks the endpoints ended")])


@lru_cache(maxsize=1)
def _process(_pid: int) -> _Process:
    """The process of this one: one that was forked from another starts its own."""
    return _Process()


def _outcome(told: list[Any]) -> Outcome:
    if told[0] is None:
        return getattr(errors, told[1], RuntimeError)(told[2])
    return told[0], Reply(*told[1:])


def _told(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, BaseException):
        return [None, type(outcome).__name__, str(outcome)]
    index, reply = outcome
    return [index, *(getattr(reply, name) for name in _REPLY)]


class _Recorder:
    """Records outcomes of all streams, those that come while it writes together in the next go, and then says them."""

    def __init__(self) -> None:
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
            recorded = await loop.run_in_executor(self._writer, _record, group)  # raises nothing
            self._done += recorded  # in two steps: what was there before the wait may have been said meanwhile
            for arrived, count in Counter(arrived for arrived, _ in group).items():
                arrived.give_back(count)
            if self._says is None:
                self._says = loop.call_later(SAID_SECONDS, self._say)
        self._task = None

    def _say(self) -> None:
        self._says, done, self._done = None, self._done, []
        asyncio.get_running_loop().run_in_executor(self._speaker, _say, done)


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


def _record(group: list[tuple[_Recorded, Outcome]]) -> list[tuple[int, Outcome]]:
    """Make the replies of a group durable; returns the outcomes by stream, a ledger's error in place of its replies."""
    done: list[tuple[int, Outcome]] = [
        (arrived.stream, outcome) for arrived, outcome in group if isinstance(outcome, BaseException)
    ]
    replies = [(arrived, outcome) for arrived, outcome in group if not isinstance(outcome, BaseException)]
    for url in {arrived.account.ledger for arrived, _ in replies}:
        part = [(arrived, outcome) for arrived, outcome in replies if arrived.account.ledger == url]
        entries = [Entry(arrived.account, arrived.keys[index], storable(reply)) for arrived, (index, reply) in part]
        try:
            kept: list[Reply | DataError] = [*open_ledger(url).replies.record(entries)]
        except Exception as error:
            told = str(error) if isinstance(error, DataError) else f"ledger: {type(error).__name__}: {error}"
            kept = [DataError(told)] * len(entries)
        for (arrived, (index, _)), now in zip(part, kept, strict=True):
            done.append((arrived.stream, now if isinstance(now, DataError) else (index, now)))
    return done


class _Serving:
    """The other process's side."""

    def __init__(self) -> None:
        self._engines: dict[int, Engine] = {}
        self._streams: dict[int, tuple[Engine, list[Job], Arrivals]] = {}
        self._recorder = _Recorder()
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
                _say([(message["stream"], cause)] * len(message["requests"]))

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
            arrived = Gathered(lambda outcomes: _say([(stream, outcome) for outcome in outcomes]))
        jobs = []
        for index, (sampling, messages, seed, sample, schema, choices) in enumerate(requests):
            request = Request(tuple(messages), known[sampling], seed, sample, schema, choices and tuple(choices))
            jobs.append(Job(index, request, arrived))
        self._streams[stream] = (engine, jobs, arrived)
        engine.take_in(jobs)


def _say(outcomes: list[tuple[int, Outcome]]) -> None:
    line = json.dumps([(stream, _told(outcome)) for stream, outcome in outcomes]).encode() + b"\n"
    with _saying:
        _lines.write(line)
        _lines.flush()


async def _serve() -> None:
    reader, serving = asyncio.StreamReader(limit=_LONGEST), _Serving()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        serving.heed(json.loads(line))
    os._exit(0)  # with calls in flight or not


if __name__ == "__main__":
    _lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what others print is no line of ours
    with frugal_memory():
        asyncio.run(_serve())
