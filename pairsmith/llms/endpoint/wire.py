"""The chat completions protocol: a request as the body of a call, a response's body as a reply. Pure functions.

The protocol is described at https://platform.openai.com/docs/api-reference/chat; vLLM, SGLang, TGI, llama.cpp and
Ollama add to it and leave parts of it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pairsmith.config import Endpoint
from pairsmith.llms.bills import bill_of, said
from pairsmith.llms.endpoint.message_parts import Said, said_in
from pairsmith.llms.endpoint.strict_schema import strict
from pairsmith.llms.endpoint.told_errors import error_in
from pairsmith.progress import answered
from pairsmith.protocol import Bill, Reply, Request
from pairsmith.text.templating import without_system
from pairsmith.text.thoughts import ends_a_thought

PATH = "/chat/completions"
PASSING = {408, 409, 425, 429}  # statuses after which the same request may succeed, with all of 500 and above
STOPPING = {301, 302, 303, 307, 308, 401, 402, 404, 405}  # statuses after which no other request can do better
_NO_PROBABILITY = -1e4  # log probability of a choice that is not among the most likely tokens
# What endpoints call the end of an answer, in snake case, by the word of the field. An end that no one knows is `stop`
# where there is text, unless its name says that a filter ended the answer, or that it was cut off.
_ENDS = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "complete", "finish_reason_stop"),
    "length": ("length", "max_tokens", "max_length", "model_length", "finish_reason_max_tokens"),
    "content_filter": (
        "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "refusal",
        "spii", "sensitive", "error_toxic", "guardrail_intervened", "model_armor",
    ),
}  # fmt: skip
_WORDS = {name: word for word, names in _ENDS.items() for name in names}
_CUT_OFF = re.compile(
    r"length|limit|max|exceed|budget|abort|cancel|error|fail|trunc|time.?out|incomplete|interrupt|insufficient|^cut|"
    r"not_finished|unfinished"
)
_BLOCKED = re.compile(r"filter|safety|block|moderat|prohibit|policy|violation|sensitive|toxic|refus")
_LIMIT = re.compile(r"length|limit|max|exceed|budget")


class NoReply(ValueError):
    """A response without a reply in it: no JSON object, no choice, no text."""


class Unreached(ConnectionError):
    """No connection came to be: nothing listens there, the host has no address, or it speaks no TLS."""


class BrokenAnswer(ConnectionError):
    """An answer that began with a good status and could not be read to its end, and may have been paid for.

    `size`: bytes that it has as it says itself, or that had arrived.
    """

    def __init__(self, problem: str, size: int) -> None:
        super().__init__(problem)
        self.size = size


def body_of(request: Request, model: str, max_tokens_name: str) -> dict[str, Any]:
    """A request as the body of a chat completions call."""
    sampling = request.sampling
    messages = without_system(request.messages) if sampling.fold_system else list(request.messages)
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    body: dict[str, Any] = {"model": model, "messages": messages, max_tokens_name: sampling.max_tokens}
    body |= {name: value for name, value in drawn.items() if value is not None}
    if sampling.seed is not False:
        body["seed"] = request.seed
    if sampling.template_kwargs:
        body["chat_template_kwargs"] = sampling.template_kwargs
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if request.schema:
        schema = {"name": "reply", "schema": strict(request.schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": 20}
    return body | sampling.extra_body


def reply_of(response: Any, request: Request) -> Reply:
    """The first choice of a response; the model's reasoning is separated from its answer.

    Raises NoReply where there is no choice to read.
    """
    choice, message = _first_choice(response)
    said_there = said_in(message)
    reason = choice.get("finish_reason") or choice.get("finishReason") or choice.get("native_finish_reason")
    text, end = said_there.text, end_of(reason, said_there.text)
    error = _problem(said_there, end, reason)
    logprobs = choice_logprobs(choice, request.choices) if request.choices else None
    if request.choices and logprobs is None and error is None:
        error = f"no probability for any of {', '.join(request.choices)}: does the endpoint support readout logprobs?"
    prompt_tokens, tokens, total = said(response)
    is_told = prompt_tokens and tokens and total <= prompt_tokens + tokens
    shown = len(f"{said_there.thought or ''}{text}{said_there.refusal or ''}".encode("utf-8", "replace"))
    reply = Reply(
        text=text,
        finish_reason=end,
        n_prompt_tokens=prompt_tokens,
        n_tokens=tokens,
        logprobs=logprobs,
        reasoning=said_there.thought,
        bill=None if is_told else bill_of(request, response, shown, end == "length", error),
    )
    if error is None:
        return answered(request, reply)
    has_refused = end == "content_filter" or bool(said_there.refusal)
    has_no_text = end is None and not _CUT_OFF.search(_snake(reason))  # as a call of a tool: so it would again
    return replace(reply, finish_reason=None, error=error, final=has_refused or has_no_text)


def _first_choice(response: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The first choice of a response that tells no error in its place, and its message."""
    told = error_in(response)
    why = f" ({told.words})" if told else ""
    choices = response.get("choices") if isinstance(response, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise NoReply(f"an answer without a choice{why}")
    message = {"content": choice["text"]} if "text" in choice else choice.get("message")
    if told or not isinstance(message, Mapping):
        raise NoReply(f"an answer without a message{why}")
    return choice, message


def _problem(found: Said, end: str | None, reason: Any) -> str | None:
    """Why an answer cannot be used; None where it can."""
    if found.refusal and not found.text:
        return f"the model refuses: {found.refusal}"
    if end in ("stop", "length"):
        return None
    words = found.refusal or found.text.strip()
    return f"the endpoint ended with {_named(reason)}" + (f": {words}" if end == "content_filter" and words else "")


def end_of(reason: Any, text: str) -> str | None:
    """How an answer ended, in the field's words: stop, length or content_filter. None where it ended without text for a
    reason that is not known, as a call of a tool."""
    name = _snake(reason)
    word = _WORDS.get(name) or ("content_filter" if _BLOCKED.search(name) else None)
    if word or not text.strip():
        return word or ("length" if _LIMIT.search(name) else None)
    return "length" if _CUT_OFF.search(name) else "stop"


def _snake(reason: Any) -> str:
    """The name of an ending in snake case, without that of the type before it; empty where it has none.

    >>> _snake("FinishReason.MAX_TOKENS"), _snake("contentFilter"), _snake("not finished")
    ('max_tokens', 'content_filter', 'not_finished')
    """
    name = reason.rpartition(".")[2] if isinstance(reason, str) else ""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", name).lower()


def _named(reason: Any) -> str:
    return reason if isinstance(reason, str) else "no finish_reason"


def unread_bill(request: Request, content: bytes, problem: str, id: str | None = None) -> Bill:
    """What an answer cost in which there is no reply: as its usage says, if one can be read, or else reckoned."""
    try:
        response = json.loads(content)
    except (ValueError, RecursionError):
        response = None
    return bill_of(request, response, len(content), problem=problem, id=id)


def choice_logprobs(choice: Mapping[str, Any], choices: Sequence[str]) -> dict[str, float] | None:
    """Log probabilities of `choices` at the first word of the answer, after any reasoning.

    None where the answer does not begin with one of them: the small probabilities that they have there are no verdict.
    """
    try:
        tokens = [(str(item["token"]), item) for item in choice["logprobs"]["content"]]
        closing = [index for index, (token, _) in enumerate(tokens) if ends_a_thought(token)]
        answer = tokens[closing[-1] + 1 if closing else 0 :]
        token, begins = next((pair for pair in answer if pair[0].strip(' \n*_`"')), ("", dict[str, Any]()))
        if token.strip() not in choices:
            return None
        found = {token.strip(): float(begins["logprob"])}
        for other in begins.get("top_logprobs") or ():
            name = str(other["token"]).strip()
            if name in choices:
                found[name] = max(float(other["logprob"]), found.get(name, _NO_PROBABILITY))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return {name: max(found.get(name, _NO_PROBABILITY), _NO_PROBABILITY) for name in choices}


def readout_hint(request: Request) -> str:
    """Which readout to try where an endpoint refuses a request, as the end of an error."""
    if request.schema:
        return " (if the endpoint knows no json_schema, use readout text or logprobs)"
    return " (if the endpoint gives no logprobs, use readout text or json)" if request.choices else ""


def moved_hint(headers: Mapping[str, str]) -> str:
    """Where a response redirects to, as the end of an error."""
    moved = headers.get("location")
    return f"; it redirects to {moved}, which is not followed: name that address" if moved else ""


def mend_hint(status: int, endpoint: Endpoint) -> str:
    """What to change in a recipe after a status that stops a run, as the end of an error; empty where unknown."""
    if status in (401, 403):
        if endpoint.credentials or endpoint.api_key_block:
            return f"; look at endpoint.{'credentials' if endpoint.credentials else 'api_key_block'}"
        known = f"is {endpoint.api_key_env}" if endpoint.api_key_env else "is null, so none is sent"
        return f"; look at the key: endpoint.api_key_env {known}"
    if status == 404:
        return "; look at the model's id and at endpoint.base_url, which mostly ends in /v1"
    return "; the account has no money left, or the wrong key is used" if status in (402, 429) else ""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a response asks to wait, by retry-after-ms or Retry-After (seconds or a date); 0 without either."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"[+-]?\d+(\.\d+)?(e\d+)?", value):
            return max(float(value) / unit, 0.0)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError, OverflowError):
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)  # HTTP has no other time zone
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
