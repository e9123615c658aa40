"""Rehearse a recipe at no cost: a fake endpoint on the loopback address that answers like `echo`, and fails on demand.

It speaks chat completions and, by their paths, the APIs of `apis`; it also gives out tokens, as clouds do.

In a test or a notebook:

    with FakeEndpoint(faults=[Fault(429, headers={"retry-after": "1"})]) as endpoint:
        ...  # a member with backend: openai, endpoint: {base_url: endpoint.url, api_key_env: null}

From a shell, to rehearse a recipe whose members name `base_url: http://127.0.0.1:8900/v1`:

    python -m pairsmith.testing --port 8900 --latency 0.2 --spread 0.5 --errors 0.3 --journal calls.jsonl

To rehearse against a provider that refuses a seed and ends its answers with STOP (see `manners`):

    python -m pairsmith.testing --port 8900 --manner no-seed,ends:STOP

An answer depends only on the request. Which calls meet a fault of the `Weather` depends on the request, how often it
was sent and the seed, so a rehearsal can be repeated. The journal has a line for each call that arrived.

It may import all wings, and none imports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairsmith.config import ModelSpec, Sampling
from pairsmith.ids import fingerprint
from pairsmith.llms.echo import Echo
from pairsmith.protocol import Request
from pairsmith.testing.apis import Call, FakeApi, FakeLogin, RefusedCall, api_at, chat_of
from pairsmith.testing.manners import MANNERS, Refused, behave, named
from pairsmith.testing.weather import KINDS, Fault, Weather

__all__ = ["KINDS", "FakeEndpoint", "Fault", "Weather", "completion"]


class FakeEndpoint:
    """A server of chat completions and other APIs; as a context manager it runs in a thread of its own.

    Each request gets the next fault of the list, if one is left, else behaves by the weather. Where `keep` is true,
    requests are kept in `journal` (the bodies, in order), `headers`, `times` and `paths`; where `log` names a file,
    they are written there. `replay`: the log of an earlier rehearsal, whose responses are given again for the same
    requests. `manner`: names of `manners.MANNERS`, joined by commas; ValueError where one is unknown.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        latency: float = 0.0,
        weather: Weather | None = None,
        log: Path | None = None,
        replay: Path | None = None,
        keep: bool = True,
        manner: str = "",
    ) -> None:
        self.journal: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []  # by lower-case name
        self.times: list[float] = []
        self.paths: list[str] = []  # as they were sent
        self.busiest = 0
        self.under_way = 0.0  # seconds that all calls were under way, added up
        self.asked: Counter[str] = Counter()  # how often each request arrived
        self.answered: Counter[str] = Counter()  # how often each was answered in a way that is charged
        self.bill = 0  # tokens of those answers
        self.login = FakeLogin()
        self._faults, self._weather = list(faults), weather or Weather(latency)
        self._keep, self._busy, self._manners = keep, 0, named(manner)
        self._first = self._last = 0.0
        self._log = open(log, "a", buffering=1, encoding="utf-8") if log else None  # noqa: SIM115 - closed at exit
        self._replay = _responses(replay) if replay else {}
        self._echo: dict[str, Echo] = {}
        self._stopping: asyncio.Event | None = None
        self._batches = _FakeBatches(self)

    def fail(self, *faults: Fault) -> None:
        """Give these faults to the next requests."""
        self._faults += faults

    def recover(self) -> None:
        """Forget the faults that no request has met yet."""
        self._faults.clear()

    def note(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> str:
        """Note a request; returns its hash."""
        name = fingerprint(body)
        self.asked[name] += 1
        if self._keep:
            self.journal.append(body)
            self.headers.append(headers or {})
            self.times.append(time.monotonic())
        return name

    def stats(self) -> dict[str, float]:
        """Calls, different calls, most calls at once; seconds from first to last call, and of all calls added up."""
        calls = {"calls": sum(self.asked.values()), "different": len(self.asked), "busiest": self.busiest}
        return calls | {"seconds": self._last - self._first, "under_way": self.under_way}

    def __enter__(self) -> FakeEndpoint:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(0, ready)), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)  # type: ignore[union-attr]
        self._thread.join()
        if self._log:
            self._log.close()

    async def serve(self, port: int, ready: threading.Event | None = None) -> None:
        """Serve on the loopback address until the context manager exits; port 0 takes a free port."""
        from aiohttp import web

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._answer, handler_cancellation=True, access_log=None, keepalive_timeout=3600)
        runner = web.ServerRunner(server, shutdown_timeout=0)
        await runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        await web.SockSite(runner, listening, backlog=4096).start()
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        self._opened = time.monotonic()
        if ready:
            ready.set()
        else:
            print(self.url, flush=True)
        await self._stopping.wait()
        await runner.cleanup()

    def behaved(self, body: dict[str, Any], response: dict[str, Any]) -> dict[str, Any] | Refused:
        """The usual response to a body, in this endpoint's manners."""
        return behave(self._manners, body, response)

    def charge(self, name: str, response: str) -> None:
        """Put an answer with a usage on the bill."""
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            self.bill += json.loads(response)["usage"]["total_tokens"]
            self.answered[name] += 1

    async def _answer(self, http: Any) -> Any:
        from aiohttp import web

        if "/files" in http.path or "/batches" in http.path:
            return await self._batches.answer(http)
        if http.path.endswith("/token"):
            return web.json_response(self.login.give())
        path = http.rel_url.raw_path
        api = api_at(path)
        if api is None:
            return web.json_response(self.stats())
        body, headers = json.loads(await http.read()), {name.lower(): value for name, value in http.headers.items()}
        name = self.note(body, headers if self._keep else None)
        if self._keep:
            self.paths.append(path)
        mark = f"{name} {self.asked[name]}"
        fault = self._faults.pop(0) if self._faults else self._weather.fault(mark, time.monotonic() - self._opened)
        arrived = time.monotonic()
        self._first = self._first or arrived
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            await asyncio.sleep(fault.hang if fault and fault.hang else self._weather.seconds(mark))
        finally:
            self._busy -= 1
            self._last = time.monotonic()
            self.under_way += self._last - arrived
        known = self._replay.get(name)
        call = Call(path, http.query, headers, body)
        respond = lambda chat: self.behaved(chat, completion(chat, self._echo))  # noqa: E731
        made = fault or ((known, known) if known else _made(api, call, self.login, respond))
        fault = made if isinstance(made, Fault) else None
        response, charged = (None, None) if isinstance(made, Fault) else made
        self.charge(name, fault.body if fault and fault.status == 200 and fault.cut is None else json.dumps(charged))
        if self._log:
            line = {"hash": name, "model": body.get("model"), "status": fault.status if fault else 200}
            self._log.write(json.dumps(line | {"response": response}) + "\n")
        if fault:
            return await _misbehave(http, fault)
        return web.Response(body=json.dumps(response).encode(), content_type="application/json")


