"""The rows that golden tables are made from, and a model that answers them: nothing here is pairsmith's own code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pairsmith.protocol import Finished, Identity, Reply, Request

COUNT = 60  # prompts of a golden test
_WORDS = (
    "amber birch cedar delta ember fjord grove haven inlet jetty knoll lagoon mesa north oasis prairie quarry ridge "
    "savanna tundra upland valley willow yonder zephyr"
).split()
Row = dict[str, Any]


def number(*parts: Any) -> int:
    """A whole number that depends on `parts` alone."""
    return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12], 16)


def words(count: int, *parts: Any) -> str:
    """So many words, drawn by `parts`."""
    return " ".join(_WORDS[number(*parts, place) % len(_WORDS)] for place in range(count))


def prompt(place: int, **more: Any) -> Row:
    """A row of the prompts table: chats of one turn and of three, with and without a system prompt and a reference."""
    chat = [{"role": "user", "content": f"Question {place}: {words(4, 'ask', place)}?"}]
    if place % 4 == 1:
        chat += [{"role": "assistant", "content": words(5, "turn", place)}, {"role": "user", "content": "And then?"}]
    row = {
        "prompt_id": f"p{place:03}",
        "messages": json.dumps(chat),
        "system_prompt": "Be kind." if place % 3 == 1 else None,
        "source": ("first", "second", "third")[place % 3],
        "reference": _reference(place) if place % 5 == 2 else None,
        "extras": None,
    }
    return row | more


def _reference(place: int) -> str:
    return {7: "?!", 22: "no digits"}.get(place, f"{words(3, 'reference', place)} {place}")


def completion(place: int, sample: int, text: str, **more: Any) -> Row:
    """A row of the completions table that answers prompt `place`."""
    row = {
        "completion_id": f"c{place:03}.{sample}",
        "prompt_id": f"p{place:03}",
        "member": ("alpha", "beta", "gamma", "delta")[sample],
        "model": ("llama-a", "qwen-b", "gemma-c", "qwen-d")[sample],
        "revision": None,
        "system_prompt": None,
        "text": text,
        "finish_reason": "stop",
        "n_tokens": len(text.split()),
        "sample": 0,
        "seed": 0,
        "evolution": 0,
        "parent_id": None,
        "method": None,
        "request": "r",
        "error": None,
    }
    return row | more


class Scripted:
    """A model whose replies are made by a function of the request and a number drawn for it."""

    identity = Identity("scripted", "golden", "1")

    def __init__(self, answer: Callable[[Request, int], Reply]) -> None:
        self._answer = answer

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for place, one in enumerate(requests):
            yield [(place, self._answer(one, self._drawn(one)))]

    @staticmethod
    def _drawn(request: Request) -> int:
        return number(list(request.messages), request.seed, request.sample)
