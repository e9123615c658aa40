"""Golden tables of criteria: replies well and badly formed; answers ranked, rewritten and drawn; lines of a file."""

from __future__ import annotations

import json

from pairsmith.config import Author, Criteria
from pairsmith.judging.criteria import write
from pairsmith.judging.criteria_file import rows_by_hand
from pairsmith.judging.criteria_reply import WEIGHTS, read_item
from pairsmith.protocol import Reply, Request
from pairsmith.storage.schemas import frame, rows
from tests.revisions.golden.rows import COUNT, Row, Scripted, completion, number, prompt, words

AUTHOR = Author(backend="echo", model="author")
SETTINGS = Criteria(author=AUTHOR, per_prompt=3)
FORMS = ("", "words 2 to 9", 'contains "amber"', "bullets at most 1", "lower case", "json", "as it likes")


def tables() -> dict[str, list[Row]]:
    asked, answers = frame("prompts", [prompt(place) for place in range(COUNT)]), frame("completions", written())
    ranked = SETTINGS.model_copy(update={"strongest_first": ("gamma", "beta", "alpha")})
    made = {
        name: rows(write(asked, answers, settings, AUTHOR, Scripted(reply)))
        for name, settings in (("drawn", SETTINGS), ("ranked", ranked))
    }
    named = {f"p{place:03}": [read_item(item) for item in items(place)] for place in range(0, COUNT, 2)}
    return made | {"by hand": [dict(row) for row in rows_by_hand(named, asked["prompt_id"], 3)]}


def written() -> list[Row]:
    made = []
    for place in range(COUNT):
        for sample in range(place % 5 if place % 5 < 4 else 2):
            more = {"evolution": 1, "parent_id": f"c{place:03}.0"} if sample and place % 3 == 0 else {}
            error = "empty" if (place + sample) % 13 == 0 else None
            text = words(4, "same", place) if place % 7 == 0 else words(4, "answer", place, sample)
            made.append(completion(place, sample, text, error=error, **more))
    return made


def items(drawn: int) -> list[Row]:
    made: list[Row] = []
    for place in range(drawn % 5):
        asked = f"Does it name the {words(2, 'asked', drawn, place)}?"
        weight = [*WEIGHTS, 2, -1, "heavy"][number("weight", drawn, place) % 6]
        made.append({"question": asked, "weight": weight, "check": FORMS[number("check", drawn, place) % len(FORMS)]})
    if made and drawn % 3 == 0:
        made.append({**made[0], "question": f"{made[0]['question']} Really?"})
    if made and drawn % 4 == 0:
        made.append({**made[0], "question": str(made[0]["question"]).replace("Does it", "Does it not")})
    return made


def reply(_: Request, drawn: int) -> Reply:
    if drawn % 29 == 0:
        return Reply("", error="busy" if drawn % 2 else "too long", final=drawn % 2 == 0)
    whole = json.dumps({"items": items(drawn)})
    forms = [
        f"Here it is:\n```json\n{whole}\n```",
        f"<think>{{</think>{whole}",
        whole[:-3],
        '{"items": ["x", {}]}',
        "[]",
    ]
    return Reply([*forms, *[whole] * 7][drawn % 12], "length" if drawn % 12 == 2 else "stop")