class _FakeBatches:
    """The files and batches of a fake endpoint. A batch is done after it was polled `polls` times."""

    polls = 2

    def __init__(self, endpoint: FakeEndpoint) -> None:
        self._endpoint = endpoint
        self._files: dict[str, bytes] = {}
        self._made: dict[str, dict[str, Any]] = {}

    async def answer(self, http: Any) -> Any:
        from aiohttp import web

        *_, kind, last = http.path.rstrip("/").split("/")
        if last == "content":
            return web.Response(body=self._files[kind])
        if last == "files":
            return web.json_response(self._keep((await http.post())["file"].file.read()))
        if last == "batches" and http.method == "GET":
            return web.json_response({"object": "list", "data": list(self._made.values()), "has_more": False})
        if last == "batches":
            return web.json_response(self._make(await http.json()))
        return web.json_response(self._poll(self._made[last]))

    def _keep(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self._files)}"
        self._files[name] = content
        about = {"id": name, "object": "file", "purpose": "batch", "filename": name, "status": "processed"}
        return about | {"bytes": len(content), "created_at": 0}

    def _make(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = asked | {"id": f"batch-{len(self._made)}", "object": "batch", "status": "in_progress", "created_at": 0}
        self._made[made["id"]] = made | {"polled": 0, "output_file_id": None, "error_file_id": None}
        return self._made[made["id"]]

    def _poll(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["polled"] += 1
        if batch["polled"] >= self.polls and batch["status"] == "in_progress":
            done = []
            for line in self._files[batch["input_file_id"]].splitlines():
                entry = json.loads(line)
                body = entry["body"]
                name, made = self._endpoint.note(body), self._endpoint.behaved(body, completion(body))
                status, answer = (made.status, made.response) if isinstance(made, Refused) else (200, made)
                self._endpoint.charge(name, json.dumps(answer))
                response = {"status_code": status, "body": answer}
                done.append(json.dumps({"custom_id": entry["custom_id"], "response": response, "error": None}))
            output = self._keep("\n".join(reversed(done)).encode())  # the API promises no order
            batch |= {"status": "completed", "output_file_id": output["id"]}
        return batch


def _made(
    api: FakeApi, call: Call, login: FakeLogin, respond: Callable[[dict[str, Any]], dict[str, Any] | Refused]
) -> tuple[dict[str, Any], dict[str, Any]] | Fault:
    """The response to a call, in the API's words and in those of chat completions, or why there is none."""
    try:
        response = respond(chat_of(api, call, login))
        if isinstance(response, Refused):
            return Fault(response.status, json.dumps(response.response))
        return api.answer(response, call.body), response
    except RefusedCall as refused:
        return Fault(refused.status, json.dumps(api.error(refused)))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        return Fault(400, json.dumps({"error": {"message": f"{type(error).__name__}: {error}"}}))


async def _misbehave(http: Any, fault: Fault) -> Any:
    from aiohttp import web

    content = b" " * min(fault.size, 65536) if fault.size else fault.body.encode()
    if fault.cut is None and not fault.drip and not fault.size:
        return web.Response(body=content, status=fault.status, headers=fault.headers, content_type="application/json")
    answer = web.StreamResponse(status=fault.status, headers=fault.headers)
    answer.content_length = fault.size or len(content) + 1
    if fault.cut != 0:
        await answer.prepare(http)
        if fault.size:
            for _ in range(0, fault.size, len(content)):
                await answer.write(content)
        for place in range(len(content) if fault.drip else 0):
            await answer.write(content[place : place + 1])
            await asyncio.sleep(fault.drip)
        if fault.cut:
            await answer.write(content[: fault.cut])
    if http.transport:
        http.transport.abort()
    return answer


def _responses(log: Path) -> dict[str, dict[str, Any]]:
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").split("\n") if line)
    return {line["hash"]: line["response"] for line in lines if line["response"]}


def completion(body: dict[str, Any], echoes: dict[str, Echo] | None = None) -> dict[str, Any]:
    """The response of the chat completions API that `echo` would give to a request's body."""
    wants_choices = bool(body.get("logprobs"))
    choices = ("Yes", "No") if "Yes or No" in str(body["messages"][-1]["content"]) else tuple("12345")
    request = Request(
        messages=tuple(body["messages"]),
        sampling=Sampling(
            temperature=body.get("temperature", 1),
            top_p=body.get("top_p", 1),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 1024,
        ),
        seed=body.get("seed", 0),
        schema=body["response_format"]["json_schema"]["schema"] if "response_format" in body else None,
        choices=choices if wants_choices else None,
    )
    echoes = {} if echoes is None else echoes
    if body["model"] not in echoes:
        echoes[body["model"]] = Echo(ModelSpec(backend="echo", model=body["model"]))
    reply = echoes[body["model"]].answer(request)
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in (reply.logprobs or {}).items()]
    most = max((reply.logprobs or {"": 0.0}).values())
    first = {"token": reply.text.partition(" ")[0], "logprob": most, "bytes": None, "top_logprobs": top}
    usage = {"prompt_tokens": reply.n_prompt_tokens, "completion_tokens": reply.n_tokens}
    return {
        "id": "fake",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": reply.finish_reason,
                "logprobs": {"content": [first]} if wants_choices else None,
            }
        ],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def main() -> None:
    """The command line: every field of the weather, the port, and the files."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m pairsmith.testing", description="A fake endpoint.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the address is printed")
    parser.add_argument("--journal", type=Path, help="file for a line per call that arrived")
    told = "; ".join(f"{name}{manner.value and f':{manner.value}'}: {manner.what}" for name, manner in MANNERS.items())
    parser.add_argument("--manner", default="", help=f"what it does otherwise, joined by commas: {told}")
    parser.add_argument("--replay", type=Path, help="journal of an earlier rehearsal, to be answered from")
    for name, value in asdict(Weather()).items():
        kind = str if name == "kinds" else type(value)
        default = ",".join(value) if name == "kinds" else value
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=f"default {default}")
    options = vars(parser.parse_args())
    port, journal, replay, manner = (options.pop(name) for name in ("port", "journal", "replay", "manner"))
    weather = Weather(**options | {"kinds": tuple(options["kinds"].split(","))})
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(FakeEndpoint(weather=weather, log=journal, replay=replay, keep=False, manner=manner).serve(port))
