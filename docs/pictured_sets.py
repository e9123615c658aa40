"""Data sets whose reports are pictured in docs: one with all parts, a good one, a noisy one, one with a dead member.

Their questions, answers and ratings are made up here, so that they are ours to show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pairsmith import build
from pairsmith.ids import draw
from pairsmith.testing import FakeEndpoint, Fault

ASPECTS = ("helpfulness", "honesty")
_SUM = re.compile(r"(\d+) \+ (\d+) = (\d+)")
GONE = Fault(400, '{"error": {"message": "the model mellow-7b was retired; use mellow-8b"}}')


class Reckoner(FakeEndpoint):
    """A judge of sums: it gives a right one 4 or 5 and a wrong one 1 or 2, by its name and the answer."""

    def behaved(self, body: dict[str, Any], response: dict[str, Any]) -> Any:
        asked, message = body["messages"][-1]["content"], response["choices"][0]["message"]
        one, other, total = map(int, _SUM.findall(asked)[-1])
        high = 4 if one + other == total else 1
        rating = high + (draw("rating", body["model"], one, other, total) < 0.5)
        message["content"] = re.sub(r"(?m)^(Rating \w+: )\d+", rf"\g<1>{rating}", message["content"])
        return response


class Kitchen(FakeEndpoint):
    """Two members, an evolver and two judges who know something about food."""

    def behaved(self, body: dict[str, Any], response: dict[str, Any]) -> Any:
        model, message = body["model"], response["choices"][0]["message"]
        asked = "\n".join(one["content"] for one in body["messages"])
        thing = next(thing for thing in _ADVICE if f"keep {thing} fresh" in asked or f"put {thing} in" in asked)
        if model in ("ada", "grace"):
            message["content"] = _judged(model, thing, asked, message["content"])
        else:
            message["content"] = _advised(model, thing, asked)
        return response


def _advised(model: str, thing: str, asked: str) -> str:
    place, why = _ADVICE[thing]
    if model == "thorough":
        seldom = draw("seldom", asked) < 0.4
        more = "freeze in portions the size of a meal" if seldom else "give away before it spoils"
        return f"I would use {place}: {why}. Look every other day. What you will not eat within the week, {more}."
    short = f"Use {place}."
    if model == "brief" or draw("unchanged", asked) < 0.15:
        return short
    return f"Use {place}, as {why}. So it was done before there were fridges."


def _judged(judge: str, thing: str, asked: str, reply: str) -> str:
    """A rating by what a text says, and a little by its judge; with what the judge thinks of it."""
    says_why, says_more = _ADVICE[thing][1] in asked, "within the week, " in asked
    about = "helpfulness" if "how helpful" in asked else "honesty"
    text = asked.partition("[TEXT ")[2].partition("]")[2].partition("[END")[0]
    rating = min(5, 2 + says_why + (draw(about, judge, text) < 0.35) + 2 * (draw("taste", text) < 0.4))
    why = "It says where, why, and what to do with the rest." if says_more else "It says where and why."
    rationale = why if says_why else "It says where, and leaves the reader to guess why."
    said = re.sub(r"(?m)^Rationale: .*$", f"Rationale: {rationale}", reply)
    return re.sub(r"(?m)^(Rating \w+: )\d+", rf"\g<1>{rating}", said)


def whole(folder: Path) -> Path:
    """Advice by two models, the shorter answers rewritten by a third, with two judges and prices."""
    questions = [{"prompt": f"How do I keep {thing} fresh for a week?"} for thing in _THINGS]
    questions += [{"prompt": f"Where do I put {thing} in a small kitchen?"} for thing in _THINGS]
    _write(folder / "food.jsonl", questions)
    with Kitchen() as kitchen:
        small, large = ({"price": {"prompt": cost, "completion": 4 * cost}} for cost in (0.1, 0.5))
        recipe = {
            "name": "kitchen", "description": "Advice by two models, the shorter answers rewritten, with two judges.",
            "workspace": str(folder / "data"), "prompts": {"sources": [{"path": str(folder / "food.jsonl")}]},
            "pool": {"members": [_model("brief", kitchen) | small, _model("thorough", kitchen) | large]},
            "evolution": {"of": ["brief"], "evolver": _model("evolver", kitchen) | large},
            "rating": {
                "aspects": list(ASPECTS),
                "judges": [_model(name, kitchen) | large | {"protocol": "pointwise"} for name in ("ada", "grace")],
            },
        }  # fmt: skip
        return _report(recipe)


def good(folder: Path) -> Path:
    """Sums with a right and a wrong answer, which two judges tell apart."""
    columns = {side: {"text": side} for side in ("first", "second")}
    with Reckoner() as endpoint:
        judges = [_model(name, endpoint) | {"protocol": "pointwise"} for name in ("ada", "grace")]
        rating = {"aspects": ["honesty"], "judges": judges}
        return _given(folder, "good", "Sums, answered rightly and wrongly.", map(_sum, range(520)), columns, rating)


def noisy(folder: Path) -> Path:
    """Answers that differ by nothing but their length, rated by one judge that likes it a little."""
    columns = {
        side: {"text": side, "scores": {aspect: f"{side} {aspect}" for aspect in ASPECTS}}
        for side in ("first", "second")
    }
    rating = {"aspects": list(ASPECTS), "judges": [{"name": "ada", "backend": "given"}]}
    return _given(folder, "noisy", "Answers that say the same at length.", map(_padded, range(60)), columns, rating)


def dead_member(folder: Path) -> Path:
    """Two members of three answer; the third one's model is gone."""
    questions = [{"prompt": f"How do I keep {what} fresh for a week?"} for what in _THINGS]
    _write(folder / "questions.jsonl", questions)
    with FakeEndpoint() as sound, FakeEndpoint([GONE] * 1000) as gone:
        members = [_model("brief", sound), _model("mellow", gone), _model("thorough", sound)]
        judges = [_model(name, sound) for name in ("ada", "grace")]
        recipe = {
            "name": "dead-member", "description": "Advice by three models, of which one is gone.",
            "workspace": str(folder / "data"), "prompts": {"sources": [{"path": str(folder / "questions.jsonl")}]},
            "pool": {"members": members},
            "rating": {"aspects": list(ASPECTS), "judges": judges},
        }  # fmt: skip
        return _report(recipe)


