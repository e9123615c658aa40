"""Golden tables of rate: judges of every protocol and readout, replies well and badly formed, checks, given ratings."""

from __future__ import annotations

import json
import math
import re

from pairsmith.config import Member, Rating
from pairsmith.judging.rating import check, rate
from pairsmith.protocol import Reply, Request
from pairsmith.sources.given_completions import completions_of, ratings_of
from pairsmith.sources.given_votes import key_of
from pairsmith.storage.row_types import CriterionRow, rows_as
from pairsmith.storage.schemas import frame, rows
from tests.revisions.golden.rows import COUNT, Row, Scripted, completion, number, prompt, words

OWN = "tests.revisions.golden.own"
MODEL = {"backend": "echo", "model": "judge"}
RUBRICS = {
    "style": {"criterion": "Is it well written?", "low": 0, "high": 9, "may_be_na": True},
    "items": {"criterion": "What does it do?", "items": ("It answers.", "It is short.", "It is kind.")},
}
ASPECTS = ("helpfulness", "honesty", "overall", "style", "items")
JUDGES = (
    {"name": "lines", "orders": 2, "seed": 4},
    {"name": "bare", "model": "qwen-judge", "rationale": False, "reasks": 2, "aspects": ("honesty", "style")},
    {"name": "fields", "readout": "json", "aspects": ("honesty", "items")},
    {"name": "terse", "readout": "json", "rationale": False, "protocol": "pointwise", "aspects": ("style",)},
    {"name": "digits", "protocol": "pointwise", "readout": "logprobs", "aspects": ("overall", "honesty")},
    {
        "name": "digit",
        "protocol": "pointwise",
        "readout": "logprobs",
        "rationale": False,
        "critique": True,
        "aspects": ("overall",),
    },
    {"name": "mine", "prompt": f"{OWN}:prompt", "aspects": ("helpfulness", "honesty")},
    {"name": "reward", "backend": "reward", "label": 1, "scale": (-2.0, 2.0), "aspects": ("overall",)},
    {"name": "plain-reward", "backend": "reward", "scale": (-1.0, 1.0)},
    {"name": "people", "backend": "given", "model": "", "aspects": ("honesty", "style")},
    {
        "name": "trained",
        "protocol": "pointwise",
        "aspects": ("overall", "style"),
        "format": {
            "system": "FORM {{ criterion }}",
            "user": "FORM {{ prompt }} {{ reference }} {{ text }} {{ low }} {{ high }}",
            "answer": r"Result: (?P<rating>\S{1,4})",
        },
    },
)
FORM = "FORM {{ prompt }} 1: {{ first }} 2: {{ second }}"
COMPARING = (
    {"name": "words", "comparisons": {"rounds": 3}, "seed": 2},
    {"name": "fields", "readout": "json", "comparisons": {"against": "alpha"}},
    {"name": "letters", "readout": "logprobs", "rationale": False, "critique": True},
    {"name": "critic", "format": {"user": FORM, "answer": r"\[\[((?P<first>1)|(?P<second>2)|(?P<tie>t))\]\]"}},
    {"name": "form-letters", "format": {"user": FORM}, "readout": "logprobs", "aspects": ("overall",)},
    {"name": "pair", "backend": "reward", "aspects": ("overall",), "comparisons": {"rounds": 2}},
    {
        "name": "written",
        "backend": "reward",
        "label": 1,
        "aspects": ("style",),
        "input": "Q {{ second }} or {{ first }}, {{ prompt }}",
    },
)
READERS = (
    {"name": "words", "aspects": ("criteria",)},
    {"name": "fields", "readout": "json", "protocol": "pairwise"},
    {"name": "likelier", "readout": "logprobs", "protocol": "pointwise"},
)
ASKED = {"author": {"backend": "echo", "model": "author"}}
FORMS = (None, "words at most 9", None, 'lacks "amber"', None, None)
CHECKS = (
    {"name": "exact", "kind": "exact-match"},
    {"name": "folded", "kind": "exact-match", "casefold": True, "strip_punctuation": True},
    {"name": "last", "kind": "exact-match", "last_number": True},
    {"name": "found", "kind": "regex", "pattern": "(?P<word>amber|birch)", "ignore_case": True},
    {"name": "absent", "kind": "regex", "pattern": "^cedar.*", "negate": True, "multiline": True, "dot_all": True},
    {"name": "all", "kind": "regex", "pattern": "[a-z ]+", "whole": True, "gate": True},
    {"name": "schema", "kind": "json-schema", "schema": {
        "type": "object", "required": ["a"],
        "properties": {"a": {"type": "string", "pattern": "^x"}, "b": {"uniqueItems": True}},
    }},
    {"name": "own", "kind": "python", "callable": f"{OWN}:longer"},
)  # fmt: skip
FAMILIES = {"alpha": "llama", "beta": "qwen", "gamma": "gemma", "delta": "qwen"}
GIVEN = {
    "honesty": [{"value": 4, "rationale": "by a person"}], "style": [{"value": "7/9"}, {"value": 7}],
    "helpfulness": [{"value": 2}, {"value": 3}], "overall": [{"value": None}],
}  # fmt: skip
VOTES = {"honesty": "better", "style": "tie", "helpfulness": "unsure"}
ODD = {"honesty": [{"value": "n/a"}], "style": [{"value": 3.5, "fractions": True}, {"value": [], "rationale": "none"}]}


