"""The `echo` backend: a stand-in for a model that answers at once, without weights, in the format asked for.

It serves tests, rehearsals of a recipe before real money is spent, and whatever needs the workflow but no real text.
Its answer depends on the request alone, so a rerun gives the same data set. A prompt with `[echo: fail]`,
`[echo: empty]`, `[echo: long]` or `[echo: garbage]` in it gets an error, a blank text, a text cut at max_tokens, or a
reply in no format.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Sequence

from pairsmith.config import ModelSpec
from pairsmith.ids import draw, seed_of
from pairsmith.protocol import Finished, Identity, Reply, Request

_WORDS = (
    "a careful answer begins with the question itself and names what is known before it says what follows from it "
    "then every step gets one reason and one example so that the reader can check each claim against what they see "
    "where something is unsure the text says so plainly and where two views differ it shows both sides fairly "
    "at the end it returns to the need behind the question and leaves out all that does not serve it"
).split()
_SLOT = re.compile(r"<[^<>\n]+>")
_VERDICT_LINE = re.compile(r"^Better: <(?P<marks>\w+, \w+) or (?P<tie>\w+)>$")
_RATING_LINE = re.compile(r"^Rating (?P<mark>\w+): <(?P<low>\d+) to (?P<high>\d+)")


class Echo:
    """A backend that derives its answers from a hash of the request."""

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity("echo", spec.model, spec.revision)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            yield [(index, self.answer(request))]

    def answer(self, request: Request) -> Reply:
        prompt, key = request.messages[-1]["content"], request.key(self.identity)
        mode = next((mode for mode in ("fail", "empty", "long", "garbage") if f"[echo: {mode}]" in prompt), None)
        if mode == "fail":
            return Reply("", error="echo was told to fail")
        text = {"empty": " \n", "garbage": "}{ no format at all"}.get(mode or "") or self._text(request, prompt, key)
        words = text.split(" ")
        limit = 1 if mode == "long" else request.sampling.max_tokens
        cut = len(words) > limit and not request.schema
        return Reply(
            text=" ".join(words[:limit]) if cut else text,
            finish_reason="length" if cut else "stop",
            n_prompt_tokens=sum(len(message["content"].split()) for message in request.messages),
            n_tokens=min(len(words), limit),
            logprobs=_distribution(request.choices, key) if request.choices else None,
        )

    def _text(self, request: Request, prompt: str, key: str) -> str:
        if request.schema:
            return json.dumps(_instance(request.schema, key))
        if request.choices:
            logprobs = _distribution(request.choices, key)
            return f"{max(logprobs, key=lambda choice: logprobs[choice])} - {_prose(key, 12)}"
        lines = prompt.splitlines()
        if any(_RATING_LINE.match(line) or _VERDICT_LINE.match(line) for line in lines):
            start = max(i for i, line in enumerate(lines) if line.startswith("Reply with "))
            return "\n".join(_fill(line, f"{key}.{number}") for number, line in enumerate(lines[start + 2 :]))
        return _prose(key, 8 + seed_of(key, "length") % 40)


def _prose(key: str, n_words: int) -> str:
    words = random.Random(key).choices(_WORDS, k=n_words)
    return " ".join(words).capitalize() + "."


def _fill(line: str, key: str) -> str:
    rating = _RATING_LINE.match(line)
    if rating:
        low, high = int(rating["low"]), int(rating["high"])
        return f"Rating {rating['mark']}: {low + seed_of(key, line) % (high - low + 1)}"
    if verdict := _VERDICT_LINE.match(line):
        choices = [*verdict["marks"].split(", "), verdict["tie"]]
        return f"Better: {choices[seed_of(key, line) % len(choices)]}"
    return _SLOT.sub(lambda _: _prose(key + line, 12), line)


def _distribution(choices: Sequence[str], key: str) -> dict[str, float]:
    weights = {choice: 0.01 + draw(key, choice) ** 3 for choice in choices}
    total = sum(weights.values())
    return {choice: math.log(weight / total) for choice, weight in weights.items()}


def _instance(schema: dict, key: str) -> object:  # type: ignore[type-arg]
    """A value that fits the part of JSON schema that pairsmith's requests use."""
    if "enum" in schema:
        values = [value for value in schema["enum"] if value is not None]
        return values[seed_of(key) % len(values)]
    if schema["type"] == "array":
        return [_instance(schema["items"], f"{key}.{place}") for place in range(2 + seed_of(key, "items") % 3)]
    if schema["type"] == "object":
        return {name: _instance(part, f"{key}.{name}") for name, part in schema["properties"].items()}
    return _prose(key, 12)
