"""The engine process: it reads requests and writes outcomes, as lines of JSON.

    python -m pairsmith.llms.endpoint.engine_server

`remote_engine` starts it and knows the messages. Engines with many calls at a time run here, since in one process
Python's lock would keep calls and tables on one core.
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
from dataclasses import astuple
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from pairsmith import errors
from pairsmith.config import Endpoint, Sampling
from pairsmith.config.plugins import modules_in
from pairsmith.errors import DataError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.replies import Account, Charge, Entry, storable
from pairsmith.llms.endpoint.engine import EndpointEngine
from pairsmith.llms.endpoint.holds import Holds, Limited
from pairsmith.llms.endpoint.jobs import Deliver, GatheringSink, Job, Outcome, ReplySink, replies_in
from pairsmith.memory import frugal_memory
from pairsmith.protocol import Bill, Reply, Request
from pairsmith.session import Session

_LONGEST_LINE = 1 << 30  # bytes
WRITE_SECONDS = 0.02  # between two lines of recorded outcomes: the other process is in no hurry for them
log = logging.getLogger(__name__)
_REPLY = tuple(name for name in Reply.__dataclass_fields__ if name != "bill")


def read_outcome(values: list[Any]) -> Outcome:
    """An outcome from its JSON: its index, a bill or null, and the fields of a reply, which a bill alone has not; or
    null and the name and text of an error."""
    index, said, *fields = values
    if index is None:
        return getattr(errors, said, RuntimeError)(fields[0])
    bill = Bill(*said) if said else None
    if not fields:
        return index, bill or Bill()
    known = dict(zip(_REPLY, fields, strict=True))
    return index, Reply(**known | {"bill": bill, "wasted": tuple(known["wasted"])})


def _as_json(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, BaseException):
        return [None, type(outcome).__name__, str(outcome)]
    index, answer = outcome
    if isinstance(answer, Bill):
        return [index, astuple(answer)]
    return [index, answer.bill and astuple(answer.bill), *(getattr(answer, name) for name in _REPLY)]


class _Output:
    """Writes outcomes and holds, a line at a time, from any thread."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines, self._lock = lines, threading.Lock()

    def write(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        self._write([(stream, _as_json(outcome)) for stream, outcome in outcomes])

    def write_hold(self, limited: Limited, seconds: float, problem: str) -> None:
        self._write({"limited": limited, "seconds": seconds, "problem": problem})

    def _write(self, message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._lines.write(line)
            self._lines.flush()


class _Recorder:
    """Records the outcomes of all streams in ledgers, then writes them to the output.

    Outcomes that arrive during a commit are committed together in the next one.
    """

    def __init__(self, output: _Output) -> None:
        self._output, self._session = output, Session()
        self._waiting: list[tuple[_RecordingSink, Outcome]] = []
        self._done: list[tuple[int, Outcome]] = []  # recorded, not written yet
        self._ledger_thread, self._output_thread = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self, ledger: str) -> None:
        """Open a ledger before anybody is asked: where it cannot be opened, nothing is paid for."""
        open_ledger(ledger, self._session)

    def take(self, sink: _RecordingSink, outcome: Outcome) -> None:
        self._waiting.append((sink, outcome))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            recorded = await loop.run_in_executor(self._ledger_thread, _record, group, self._session)  # raises nothing
            self._done += recorded  # a statement of its own: `_write` may have replaced the list during the wait
            for sink, count in Counter(sink for sink, outcome in group if replies_in([outcome])).items():
                sink.give_back(count)
            if self._timer is None:
                self._timer = loop.call_later(WRITE_SECONDS, self._write)
        self._task = None

    def _write(self) -> None:
        self._timer, done, self._done = None, self._done, []
        asyncio.get_running_loop().run_in_executor(self._output_thread, self._output.write, done)


class _RecordingSink(ReplySink):
    """Passes the outcomes of a stream to the recorder."""

    def __init__(
        self, stream: int, engine: EndpointEngine, recorder: _Recorder, account: Account, keys: Sequence[str]
    ) -> None:
        super().__init__(account.is_bounded)
        self.stream, self.account, self.keys = stream, account, keys
        self._engine, self._recorder = engine, recorder

    def put(self, outcome: Outcome) -> None:
        self._recorder.take(self, outcome)

    def give_back(self, permits: int) -> None:
        self._engine.recorded(self, permits)


def _record(group: list[tuple[_RecordingSink, Outcome]], session: Session) -> list[tuple[int, Outcome]]:
    """Make replies and bills of a group durable. Returns streams and outcomes; where a ledger fails, its error."""
    done: list[tuple[int, Outcome]] = [
        (sink.stream, outcome) for sink, outcome in group if isinstance(outcome, BaseException)
    ]
    answers = [(sink, *outcome) for sink, outcome in group if not isinstance(outcome, BaseException)]
    for url in {sink.account.ledger for sink, _, _ in answers}:
        mine = [answer for answer in answers if answer[0].account.ledger == url]
        part = [(sink, index, reply) for sink, index, reply in mine if isinstance(reply, Reply)]
        entries = [Entry(sink.account, sink.keys[index], storable(reply)) for sink, index, reply in part]
        bills = [Charge(sink.account, sink.keys[index], bill) for sink, index, bill in mine if isinstance(bill, Bill)]
        try:
            stored: list[Reply | DataError] = [*open_ledger(url, session).replies.record(entries, bills)]
        except Exception as error:
            problem = str(error) if isinstance(error, DataError) else f"ledger: {type(error).__name__}: {error}"
            stored = [DataError(problem)] * len(entries)
        for (sink, index, _), result in zip(part, stored, strict=True):
            done.append((sink.stream, result if isinstance(result, DataError) else (index, result)))
    return done


class _Server:
    """The engines and streams of this process, and what each message does to them."""

    def __init__(self, output: _Output) -> None:
        self._output = output
        self._engines: dict[int, EndpointEngine] = {}
        self._holds = Holds(output.write_hold)
        self._streams: dict[int, tuple[EndpointEngine, list[Job], ReplySink]] = {}
        self._recorder = _Recorder(output)
        self._failed: dict[int, Exception] = {}  # why an engine could not be opened

    def handle(self, message: dict[str, Any]) -> None:
        """Do what a message asks for. An error is the outcome of that message's requests, and concerns no others."""
        try:
            self._handle(**message)
        except Exception as error:
            log.exception("a message could not be handled")
            if message["what"] == "open":
                self._failed[message["engine"]] = error
            elif message["what"] == "ask":
                cause = self._failed.get(message["engine"], error)
                self._output.write([(message["stream"], cause)] * len(message["requests"]))

    def _handle(self, what: str, engine: int = -1, stream: int = -1, **more: Any) -> None:
        if what == "open":
            with modules_in(more["folder"]):
                endpoint = Endpoint.model_validate(more["endpoint"])
            hold = self._holds.of(endpoint, more["model"], more["key"])
            loop = asyncio.get_running_loop()
            self._engines[engine] = EndpointEngine(endpoint, more["model"], more["key"], loop, hold)
        elif what == "hold":
            self._holds[tuple(more["limited"])].extend(more["seconds"], more["problem"])
        elif what == "divide":
            self._engines[engine].divide(more["share"])
        elif what == "ask":
            self._ask(self._engines[engine], stream, **more)
        elif stream in self._streams:
            asked, jobs, sink = self._streams[stream]
            if what == "recorded":
                asked.recorded(sink, more["replies"])
            else:
                asked.cancel(jobs, sink)
                del self._streams[stream]

    def _ask(
        self,
        engine: EndpointEngine,
        stream: int,
        samplings: list[Any],
        requests: list[Any],
        account: dict[str, Any] | None,
        keys: list[str] | None,
    ) -> None:
        known = [Sampling.model_validate(sampling) for sampling in samplings]
        payer = TypeAdapter(Account).validate_python(account) if account else None
        sink: ReplySink
        if payer and keys is not None:
            self._recorder.open(payer.ledger)
            sink = _RecordingSink(stream, engine, self._recorder, payer, keys)
        else:
            deliver: Deliver = lambda outcomes: self._output.write([(stream, one) for one in outcomes])  # noqa: E731
            sink = GatheringSink(deliver, payer is not None and payer.is_bounded)
        jobs = []
        for index, (sampling, messages, seed, sample, schema, choices) in enumerate(requests):
            request = Request(tuple(messages), known[sampling], seed, sample, schema, choices and tuple(choices))
            jobs.append(Job(index, request, sink))
        self._streams[stream] = (engine, jobs, sink)
        engine.add(jobs)


async def _serve(output: _Output) -> None:
    reader, server = asyncio.StreamReader(limit=_LONGEST_LINE), _Server(output)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        server.handle(json.loads(line))
    os._exit(0)  # even with calls in progress


if __name__ == "__main__":
    output = _Output(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print must not become one of the lines
    with frugal_memory():
        asyncio.run(_serve(output))