def settings(**more: object) -> Rating:
    judges = [
        {**MODEL, **one} if one.get("backend") != "given" else {k: v for k, v in one.items() if v} for one in JUDGES
    ]
    whole = {"judges": judges, "checks": CHECKS, "aspects": ASPECTS, "rubrics": RUBRICS}
    return Rating.model_validate(whole | more)


def tables() -> dict[str, list[Row]]:
    prompts, completions = frame("prompts", asked()), frame("completions", written())
    made: dict[str, list[Row]] = {}
    for own_family in ("rate", "auto", "skip"):
        plan = settings(own_family=own_family) if own_family != "skip" else _alike()
        for judge in plan.judges:
            if not judge.is_given:
                families = None if own_family == "rate" else FAMILIES
                made[f"{own_family} {judge.name}"] = rows(
                    rate(prompts, completions, plan, judge, Scripted(answer), families)
                )
    versus = settings(judges=[{**MODEL, "protocol": "pairwise", **one} for one in COMPARING])
    for judge in versus.judges:
        made[f"pairwise {judge.name}"] = rows(rate(prompts, completions, versus, judge, Scripted(answer)))
    plan, member = settings(), Member(name="given", backend="given")
    brought = frame("prompts", [prompt(n, extras=json.dumps({"completions": _brought(n)})) for n in range(COUNT)])
    given = ratings_of(brought, completions_of(brought, member), plan, plan.judge("people"), member)
    voters = {"backend": "given", "protocol": "pairwise", "name": "voters", "brings": {"overall": "helpfulness"}}
    voted = settings(judges=[voters | {"aspects": ("honesty", "style", "overall")}], aspects=ASPECTS[1:4])
    votes = ratings_of(brought, completions_of(brought, member), voted, voted.judge("voters"), member)
    found = {"checks": check(prompts, completions, plan), "given": given, "votes": votes}
    readers = settings(judges=[{**MODEL, **one} for one in READERS], criteria=ASKED, aspects=("overall", "criteria"))
    items = rows_as(CriterionRow, frame("criteria", questions()))
    for judge in readers.judges:
        made[f"criteria {judge.name}"] = rows(
            rate(prompts, completions, readers, judge, Scripted(answer), criteria=items)
        )
    return made | {name: rows(table) for name, table in found.items()}


