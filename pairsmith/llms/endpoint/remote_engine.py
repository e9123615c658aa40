"""The client of the engine process: threads of this process send requests there and get outcomes back.

That process also records replies, where a message names the ledger, and reports them once they are durable. It ends
when this one ends, for whatever reason, since its standard input closes then. Nothing is lost with it: calls that were
in progress are sent again by the next run, as after any crash.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from pairsmith.config import Endpoint
from pairsmith.config.plugins import references
from pairsmith.ledger.replies import Account
from pairsmith.llms.endpoint import engine_server
from pairsmith.llms.endpoint.engine_server import read_outcome
from pairsmith.llms.endpoint.holds import Holds, Limited
from pairsmith.llms.endpoint.jobs import Deliver, Outcome
from pairsmith.protocol import Request

GOODBYE_SECONDS = 5.0  # that the process may take to end


class EngineProcessEnded(OSError):
    """The process ended before it had answered all requests; a retry of the task starts another."""


class RemoteEngine:
    """An engine of the engine process, as threads of this process see it."""

    def __init__(self, process: EngineProcess, endpoint: Endpoint, model: str, key: str) -> None:
        self._process = process
        self._number = self._process.new_number()
        own = [reference.folder for _, reference in references(endpoint)]
        self._send(
            "open", endpoint=endpoint.model_dump(mode="json"), model=model, key=key, folder=next(iter(own), None)
        )

    @property
    def has_ended(self) -> bool:
        return self._process.has_ended

    def divide(self, share: float) -> None:
        """Use no more than this share of the endpoint's rates; other processes have the rest."""
        self._send("divide", share=share)

    def ask(
        self, requests: Sequence[Request], deliver: Deliver, account: Account | None = None, recorded: bool = True
    ) -> RemoteStream:
        """Send all of `requests`; a thread calls `deliver` with their outcomes. `account`: who pays; with one, outcomes
        are `recorded` before they are delivered."""
        is_recorded = account is not None and recorded
        stream = RemoteStream(self._process, self._process.new_number(), is_recorded)
        samplings = {id(request.sampling): request.sampling for request in requests}
        numbers = {name: number for number, name in enumerate(samplings)}
        listed = [(numbers[id(r.sampling)], r.messages, r.seed, r.sample, r.schema, r.choices) for r in requests]
        dumped = [sampling.model_dump(mode="json") for sampling in samplings.values()]
        payer = TypeAdapter(Account).dump_python(account, mode="json") if account else None
        keys = [request.key(account.identity) for request in requests] if account and is_recorded else None
        self._process.subscribe(stream.number, deliver)
        self._send("ask", stream=stream.number, samplings=dumped, requests=listed, account=payer, keys=keys)
        return stream

    def _send(self, what: str, **more: Any) -> None:
        self._process.send({"what": what, "engine": self._number, **more})


class RemoteStream:
    """Requests that the engine process works on for one thread of this process."""

    def __init__(self, process: EngineProcess, number: int, is_recorded: bool) -> None:
        self._process, self.number, self._is_recorded = process, number, is_recorded

    def recorded(self, replies: int) -> None:
        """Tell the engine that so many more replies are in the ledger, unless it records them itself."""
        if not self._is_recorded:
            self._process.send({"what": "recorded", "stream": self.number, "replies": replies})

    def cancel(self) -> None:
        """Drop the requests that have no reply yet."""
        self._process.unsubscribe(self.number)
        self._process.send({"what": "cancel", "stream": self.number})


class EngineProcess:
    """The engine process, and the thread that reads its output: outcomes, and holds that begin there."""

    def __init__(self, holds: Holds) -> None:
        self.has_ended, self._holds = False, holds
        self._numbers, self._subscribers = itertools.count(), dict[int, Deliver]()
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            # -P: a module of the same name in the working folder is not imported instead
            [sys.executable, "-P", "-m", engine_server.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal reaches this process alone
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        threading.Thread(target=self._read, name="endpoints", daemon=True).start()

    def new_number(self) -> int:
        """A number that no other engine or stream of the process has."""
        return next(self._numbers)

    def subscribe(self, stream: int, deliver: Deliver) -> None:
        self._subscribers[stream] = deliver

    def unsubscribe(self, stream: int) -> None:
        self._subscribers.pop(stream, None)

    def hold(self, limited: Limited, seconds: float, problem: str) -> None:
        """Tell the process of a hold that began in this one."""
        self.send({"what": "hold", "limited": limited, "seconds": seconds, "problem": problem})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; where the process has ended, all subscribers get that as an error."""
        line = json.dumps(message).encode() + b"\n"
        assert self._child.stdin is not None
        try:
            with self._lock:
                self._child.stdin.write(line)
                self._child.stdin.flush()
        except (OSError, ValueError):
            self._end()
        except BaseException:  # after an interrupt, half a line may have been written
            self._end()
            raise

    def close(self) -> None:
        """End the process; calls in progress are given up."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._end()

    def _read(self) -> None:
        assert self._child.stdout is not None
        try:
            for line in self._child.stdout:
                if not line.endswith(b"\n"):  # cut off, since the process ended
                    break
                message = json.loads(line)
                if isinstance(message, dict):
                    self._holds[tuple(message["limited"])].extend(message["seconds"], message["problem"])
                    continue
                outcomes: dict[int, list[Outcome]] = defaultdict(list)
                for stream, values in message:
                    outcomes[stream].append(read_outcome(values))
                for stream, group in outcomes.items():
                    if deliver := self._subscribers.get(stream):
                        deliver(group)
        finally:
            self._end()

    def _end(self) -> None:
        self.has_ended = True
        for deliver in list(self._subscribers.values()):
            deliver([EngineProcessEnded("the process that asks the endpoints ended")])
