"""The APIs that the fake endpoint speaks beside chat completions, told by the path; each as strict as its provider.

A call is put into the words of chat completions and its answer into those of the API. What the provider refuses is
refused here, in its words. Keys can be any; tokens have to be of the fake login, which is here too.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Body = dict[str, Any]
TOKEN = "fake-token-"  # noqa: S105 - begins each token of the fake login
_MESSAGES = {
    "model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences", "tools",
    "tool_choice", "metadata", "thinking", "stream", "service_tier", "output_config", "anthropic_version",
}  # fmt: skip
_CONVERSE = {
    "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
    "additionalModelResponseFieldPaths", "performanceConfig", "requestMetadata",
}  # fmt: skip
_STOPS = {"stop": "end_turn", "length": "max_tokens"}


class RefusedCall(Exception):
    """A call that the provider would refuse. `status`, and `kind`, the provider's name of it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


@dataclass(frozen=True)
class Call:
    """A call that arrived. `headers`: by lower-case name. `key`: what it shows as its key or token."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body

    @property
    def key(self) -> str:
        shown = self.headers.get("x-api-key") or self.headers.get("api-key") or self.headers.get("authorization", "")
        return shown.removeprefix("Bearer ")


@dataclass(frozen=True)
class FakeApi:
    """`chat`: a call as a body of chat completions. `answer`: a response to it. `error`: the body of a refusal."""

    path: str
    chat: Callable[[Call], Body]
    answer: Callable[[Body, Body], Body]
    error: Callable[[RefusedCall], Body]
    unkeyed: tuple[int, str, str] | None = None


@dataclass
class FakeLogin:
    """Where tokens come from, as Google and Azure give them. `seconds`: that one holds."""

    seconds: float = 3600.0
    given: list[str] = field(default_factory=list)
    _valid: set[str] = field(default_factory=set)

    def give(self) -> Body:
        """A new token, in the words of OAuth and of Azure's managed identities."""
        token = f"{TOKEN}{len(self.given)}"
        self.given.append(token)
        self._valid.add(token)
        ends = {"expires_in": int(self.seconds), "expires_on": str(int(time.time() + self.seconds))}
        return {"access_token": token, "token_type": "Bearer", "resource": "fake", **ends}

    def withdraw(self) -> None:
        """Let no token hold that was given."""
        self._valid.clear()

    def refuses(self, key: str) -> bool:
        return key.startswith(TOKEN) and key not in self._valid


def api_at(path: str) -> FakeApi | None:
    """The API that is spoken at a path; None where there is none."""
    return next((api for api in APIS if re.search(api.path, path)), None)


def _openai(call: Call) -> Body:
    return call.body


def _azure(call: Call) -> Body:
    deployment = re.search(r"/deployments/([^/]+)/", call.path)
    if deployment and not call.query.get("api-version"):
        raise RefusedCall(404, "404", "Resource not found")
    return call.body | ({"model": unquote(deployment[1])} if deployment else {})


def _azure_answer(chat: Body, asked: Body) -> Body:
    safe = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
    choices = [choice | {"content_filter_results": safe} for choice in chat["choices"]]
    return chat | {"choices": choices, "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe}]}


def _plain_error(refused: RefusedCall) -> Body:
    return {"error": {"code": refused.kind, "message": str(refused)}}


def _messages(call: Call) -> Body:
    if "anthropic-version" not in call.headers:
        raise _invalid("anthropic-version: header is required")
    return _of_messages(call.body, str(call.body.get("model")))


def _vertex(call: Call) -> Body:
    if not str(call.body.get("anthropic_version")).startswith("vertex-") or "model" in call.body:
        raise _invalid("anthropic_version: Field required; model: Extra inputs are not permitted")
    return _of_messages(call.body, unquote(call.path.rpartition("/")[2].partition(":")[0]))


def _of_messages(body: Body, model: str) -> Body:
    unknown = sorted(set(body) - _MESSAGES)
    if unknown:
        raise _invalid(f"{unknown[0]}: Extra inputs are not permitted")
    if not isinstance(body.get("max_tokens"), int):
        raise _invalid("max_tokens: Field required")
    if {"temperature", "top_p"} <= body.keys():
        raise _invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if not 0 <= body.get("temperature", 0) <= 1:
        raise _invalid("temperature: range: 0..1")
    turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in body["messages"]]
    for turn in turns:
        if turn["role"] not in ("user", "assistant"):
            raise _invalid(f'messages: Unexpected role "{turn["role"]}". Allowed roles are "user" or "assistant".')
        if not turn["content"]:
            raise _invalid("messages: text content blocks must be non-empty")
    chosen = {name: body[name] for name in ("max_tokens", "temperature", "top_p") if name in body}
    tools = [tool["input_schema"] for tool in body.get("tools", ())]
    return _chat(model, _text(body.get("system", "")), turns, chosen | {"stop": body.get("stop_sequences")}, tools)


