"""Engines in a process of their own: requests go there and outcomes come back as lines of JSON.

The process ends when the one that started it does, however that ended: its standard input closes then. It holds
nothing that would be lost; what was in flight is asked again by the next run, as after any crash.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pairsmith import errors
from pairsmith.config import Endpoint, Sampling
from pairsmith.llms.base import Reply, Request
from pairsmith.llms.engine import Arrivals, Deliver, Engine, Job, Outcome

_LONGEST = 1 << 30  # bytes of a line
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

    def ask(self, requests: Sequence[Request], deliver: Deliver) -> AskedApart:
        """Ask all of `requests`; outcomes go to `deliver`, from a thread that reads them."""
        asked = AskedApart(self._process, self._process.number())
        samplings = {id(request.sampling): request.sampling for request in requests}
        known = {name: place for place, name in enumerate(samplings)}
        told = [(known[id(r.sampling)], r.messages, r.seed, r.sample, r.schema, r.choices) for r in requests]
        dumped = [sampling.model_dump(mode="json") for sampling in samplings.values()]
        self._process.expect(asked.number, deliver)
        self._tell("ask", stream=asked.number, samplings=dumped, requests=told)
        return asked

    def _tell(self, what: str, **more: Any) -> None:
        self._process.tell({"what": what, "engine": self._number, **more})


class AskedApart:
    """Requests that the other process works on for one thread of this one."""

    def __init__(self, process: _Process, number: int) -> None:
        self._process, self.number = process, number

    def recorded(self, replies: int) -> None:
        """So many of the replies are in the ledger."""
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
            [sys.executable, "-m", __name__],
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

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            stream, outcomes = json.loads(line)
            deliver = self._expected.get(stream)
            if deliver:
                deliver([_outcome(told) for told in outcomes])
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


class _Serving:
    """The other process's side."""

    def __init__(self) -> None:
        self._engines: dict[int, Engine] = {}
        self._streams: dict[int, tuple[Engine, list[Job], Arrivals]] = {}

    def heed(self, what: str, engine: int = -1, stream: int = -1, **more: Any) -> None:
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

    def _ask(self, engine: Engine, stream: int, samplings: list[Any], requests: list[Any]) -> None:
        known = [Sampling.model_validate(sampling) for sampling in samplings]
        arrived = Arrivals(lambda outcomes: _say(stream, outcomes))
        jobs = []
        for index, (sampling, messages, seed, sample, schema, choices) in enumerate(requests):
            request = Request(tuple(messages), known[sampling], seed, sample, schema, choices and tuple(choices))
            jobs.append(Job(index, request, arrived))
        self._streams[stream] = (engine, jobs, arrived)
        engine.take_in(jobs)


def _say(stream: int, outcomes: list[Outcome]) -> None:
    sys.stdout.buffer.write(json.dumps([stream, [_told(outcome) for outcome in outcomes]]).encode() + b"\n")
    sys.stdout.buffer.flush()


async def _serve() -> None:
    reader, serving = asyncio.StreamReader(limit=_LONGEST), _Serving()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        serving.heed(**json.loads(line))
    os._exit(0)  # with calls in flight or not


if __name__ == "__main__":
    asyncio.run(_serve())
