"""A judge made up for tests: its model says how often it is right, as in `0.7 seed`, or `dead` for one that fails.

It knows an answer's worth by the word good or bad in it, and errs by a draw over the case that the answer names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pairsmith.config import ModelSpec
from pairsmith.ids import draw
from pairsmith.protocol import Finished, Identity, Reply, Request

_TEXT = re.compile(r"\[TEXT (\w+)\]\n(.*?)\n\[END", re.S)


class Knower:
    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity("knower", spec.model, spec.revision)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            yield [(index, self.answer(request.messages[-1]["content"]))]

    def answer(self, asked: str) -> Reply:
        if self.identity.model == "dead":
            return Reply("", error="nobody is there")
        lines = [f"Rating {mark}: {self.rating(text)}" for mark, text in _TEXT.findall(asked)]
        return Reply("\n".join(lines), finish_reason="stop", n_prompt_tokens=10, n_tokens=5)

    def rating(self, text: str) -> int:
        right, *_ = self.identity.model.split()
        (case,) = re.findall(r"case (\d+)", text)
        knows = draw(self.identity.model, case) < float(right)
        return 4 if ("good" in text) == knows else 2


class Writer:
    """A member whose answers name their worth, and a case that comes from the prompt."""

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity("writer", spec.model, spec.revision)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            case = request.messages[-1]["content"].rpartition(" ")[2]
            yield [(index, Reply(f"{self.identity.model}, case {case}", finish_reason="stop", n_tokens=3))]
