"""Models made up for tests of criteria: a writer whose answers name its own worth, an author, a judge that can read.

The author's questions are the same for all prompts, but that the second names the prompt's own case; a prompt with
`odd` in it gets a reply that is no JSON, until the author is told so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from pairsmith.config import ModelSpec
from pairsmith.protocol import Finished, Identity, Reply, Request

GOOD, CASE, SHORT, ANY = "Does it say good?", "Does it name case {}?", "Is it short?", "Is it written in words?"
_TEXT = re.compile(r"\[TEXT \w+\]\n(.*?)\n\[END", re.S)


class Model:
    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity(type(self).__name__.lower(), spec.model, spec.revision)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            yield [(index, self.answer(request, request.messages[-1]["content"]))]

    def answer(self, request: Request, asked: str) -> Reply:
        raise NotImplementedError


class Writer(Model):
    def answer(self, request: Request, asked: str) -> Reply:
        return Reply(f"{self.identity.model}, case {asked.split()[-1]}", "stop", n_tokens=3)


class Author(Model):
    def answer(self, request: Request, asked: str) -> Reply:
        if "odd" in request.messages[0]["content"] and "- unreadable: no JSON object" not in asked:
            return Reply("I would rather not.", "stop")
        (case,) = set(re.findall(r"case (\d+)", asked)) or {"none"}
        items = [
            {"question": GOOD, "weight": "essential", "check": ""},
            {"question": CASE.format(case), "weight": "optional", "check": ""},
            {"question": SHORT, "weight": "optional", "check": "words at most 3"},
            {"question": ANY, "weight": "important", "check": "by eye"},
        ]
        return Reply(json.dumps({"items": items}), "stop", n_prompt_tokens=9, n_tokens=30)


class Judge(Model):
    def answer(self, request: Request, asked: str) -> Reply:
        (text,) = _TEXT.findall(asked)
        if GOOD in asked:
            yes = 0.9 if "good" in text else 0.3 if "fair" in text else 0.1
        else:
            yes = 0.97 if ANY in asked else 0.8
        return Reply("", "stop", logprobs={"Yes": math.log(yes), "No": math.log(1 - yes)})