def _messages_answer(chat: Body, asked: Body) -> Body:
    choice, usage = chat["choices"][0], chat["usage"]
    text = choice["message"]["content"]
    block = {"type": "text", "text": text}
    if tools := asked.get("tools"):
        block = {"type": "tool_use", "id": "toolu_fake", "name": tools[0]["name"], "input": json.loads(text)}
    counts = {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": chat["model"],
        "content": [block],
        "stop_reason": "tool_use" if tools else _STOPS[choice["finish_reason"]],
        "stop_sequence": None,
        "usage": counts | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }


def _messages_error(refused: RefusedCall) -> Body:
    return {"type": "error", "error": {"type": refused.kind, "message": str(refused)}, "request_id": "req_fake"}


def _invalid(message: str) -> RefusedCall:
    return RefusedCall(400, "invalid_request_error", message)


def _converse(call: Call) -> Body:
    body = call.body
    unknown = sorted(set(body) - _CONVERSE)
    if unknown:
        raise RefusedCall(400, "ValidationException", f"Malformed input request: extraneous key [{unknown[0]}]")
    turns = [
        {"role": turn["role"], "content": "".join(b["text"] for b in turn["content"])} for turn in body["messages"]
    ]
    roles = [turn["role"] for turn in turns]
    if roles[:1] != ["user"] or any(one == other for one, other in itertools.pairwise(roles)):
        problem = "A conversation must start with a user message and alternate between user and assistant roles."
        raise RefusedCall(400, "ValidationException", problem)
    told = body.get("inferenceConfig", {})
    names = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
    if set(told) - set(names) or not 0 <= told.get("temperature", 0) <= 1:
        raise RefusedCall(400, "ValidationException", "The value at inferenceConfig failed to satisfy constraints")
    tools = [tool["toolSpec"]["inputSchema"]["json"] for tool in body.get("toolConfig", {}).get("tools", ())]
    system = "\n\n".join(block["text"] for block in body.get("system", ()))
    model = unquote(call.path.removesuffix("/converse").rpartition("/model/")[2])
    return _chat(model, system, turns, {names[name]: value for name, value in told.items()}, tools)


def _converse_answer(chat: Body, asked: Body) -> Body:
    choice, usage = chat["choices"][0], chat["usage"]
    text = choice["message"]["content"]
    block: Body = {"text": text}
    if config := asked.get("toolConfig"):
        name = config["tools"][0]["toolSpec"]["name"]
        block = {"toolUse": {"toolUseId": "tooluse_fake", "name": name, "input": json.loads(text)}}
    counts = {"inputTokens": usage["prompt_tokens"], "outputTokens": usage["completion_tokens"]}
    return {
        "output": {"message": {"role": "assistant", "content": [block]}},
        "stopReason": "tool_use" if config else _STOPS[choice["finish_reason"]],
        "usage": counts | {"totalTokens": usage["total_tokens"]},
        "metrics": {"latencyMs": 1},
    }


def _chat(model: str, system: str, turns: list[dict[str, str]], chosen: Body, schemas: list[Body]) -> Body:
    said = [{"role": "system", "content": system}] if system else []
    form = {"response_format": {"json_schema": {"schema": schemas[0]}}} if schemas else {}
    return {"model": model, "messages": said + turns, **chosen, **form}


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "\n".join(block["text"] for block in content)


_NO_ANTHROPIC_KEY = (401, "authentication_error", "x-api-key header is required")
_NO_AZURE_KEY = (401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
_NO_GOOGLE_TOKEN = (401, "UNAUTHENTICATED", "Request is missing required authentication credential.")
_NO_AWS_KEY = (403, "AccessDeniedException", "Missing Authentication Token")
APIS = (
    FakeApi(r"/v1/messages$", _messages, _messages_answer, _messages_error, _NO_ANTHROPIC_KEY),
    FakeApi(r"/models/[^/]+:rawPredict$", _vertex, _messages_answer, _plain_error, _NO_GOOGLE_TOKEN),
    FakeApi(r"/model/[^/]+/converse$", _converse, _converse_answer, lambda r: {"message": str(r)}, _NO_AWS_KEY),
    FakeApi(r"/openai/.*/?chat/completions$", _azure, _azure_answer, _plain_error, _NO_AZURE_KEY),
    FakeApi(r"/endpoints/openapi/chat/completions$", _openai, lambda chat, _: chat, _plain_error, _NO_GOOGLE_TOKEN),
    FakeApi(r"/chat/completions$", _openai, lambda chat, _: chat, _plain_error),
)


def chat_of(api: FakeApi, call: Call, login: FakeLogin) -> Body:
    """A call as a body of chat completions. Raises RefusedCall where the provider would refuse it."""
    if api.unkeyed and (not call.key or login.refuses(call.key)):
        raise RefusedCall(*api.unkeyed)
    return api.chat(call)
