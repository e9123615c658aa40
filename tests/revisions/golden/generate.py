"""Golden tables of generate: members with system prompts, principles and samples; replies of all kinds; given ones."""

from __future__ import annotations

import json

from pairsmith.config import Member, Pool
from pairsmith.generation.pool import generate
from pairsmith.protocol import Reply, Request
from pairsmith.sources.given_completions import completions_of
from pairsmith.storage.schemas import frame, rows
from tests.revisions.golden.rows import COUNT, Row, Scripted, prompt, words

MODEL = {"backend": "echo", "model": "m"}
WEIGHTS = {"default": {"helpfulness": 1, "honesty": 2}, "second": {"truthfulness": 1, "helpfulness": 0}}
MEMBERS = (
    Member(name="plain", **MODEL),
    Member(name="brief", system_prompt="Be brief.", sampling={"temperature": 0.5, "seed": 3}, **MODEL),
    Member(name="drawn", principles={"weights": WEIGHTS, "seed": 7}, samples=2, **MODEL),
    Member(name="given", backend="given"),
)
GIVEN = [
    {"member": "human", "text": "by a person"},
    {"text": "without a label"},
    {"member": "human", "model": "gpt", "text": "again by the person"},
    {"member": "bot", "text": "", "error": "empty"},
]


def tables() -> dict[str, list[Row]]:
    asked = frame("prompts", [prompt(place) for place in range(COUNT)])
    made = {}
    for drawn in (None, 2):
        pool = Pool.model_construct(members=MEMBERS, draw=drawn, seed=5)
        for member in MEMBERS[:3]:
            made[f"{member.name} {drawn}"] = rows(generate(asked, pool, member, Scripted(answer)))
    brought = [prompt(n, extras=json.dumps({"completions": GIVEN[: n % 5]})) for n in range(COUNT)]
    return made | {"given": rows(completions_of(frame("prompts", [prompt(0), *brought[1:]]), MEMBERS[3]))}


def answer(request: Request, drawn: int) -> Reply:
    match drawn % 8:
        case 0:
            return Reply("", error="the endpoint is busy")
        case 1:
            return Reply("", error="longer than the context", final=True)
        case 2:
            return Reply(" \n", "stop", 5, 1)
        case 3:
            return Reply(words(9, drawn), "length", 5, 9)
        case 4:
            return Reply(f"<think>\n{words(4, drawn)}\n</think>\n\n{words(5, drawn)}", "stop", 5, 9)
        case 5:
            return Reply(f"<think>{words(7, drawn)}", "length", 5, 7)
    return Reply(words(3 + drawn % 20, drawn), "stop", 7, 3 + drawn % 20)