def _alike() -> Rating:
    """Judges that skip their own family, which all rate the same aspects."""
    judges = [
        {**MODEL, "name": "one", "model": "qwen-x"},
        {**MODEL, "name": "two", "model": "other", "protocol": "pointwise"},
    ]
    return settings(own_family="skip", judges=judges, aspects=("overall", "honesty"))


def questions() -> list[Row]:
    """Criteria: for each prompt none, one that failed, or up to three of which some do not count."""
    made: list[Row] = []
    for place in range(COUNT):
        for item in range(1, place % 5) or [0]:
            error = {0: "failed: busy", 3: "repeats item 1"}.get(item)
            row = {"prompt_id": f"p{place:03}", "item": item, "question": words(4, "criterion", place, item)}
            row |= {"weight": 1.0, "check": FORMS[(place + item) % 6], "author": "author", "reply": "", "request": "r"}
            made.append(row | {"error": error})
    return [row for row in made if row["item"] or row["prompt_id"] > "p030"]


def asked() -> list[Row]:
    return [prompt(place) for place in range(COUNT)]


def written() -> list[Row]:
    made = []
    for place in range(COUNT):
        for sample in range(place % 4 + (place % 7 > 0)):
            error = "empty" if (place + sample) % 13 == 0 else None
            made.append(completion(place, sample, _text(place, sample), error=error))
    return made


def _text(place: int, sample: int) -> str:
    """A text; some speak of ratings or thoughts, are JSON or their prompt's reference, or end in a number."""
    reference = prompt(place)["reference"]
    body = words(3 + number("size", place, sample) % 14, "text", place, sample)
    match (place * 4 + sample) % 17:
        case 0:
            return f"{body}\nRating: 5"
        case 1:
            return f"<think>{body}</think> {body}"
        case 2:
            return f"```json\n{json.dumps({'a': f'x{place}', 'b': [1, 1.0]})}\n```"
        case 3:
            return json.dumps({"a": body})
        case 4 | 5:
            return reference or body
        case 6:
            return f"{(reference or body).upper()}!"
        case 7:
            return f"{body} 1,000.50 and −{place}.0"
        case 8:
            return '{"a": NaN}'
    return body


def _brought(place: int) -> list[Row]:
    items: list[Row] = [
        {"member": "human", "text": words(5, "human", place), "ratings": GIVEN},
        {"member": "bot", "text": words(5, "bot", place), "ratings": ODD},
        {"text": words(4, "none", place)},
        {"member": "bad", "text": "", "error": "empty"},
    ]
    turned = {"better": "worse"}
    for one, other, said in ((0, 1, VOTES), (1, 0, {name: turned.get(value, value) for name, value in VOTES.items()})):
        against = key_of(items[other])
        items[one]["votes"] = {name: [{"against": against, "value": value}] for name, value in said.items()}
    return items[: place % 5]


def answer(request: Request, drawn: int) -> Reply:
    if request.messages[-1]["role"] == "assistant":
        return Reply(
            json.dumps([[0.5, drawn % 7 - 3.0], [1.5], drawn % 5 / 4, "x", [drawn / 1e14, 2]][drawn % 5]), "stop"
        )
    if any(message["role"] == "second" for message in request.messages):
        return Reply(json.dumps([[0.5, drawn % 7 - 3.0], [1.5], drawn % 5 / 4, [1, 2], [0.0, 0.0]][drawn % 5]), "stop")
    if drawn % 29 == 0:
        return Reply("", error="busy" if drawn % 2 else "too long", final=drawn % 2 == 0)
    if request.choices:
        return _digits(request.choices, drawn)
    original = next(one["content"] for one in request.messages if one["role"] == "user")
    if original.startswith("OWN"):
        forms = ["4 2 x 1", "na half big 3", "text 5 4 3", "1 stray", "z", "4 4\n1", "1 2 3 4"]
        return Reply(forms[drawn % 7], "length" if drawn % 7 == 5 else "stop")
    if original.startswith("FORM"):
        forms = ["So. Result: 4", "Result: 3.5", "Result: 2, Result: 4", "[[1]]", "[[2]] it is.", "[[t]]", "neither"]
        return Reply(forms[drawn % 7], "length" if drawn % 17 == 0 else "stop")
    marks = re.findall(r"^\[TEXT ([0-9a-f]{6})\]$", original, re.MULTILINE)
    if "Which of the two texts" in original:
        return _verdict(marks, drawn, request.schema is not None)
    return _objects(marks, drawn) if request.schema else _lines(marks, drawn)


