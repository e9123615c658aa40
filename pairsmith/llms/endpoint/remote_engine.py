"""Engines in another process, as the threads of this one see them: requests go there and outcomes come back.

That process also records replies, where it is told in which ledger: whoever asked hears of them when they are durable.
It ends when this one does, however that ended: its standard input closes then. It holds nothing that would be lost;
what was in flight is asked again by the next run, as after any crash.
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
from pairsmith.ledger.replies import Account
from pairsmith.llms.endpoint import engine_server
from pairsmith.llms.endpoint.engine import Deliver, Outcome
from pairsmith.llms.endpoint.engine_server import read_outcome
from pairsmith.protocol import Request

GOODBYE_SECONDS = 5.0  # that the process may take to end


class Gone(OSError):
    """The process ended while requests were under way; a rerun of the task starts another."""


class RemoteEngine:
    """An engine of the other process, as the threads of this one see it."""

    def __init__(self, process: EngineProcess, endpoint: Endpoint, model: str, key: str) -> None:
        self._process = process
        self._number = self._process.number()
        self._tell("open", endpoint=endpoint.model_dump(mode="json"), model=model, key=key)

    @property
    def gone(self) -> bool:
        return self._process.gone

    def divide(self, share: float) -> None:
        """Take no more than this share of the endpoint's rates; other processes have the rest."""
        self._tell("divide", share=share)

    def ask(self, requests: Sequence[Request], deliver: Deliver, account: Account | None = None) -> RemoteStream:
        """Ask all of `requests`; outcomes go to `deliver`, from a thread that reads them, recorded in `account`."""
        asked = RemoteStream(self._process, self._process.number(), recorded=account is not None)
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


class RemoteStream:
    """Requests that the other process works on for one thread of this one."""

    def __init__(self, process: EngineProcess, number: int, recorded: bool) -> None:
        self._process, self.number, self._recorded = process, number, recorded

    def recorded(self, replies: int) -> None:
        """So many of the replies are in the ledger."""
        if not self._recorded:
            self._process.tell({"what": "recorded", "stream": self.number, "replies": replies})

    def leave(self) -> None:
        """Nobody waits for what is left."""
        self._process.forget(self.number)
        self._process.tell({"what": "leave", "stream": self.number})


class EngineProcess:
    """The other process, and the thread that reads what it says."""

    def __init__(self) -> None:
        self.gone = False
        self._numbers, self._expected = itertools.count(), dict[int, Deliver]()
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                engine_server.__name__,
            ],  # -P: no module of the working folder stands in for ours
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

    def close(self) -> None:
        """Let the process end; what is in flight there is given up."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._end()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        try:
            for line in self._child.stdout:
                if not line.endswith(b"\n"):  # cut off by its end
                    break
                outcomes: dict[int, list[Outcome]] = defaultdict(list)
                for stream, told in json.loads(line):
                    outcomes[stream].append(read_outcome(told))
                for stream, some in outcomes.items():
                    if deliver := self._expected.get(stream):
                        deliver(some)
        finally:
            self._end()

    def _end(self) -> None:
        self.gone = True
        for deliver in list(self._expected.values()):
            deliver([Gone("the process that asks the endpoints ended")])
