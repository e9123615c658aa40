"""Amazon Bedrock's Converse in the words of chat completions, and the other way round. Pure functions.

Described at https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pairsmith.llms.endpoint.anthropic import TOOL, chat_response, schema_of, text_of, turns_of

ENDS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}
_OURS = {"model", "messages", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop"}
_ABSENT = {"response_format", "logprobs", "top_logprobs"}


def url(base_url: str, model: str, version: str | None) -> str:
    """Where calls of a model go; the name of one may be an address itself, of slashes and colons.

    >>> url("https://bedrock-runtime.us-east-1.amazonaws.com", "amazon.nova-lite-v1:0", None)
    'https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/converse'
    """
    base = re.sub(r"(/model(/[^/]+(/converse|/invoke)?)?)?/*$", "", base_url)
    return f"{base}/model/{quote(model, safe='')}/converse"


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of chat completions as one of Converse. A schema is that of a tool's input; a seed is left out."""
    system, turns = turns_of(body["messages"])
    most = body.get("max_tokens") or body.get("max_completion_tokens")
    top_p = body.get("top_p")
    chosen = {
        "maxTokens": most,
        "temperature": body.get("temperature"),
        "topP": None if top_p == 1 else top_p,
        "stopSequences": body.get("stop") or None,
    }
    made: dict[str, Any] = {name: value for name, value in body.items() if name not in _OURS | _ABSENT}
    made["messages"] = [{"role": role, "content": [{"text": text} for text in texts]} for role, texts in turns]
    made["inferenceConfig"] = {name: value for name, value in chosen.items() if value is not None}
    if system:
        made["system"] = [{"text": text} for text in system]
    if body.get("top_k"):
        made["additionalModelRequestFields"] = {"top_k": body["top_k"]} | made.get("additionalModelRequestFields", {})
    if schema := schema_of(body):
        tool = {"name": TOOL, "description": "Takes the reply.", "inputSchema": {"json": schema}}
        made["toolConfig"] = {"tools": [{"toolSpec": tool}], "toolChoice": {"tool": {"name": TOOL}}}
    return made


def response(answer: Any) -> Any:
    """A response of Converse as one of chat completions; an error, or what is no response, as it is."""
    try:
        content = answer["output"]["message"]["content"]
        blocks = [block for block in content if isinstance(block, Mapping)]
    except (KeyError, TypeError):
        return answer
    stop = text_of(answer.get("stopReason"))
    end = ENDS.get(stop, stop)
    text = "".join(text_of(block.get("text")) for block in blocks)
    thoughts = [_thought(block["reasoningContent"]) for block in blocks if "reasoningContent" in block]
    uses = [block["toolUse"] for block in blocks if isinstance(block.get("toolUse"), Mapping)]
    called = [use["input"] for use in uses if "input" in use]
    return chat_response(
        text=json.dumps(called[0], ensure_ascii=False) if called else text,
        thought="\n\n".join(filter(None, thoughts)),
        end="stop" if called and stop == "tool_use" else end,
        refusal=text if end == "content_filter" else "",
        answer=answer,
    )


def status(status: int, content: bytes) -> int:
    """What a refusal means: 424 says that the model failed, which passes as an error of a server does."""
    return 500 if status == 424 else status


def _thought(block: Any) -> str:
    told = block.get("reasoningText") if isinstance(block, Mapping) else None
    return text_of(told.get("text")) if isinstance(told, Mapping) else ""