def _digits(choices: tuple[str, ...], drawn: int) -> Reply:
    weights = {choice: 1 + number(drawn, choice) % 50 for choice in choices}
    logprobs = {choice: math.log(weight / sum(weights.values())) for choice, weight in weights.items()}
    if drawn % 11 == 0:
        logprobs.pop(choices[1])
    if drawn % 11 == 1 and "N" in logprobs:
        logprobs["N"] = 0.0
    return Reply(f"{choices[0]} - {words(4, drawn)}", "stop", 3, 5, logprobs)


def _verdict(marks: list[str], drawn: int, as_object: bool) -> Reply:
    named = [*marks, "tie"][drawn % 3]
    if as_object:
        whole = json.dumps({"rationale": "so", "better": named})
        return Reply([whole, whole, '{"better": "first"}', "{"][drawn % 8 // 2], "stop")
    line = f"Rationale: {words(3, drawn)}\nBetter: {named}"
    forms = [line.replace("Better", "**Better**"), f"{line}\nCorrection: {marks[0]}", "The first.\nIt is.", named]
    return Reply([*forms, *[line] * 7][drawn % 11], "length" if drawn % 23 == 0 else "stop")


def _objects(marks: list[str], drawn: int) -> Reply:
    entries = {mark: {"rationale": words(3, drawn, mark), "rating": number(drawn, mark) % 6} for mark in marks}
    whole = json.dumps(entries)
    forms = [whole, f"```json\n{whole}\n```", f"Here it is: {whole}", "{", whole + f"\n{marks[0]}: 4", "[]", "{}"]
    if drawn % 9 == 8:
        return Reply(json.dumps({mark: {"rating": None} for mark in marks} | {"odd": 1}), "stop")
    return Reply([*forms, json.dumps({mark: {"rating": "4"} for mark in marks})][drawn % 9 % 8], "stop")


def _lines(marks: list[str], drawn: int) -> Reply:
    values = {mark: number(drawn, mark) % 7 for mark in marks}
    lines = "\n".join(f"### Text {m}\nRationale: {words(4, m, drawn)}\nRating {m}: {v}\n" for m, v in values.items())
    table = "| text | rating | reason |\n|---|---|---|\n" + "\n".join(f"| {m} | {v} | ok |" for m, v in values.items())
    forms = {
        0: lines.replace("Rating", "**Rating**"),
        1: table,
        2: "\n".join(f"{m}: {v}/5" for m, v in values.items()),
        3: "\n".join(f"Text {m}, rating: {v}" for m, v in values.items()),
        4: lines + f"\nRating {marks[0]}: {values[marks[0]] + 1}",
        5: f"<think>Rating {marks[0]}: 1</think>\n{lines}",
        6: "\n".join(f"### Text {m}\nRating: {'N/A' if v % 2 else 'four'}" for m, v in values.items()),
        7: "I would say that all are good.",
        8: "\n".join(f"### Text {m}\nRating:\n{v} out of 5" for m, v in values.items()),
        9: "\n".join(f"### Text {m}\nRating {m}: {v} - {words(3, m)}\n### Other\nRating: 1" for m, v in values.items()),
    }
    return Reply(forms.get(drawn % 16, lines), "length" if drawn % 16 == 10 else "stop", 9, 30)
