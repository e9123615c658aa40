"""How providers and servers do what others do otherwise, for rehearsals: a table of manners by name.

A manner looks at the body of a call and bends the response that `echo` gives. Several are joined by commas, and one
takes a value behind a colon: `no-seed,ends:STOP`. docs/endpoints.md says who has which, and how pairsmith takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
Response = dict[str, Any]
THOUGHT = "The question asks for an answer. I give one."
REFUSAL = "I can't help with that."


@dataclass(frozen=True)
class Refused:
    """A call that is not answered: the status and the body of the error."""

    status: int
    response: Response


Act = Callable[[Body, Response, str], Response | Refused]


@dataclass(frozen=True)
class Manner:
    """What a provider does otherwise. `act` is given the body, the usual response, and the value, `value` if none."""

    what: str
    act: Act
    value: str = ""


def named(names: str) -> list[tuple[Manner, str]]:
    """The manners in `names`, each with its value. ValueError for names that are not in MANNERS."""
    parts = [name.strip().partition(":") for name in names.split(",") if name]
    if unknown := {kind for kind, _, _ in parts} - MANNERS.keys():
        raise ValueError(f"no manner {', '.join(sorted(unknown))}; known are {', '.join(MANNERS)}")
    return [(MANNERS[kind], value or MANNERS[kind].value) for kind, _, value in parts]


def behave(manners: Iterable[tuple[Manner, str]], body: Body, response: Response) -> Response | Refused:
    """The usual response to a body, bent by one manner after the other, or refused by the first that does.

    >>> answer = {"choices": [{"message": {"content": "Oak."}, "finish_reason": "stop"}]}
    >>> behave(named("ends:eos"), {}, answer)["choices"][0]["finish_reason"]
    'eos'
    """
    for manner, value in manners:
        bent = manner.act(body, response, value)
        if isinstance(bent, Refused):
            return bent
        response = bent
    return response


def _error(message: str, code: str | int | None = None) -> Response:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def _choice(response: Response, **changes: Any) -> Response:
    first, *others = response["choices"]
    return response | {"choices": [first | changes, *others]}


def _message(response: Response, change: Callable[[str], dict[str, Any]]) -> Response:
    """A response whose message has other fields, made from its text."""
    message = response["choices"][0]["message"]
    return _choice(response, message=message | change(message["content"]))


def _marked(pattern: str) -> Act:
    """A thought before the answer, in marks."""
    return lambda _, response, __: _message(response, lambda text: {"content": pattern.format(THOUGHT, text)})


def _beside(change: Callable[[str], dict[str, Any]]) -> Act:
    return lambda _, response, __: _message(response, change)


def _refusing(is_so: Callable[[Body], bool], words: str, status: int = 400) -> Act:
    return lambda body, response, _: Refused(status, _error(words)) if is_so(body) else response


def _ends(_: Body, response: Response, value: str) -> Response:
    if value == "absent":
        first, *others = response["choices"]
        return response | {"choices": [{k: v for k, v in first.items() if k != "finish_reason"}, *others]}
    return _choice(response, finish_reason=None if value == "null" else value)


def _thought_alone(body: Body, response: Response, _: str) -> Response:
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 1024
    usage = response["usage"] | {"completion_tokens": most, "total_tokens": response["usage"]["prompt_tokens"] + most}
    bent = _message(response, lambda _: {"content": None, "reasoning_content": THOUGHT})
    return _choice(bent, finish_reason="length") | {"usage": usage}


def _filtered(_: Body, response: Response, __: str) -> Response:
    return _choice(_message(response, lambda _: {"content": REFUSAL}), finish_reason="content_filter")


def _usage(_: Body, response: Response, value: str) -> Response:
    rest = {name: part for name, part in response.items() if name != "usage"}
    prompt, answer = (response["usage"][f"{name}_tokens"] for name in ("prompt", "completion"))
    forms: dict[str, Response] = {
        "none": {},
        "anthropic": {"usage": {"input_tokens": prompt, "output_tokens": answer}},
        "gemini": {"usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": answer}},
    }
    return rest | forms[value]


def _error_in_200(_: Body, __: Response, value: str) -> Response:
    code: str | int = int(value) if value.isdecimal() else value
    return {"error": {"code": code, "message": "Told by the provider behind."}, "user_id": "user"}


def _is_loose(schema: Any) -> bool:
    """Whether a schema has what a strict endpoint refuses."""
    if isinstance(schema, list):
        return any(map(_is_loose, schema))
    if not isinstance(schema, dict):
        return False
    parts = schema.get("properties", {})
    is_object = "properties" in schema
    closed = not is_object or (schema.get("additionalProperties") is False and schema.get("required") == list(parts))
    known = {"type", "enum", "anyOf", "items", "properties", "required", "additionalProperties", "description"}
    inner = [*parts.values(), *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return not closed or not schema.keys() <= known or not {"type", "anyOf"} & schema.keys() or _is_loose(inner)


def _asks_loosely(body: Body) -> bool:
    asked = body.get("response_format") or {}
    return "json_schema" in asked and _is_loose(asked["json_schema"]["schema"])


def _has_both(body: Body) -> bool:
    return {"temperature", "top_p"} <= body.keys()


def _has(*names: str) -> Callable[[Body], bool]:
    return lambda body: bool(body.keys() & set(names))


def _has_system(body: Body) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


_HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>"
MANNERS: dict[str, Manner] = {
    "ends": Manner("answers end with the value as finish_reason; null and absent too", _ends, "eos"),
    "content-parts": Manner(
        "content is a list of parts", _beside(lambda text: {"content": [{"type": "text", "text": text}]})
    ),
    "thinking-parts": Manner(
        "thoughts are parts of the content",
        _beside(
            lambda text: {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                    {"type": "text", "text": text},
                ]
            }
        ),
    ),
    "reasoning-field": Manner("thoughts are a field", _beside(lambda _: {"reasoning_content": THOUGHT})),
    "think-tags": Manner("thoughts stand before the answer in <think>", _marked("<think>\n{}\n</think>\n\n{}")),
    "half-think-tags": Manner("thoughts have no opening tag, which the template wrote", _marked("{}\n</think>\n\n{}")),
    "thought-tags": Manner("thoughts stand in <thought>", _marked("<thought>\n{}\n</thought>\n{}")),
    "think-marks": Manner("thoughts stand in [THINK]", _marked("[THINK]{}[/THINK]{}")),
    "channels": Manner("thoughts stand in a channel of harmony", _marked(_HARMONY)),
    "thought-alone": Manner("max_tokens go to the thought, and no answer comes", _thought_alone),
    "refusal": Manner(
        "the model refuses in a field beside an empty content",
        _beside(lambda _: {"content": None, "refusal": REFUSAL}),
    ),
    "filtered": Manner("a filter ends the answer", _filtered),
    "usage": Manner("usage as the value says: none, anthropic, gemini", _usage, "none"),
    "temperature-or-top-p": Manner(
        "temperature beside top_p is refused",
        _refusing(_has_both, "`temperature` and `top_p` cannot both be specified for this model."),
    ),
    "no-sampling": Manner(
        "temperature and top_p are refused",
        _refusing(_has("temperature", "top_p"), "Unsupported value: 'temperature' does not support 0.7."),
    ),
    "no-seed": Manner("seed is refused", _refusing(_has("seed"), 'Unknown name "seed": Cannot find field.')),
    "no-system": Manner(
        "a system message is refused", _refusing(_has_system, "Developer instruction is not enabled for this model.")
    ),
    "max-completion-tokens": Manner(
        "max_tokens has another name",
        _refusing(_has("max_tokens"), "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ),
    "strict-schema": Manner(
        "a schema that is not strict is refused",
        _refusing(_asks_loosely, "Invalid schema for response_format."),
    ),
    "error-in-200": Manner("every answer is an error of the value's code, with status 200", _error_in_200, "402"),
    "no-money": Manner(
        "every call gets 429, since the account has no money",
        lambda *_: Refused(429, _error("You exceeded your current quota.", "insufficient_quota")),
    ),
}
