"""Rehearse a recipe at no cost: a fake endpoint on the loopback address that answers like `echo` and fails as told.

    with FakeEndpoint(faults=[Fault(429, headers={"retry-after": "1"})]) as endpoint:
        ...  # a member with backend: openai, endpoint: {base_url: endpoint.url, api_key_env: null}

Each request takes the next fault of the list, if one is left, else it is answered after `latency` seconds. Every
request that arrives is in `journal`, in order.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pairsmith.config import ModelSpec, Sampling
from pairsmith.llms.base import Request
from pairsmith.llms.echo import Echo


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with headers and body, or no answer for `hang` seconds."""

    status: int = 500
    body: str = '{"error": {"message": "told to fail"}}'
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


class FakeEndpoint:
    """A chat completions server in a thread; use it as a context manager."""

    def __init__(self, faults: Iterable[Fault] = (), latency: float = 0.0) -> None:
        self.journal: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.busiest = 0
        self._faults, self._latency, self._busy = list(faults), latency, 0

    def fail(self, *faults: Fault) -> None:
        """Let the next requests meet these faults."""
        self._faults += faults

    def __enter__(self) -> FakeEndpoint:
        import uvicorn
        from starlette.applications import Starlette
        from starlette.routing import Route

        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    async def _answer(self, http: Any) -> Any:
        from starlette.responses import JSONResponse, Response

        body = await http.json()
        self.journal.append(body)
        self.times.append(time.monotonic())
        fault = self._faults.pop(0) if self._faults else None
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            await asyncio.sleep(fault.hang if fault else self._latency)
        finally:
            self._busy -= 1
        if fault:
            return Response(fault.body, fault.status, fault.headers, media_type="application/json")
        return JSONResponse(completion(body))


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The response of the chat completions API that `echo` would give to a request's body."""
    wants_choices = bool(body.get("logprobs"))
    request = Request(
        messages=tuple(body["messages"]),
        sampling=Sampling(
            temperature=body.get("temperature", 1),
            top_p=body.get("top_p", 1),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 1024,
        ),
        seed=body.get("seed", 0),
        schema=body["response_format"]["json_schema"]["schema"] if "response_format" in body else None,
        choices=tuple("12345") if wants_choices else None,
    )
    reply = Echo(ModelSpec(backend="echo", model=body["model"])).answer(request)
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in (reply.logprobs or {}).items()]
    logprobs = {
        "content": [
            {
                "token": reply.text[:1],
                "logprob": max((reply.logprobs or {"": 0.0}).values()),
                "bytes": None,
                "top_logprobs": top,
            }
        ]
    }
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
                "logprobs": logprobs if wants_choices else None,
            }
        ],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }
