"""Anthropic's Messages in the words of chat completions, and the other way round. Pure functions.

Described at https://docs.claude.com/en/api/messages; at Google's Vertex AI, and at others that serve it, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

VERSION, VERTEX_VERSION = "2023-06-01", "vertex-2023-10-16"
TOOL = "reply"  # whose input is the answer where a schema is asked for
ENDS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # it would go on if it were asked to
    "refusal": "content_filter",
}
_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")
_OURS = {"messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "response_format"}
_ABSENT = {"logprobs", "top_logprobs"}


def is_vertex(base_url: str) -> bool:
    """Whether an address is that of a project at Vertex AI."""
    return "/projects/" in base_url and "/locations/" in base_url


def url(base_url: str, model: str, version: str | None) -> str:
    """Where calls of a model go.

    >>> url("https://api.anthropic.com", "claude", None)
    'https://api.anthropic.com/v1/messages'
    """
    base = base_url.rstrip("/").removesuffix("/messages")
    if is_vertex(base):
        project = re.sub(r"/publishers(/anthropic(/models(/[^/]*)?)?)?$", "", base)
        return f"{project}/publishers/anthropic/models/{quote(model)}:rawPredict"
    return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"


def headers(key: str, version: str | None) -> dict[str, str]:
    """The headers of a key, and of the API's version."""
    return {"x-api-key": key, "anthropic-version": version or VERSION}


def turns_of(messages: Sequence[Mapping[str, str]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The texts of the system, and the turns of user and assistant, which alternate: those in a row of one role are
    one, of several texts.

    >>> turns_of([{"role": "system", "content": "Be kind."}, *[{"role": "user", "content": text} for text in "ab"]])
    (['Be kind.'], [('user', ['a', 'b'])])
    """
    system, turns = list[str](), list[tuple[str, list[str]]]()
    for message in messages:
        role, text = message["role"], message["content"]
        if role in ("system", "developer"):
            system.append(text)
        elif turns and turns[-1][0] == role:
            turns[-1][1].append(text)
        else:
            turns.append((role, [text]))
    return system, turns


def drawn_by(body: Mapping[str, Any]) -> dict[str, float]:
    """Temperature and top_p of a body, but for those that ask for nothing: newer models take one of them alone."""
    temperature, top_p = body.get("temperature"), body.get("top_p")
    if top_p is not None and top_p < 1 and temperature in (None, 1):
        return {"top_p": top_p}
    return {} if temperature is None else {"temperature": temperature}


def schema_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that a body asks an answer to fit."""
    asked = (body.get("response_format") or {}).get("json_schema")
    return asked["schema"] if asked else None


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of chat completions as one of Messages.

    A schema is that of the input of a tool, which the model has to call: all of Anthropic's models do so, and at all
    addresses. A seed is left out, since none is taken.
    """
    system, turns = turns_of(body["messages"])
    made = {name: value for name, value in body.items() if name not in _OURS | _ABSENT}
    made["max_tokens"] = body.get("max_tokens") or body.get("max_completion_tokens")
    made["messages"] = [{"role": role, "content": _content(texts)} for role, texts in turns]
    if system:
        made["system"] = "\n\n".join(system)
    if body.get("stop"):
        made["stop_sequences"] = body["stop"]
    if schema := schema_of(body):
        made["tools"] = [{"name": TOOL, "description": "Takes the reply.", "input_schema": schema}]
        made["tool_choice"] = {"type": "tool", "name": TOOL}
    return made | drawn_by(body)


def vertex_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body for Vertex AI, where the address names the model and the body the version."""
    made = request(body)
    return {"anthropic_version": VERTEX_VERSION} | {name: value for name, value in made.items() if name != "model"}


def response(answer: Any) -> Any:
    """A response of Messages as one of chat completions; an error, or what is no response, as it is."""
    if not isinstance(answer, Mapping) or not {"content", "stop_reason"} <= answer.keys():
        return answer
    content, stop = answer["content"], text_of(answer["stop_reason"])
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [block for block in parts if isinstance(block, Mapping)] if isinstance(parts, list) else []
    text = "".join(text_of(block.get("text")) for block in blocks if block.get("type") == "text")
    thoughts = [text_of(block.get("thinking")) for block in blocks if block.get("type") == "thinking"]
    called = [block["input"] for block in blocks if block.get("name") == TOOL and "input" in block]
    details = answer.get("stop_details")
    why = text_of(details.get("explanation")) if isinstance(details, Mapping) else ""
    return chat_response(
        text=json.dumps(called[0], ensure_ascii=False) if called else text,
        thought="\n\n".join(filter(None, thoughts)),
        end="stop" if called and stop == "tool_use" else ENDS.get(stop, stop),
        refusal=why or text if stop == "refusal" else "",
        answer=answer,
    )


def text_of(value: Any) -> str:
    """A text in a response; empty where there stands anything else."""
    return value if isinstance(value, str) else ""


def chat_response(text: str, thought: str, end: Any, refusal: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A response of chat completions, with the usage of another API's."""
    message = {"role": "assistant", "content": text}
    message |= {"reasoning_content": thought} if thought else {}
    message |= {"refusal": refusal} if refusal else {}
    return {"choices": [{"index": 0, "message": message, "finish_reason": end}], "usage": answer.get("usage")}


def status(status: int, content: bytes) -> int:
    """What a refusal means: that the account has no money left, which comes with 400, stops the run as 402 does."""
    return 402 if status == 400 and b"credit balance is too low" in content else status


def wait(headers: Mapping[str, str]) -> float:
    """Seconds until the limits that are used up are renewed."""
    used_up = [name for name in _LIMITS if headers.get(f"anthropic-ratelimit-{name}-remaining", "").strip() == "0"]
    return max((_until(headers.get(f"anthropic-ratelimit-{name}-reset", "")) for name in used_up), default=0.0)


def _content(texts: Sequence[str]) -> str | list[dict[str, str]]:
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def _until(time: str) -> float:
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return 0.0
    return max((at - datetime.now(UTC)).total_seconds(), 0.0) if at.tzinfo else 0.0