def _model(name: str, at: FakeEndpoint) -> dict[str, Any]:
    endpoint = {"base_url": at.url, "api_key_env": None}
    return {"name": name, "backend": "openai", "model": name, "endpoint": endpoint}


def _sum(number: int) -> dict[str, Any]:
    one, other = 13 + number % 97, 7 + number // 97
    right, wrong = f"{one} + {other} = {one + other}.", f"{one} + {other} = {one + other + 1 + number % 9}."
    row = {"first": right, "second": f"Let us add them: {wrong}"}
    if number % 2:
        row = {"first": wrong, "second": f"Let us add them: {right}"}
    return {"prompt": f"What is {one} plus {other}?"} | row


def _padded(number: int) -> dict[str, Any]:
    thing = _THINGS[number % len(_THINGS)]
    short = f"Put {thing} into a box with a lid, number {number}, and close it."
    row: dict[str, Any] = {"prompt": f"Where do I put {thing}? (shelf {number})", "first": short}
    row["second"] = f"{short} A box keeps the air out, and so {thing} will stay as it was."
    for aspect in ASPECTS:
        low = 3 if draw("noise", number, aspect) < 0.5 else 4
        row[f"first {aspect}"] = low
        row[f"second {aspect}"] = round(low + (0.06 if draw("tie", number) > 0.35 else 0.0), 2)
    return row


def _given(
    folder: Path, name: str, about: str, rows: Iterable[dict[str, Any]], columns: Any, rating: dict[str, Any]
) -> Path:
    _write(folder / f"{name}.jsonl", rows)
    recipe = {
        "name": name, "description": about, "workspace": str(folder / "data"),
        "prompts": {"sources": [{"path": str(folder / f"{name}.jsonl"), "completions": {"columns": columns}}]},
        "pool": {"members": [{"name": "given", "backend": "given"}]}, "rating": rating,
        "pairing": {"max_similarity": 1.0, "min_margin": 0.01},
    }  # fmt: skip
    return _report(recipe)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _report(recipe: dict[str, Any]) -> Path:
    release = build(recipe).release
    assert release is not None
    return Path(release.published.report)


_ADVICE = {
    "bread": ("a cloth bag at room temperature", "cold makes the crumb hard within a day"),
    "basil": ("a glass of water on the table", "its leaves turn black in the cold"),
    "cut flowers": ("fresh water away from fruit", "ripe fruit gives off a gas that makes them wilt"),
    "goat cheese": ("wax paper in the warmest part of the fridge", "it has to breathe and must not dry out"),
    "mushrooms": ("a paper bag in the fridge", "paper takes up the water that makes them slimy"),
    "berries": ("a flat bowl lined with kitchen paper", "one that is pressed rots, and the next ones with it"),
    "fish": ("a sieve over ice in the fridge", "only ice keeps it close to freezing"),
    "rice": ("a tight jar in the dark", "damp and moths are all that it fears"),
    "tofu": ("a box of water that you change each day", "the air at its surface lets it turn sour"),
    "butter": ("its dish with the lid on", "it takes the smell of whatever stands beside it"),
    "salad": ("a damp cloth in the lowest drawer", "leaves wilt because they lose water"),
    "ginger": ("a jar in the fridge with its skin on", "the skin holds the juice in"),
    "tomatoes": ("a bowl on the table", "below twelve degrees they stop tasting of anything"),
    "yoghurt": ("its own cup at the back of the fridge", "the door is too warm for it"),
    "coffee": ("a tin with a valve", "air and light take the aroma first"),
    "apples": ("a drawer of their own", "their gas ripens all that lies beside them"),
    "celery": ("foil that is not quite closed", "the gas it gives off has to get out"),
    "pesto": ("a small jar under a finger of oil", "oil keeps the air from the leaves"),
    "hummus": ("a shallow box with a film of oil", "its surface dries before it spoils"),
    "dough": ("an oiled bowl in the fridge", "the cold slows the yeast without killing it"),
}
_THINGS = tuple(_ADVICE)
SETS = {"whole": whole, "good": good, "noisy": noisy, "dead-member": dead_member}
