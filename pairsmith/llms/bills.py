"""What an answered call cost: as the endpoint counts it, or reckoned where it does not say. Pure functions.

Reckoned costs lean to the high side, since a budget is held by them: a token for every three bytes, where English has
one for four or five, and `max_tokens` where an answer was cut off or shows nothing of what was generated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pairsmith.protocol import Bill, Reply, Request

BYTES_A_TOKEN = 3
TOKENS_A_MESSAGE = 4  # that chat templates add to each
MOST_A_MESSAGE = 16  # that they add at most
MOST_A_FORM = 512  # tokens that providers add to a prompt, beside the schema, where an answer has to fit one
MOST_TOKENS = 2**31  # that a database column holds; a larger number is no real count

# What endpoints call their counts, OpenAI's names first, then those of Anthropic, Bedrock, Gemini, Cohere and Ollama.
USAGES = ("usage", "usageMetadata", "usage_metadata", "meta")
PARTS = ("tokens", "billed_units")  # blocks in which some put their counts
PROMPT = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count", "prompt_eval_count")
ANSWER = (
    "completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "candidates_token_count", "eval_count"
)  # fmt: skip
TOTAL = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
CACHED = {  # tokens of the prompt that are not in its count, where that has this name
    "input_tokens": ("cache_creation_input_tokens", "cache_read_input_tokens"),
    "inputTokens": ("cacheReadInputTokens", "cacheWriteInputTokens"),
}


def most_of(request: Request) -> tuple[int, int]:
    """The most tokens of a prompt and of its answer, since no token is shorter than a byte."""
    prompt = sum(len(message["content"].encode("utf-8", "replace")) + MOST_A_MESSAGE for message in request.messages)
    form = MOST_A_FORM + len(json.dumps(request.schema)) if request.schema else 0
    return prompt + form, request.sampling.max_tokens


def said(response: Any) -> tuple[int, int, int]:
    """The tokens of the prompt, of the answer, and of both that a response tells of; 0 for what it does not tell."""
    blocks = [response.get(name) for name in USAGES] + [response] if isinstance(response, Mapping) else []
    usages = [block for block in blocks if isinstance(block, Mapping)]
    usages += [usage[part] for usage in usages for part in PARTS if isinstance(usage.get(part), Mapping)]
    prompt, answer, total = (_first(usages, names) for names in (PROMPT, ANSWER, TOTAL))
    return prompt, answer, total


def bill_of(
    request: Request, response: Any, shown: int, cut: bool = False, problem: str | None = None, id: str | None = None
) -> Bill:
    """What an answer cost. `shown`: bytes of it that can be seen; `cut`: it ended at `max_tokens`."""
    prompt, answer, total = said(response)
    if prompt and (answer or total):  # some count an answer's thoughts in the total alone
        return Bill(prompt, max(answer, total - prompt), False, problem, id)
    if answer and total:
        return Bill(max(total - answer, 0), answer, False, problem, id)
    reckoned = prompt or min(_prompt_tokens(request), total or MOST_TOKENS)
    if total:
        return Bill(reckoned, total - reckoned, True, problem, id)
    return Bill(reckoned, answer or _answer_tokens(request, shown, cut), True, problem, id)


def with_bill(request: Request, reply: Reply) -> Reply:
    """A reply whose model counts no tokens, with its cost reckoned."""
    if reply.bill or reply.error is not None or reply.n_prompt_tokens or reply.n_tokens:
        return reply
    shown = len(reply.text.encode("utf-8", "replace")) + len((reply.reasoning or "").encode("utf-8", "replace"))
    return replace(reply, bill=bill_of(request, None, shown, reply.finish_reason == "length"))


def _prompt_tokens(request: Request) -> int:
    sizes = (len(message["content"].encode("utf-8", "replace")) for message in request.messages)
    return sum(-(-size // BYTES_A_TOKEN) + TOKENS_A_MESSAGE for size in sizes)


def _answer_tokens(request: Request, shown: int, cut: bool) -> int:
    most = request.sampling.max_tokens
    return most if cut or not shown else min(-(-shown // BYTES_A_TOKEN), most)


def _first(usages: list[Mapping[str, Any]], names: tuple[str, ...]) -> int:
    counts = (_with_cached(usage, name) for usage in usages for name in names)
    return next((count for count in counts if count), 0)


def _with_cached(usage: Mapping[str, Any], name: str) -> int:
    return sum(_count(usage.get(one)) for one in (name, *CACHED.get(name, ())))


def _count(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0
