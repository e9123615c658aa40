"""Votes between two answers as comparisons, and several judges that bring ratings."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError
from pairsmith.judging.pairwise import settled, won_in
from pairsmith.stages.base import open_store
from pairsmith.storage.schemas import rows
from pairsmith.storage.tables import completion_refs, judge_ref
from tests.runs import run

VOTES = {
    "columns": {side: {"text": f"answer_{side}", "member": f"model_{side}"} for side in "ab"},
    "votes": {"overall": "winner"},
    "voter": "who",
}
PEOPLE = {"name": "people", "backend": "given", "protocol": "pairwise"}
ARENA = [
    ("x", "y", "a", 1), ("y", "x", "b", 2), ("y", "x", "a", 3),  # x wins two of three
    ("y", "z", "a", 1), ("x", "z", "tie", 1), ("z", "x", "who knows", 2), ("x", "y", None, 4),
]  # fmt: skip


def recipe_of(folder: Path, found: list[dict[str, Any]], layout: dict[str, Any], *judges: Any, **rating: Any) -> Recipe:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, found)))
    data = {
        "name": "set",
        "workspace": str(folder / "data"),
        "prompts": {"sources": [{"path": "rows.jsonl", "completions": layout, "columns": {"prompt": "prompt"}}]},
        "pool": {"members": [{"name": "given", "backend": "given"}]},
        "rating": {"judges": judges, **rating},
    }
    return parse_recipe(data, base=folder)


def arena(one: str, other: str, winner: Any, who: int) -> dict[str, Any]:
    sides = {"model_a": one, "model_b": other, "answer_a": f"By {one}.", "answer_b": f"By {other}."}
    return {"prompt": "Which?", "winner": winner, "who": who, **sides}


def ratings(recipe: Recipe, judge: str) -> list[dict[str, Any]]:
    """The ratings of a judge after a run, with the member in place of each completion's id."""
    store = open_store(recipe)
    (shard,) = store.shards()
    named = {row["completion_id"]: row["member"] for row in rows(store.load_all(completion_refs(recipe, shard)).data)}
    found = rows(store.read(judge_ref(shard, judge)))
    return [
        row | {"completion_id": named[row["completion_id"]], "against": named.get(row.get("against"))} for row in found
    ]


def test_votes_are_comparisons_and_answers_meet_in_several_rows(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [arena(*one) for one in ARENA], VOTES, PEOPLE)
    published, summary, calls = run(recipe)
    found = ratings(recipe, "people")
    assert won_in(found) == {("x", "y"): pytest.approx(2 / 3), ("x", "z"): 0.5, ("y", "z"): 1.0}
    assert {(row["protocol"], row["position"]) for row in found} == {("given", None)}
    assert [row["error"] for row in found if row["score"] is None] == [
        "the given verdict names neither answer, and no tie"
    ] * 2
    assert {json.loads(row["reply"])["voter"] for row in found} == {"1", "2", "3"}
    assert {row["completion_id"]: row["score"] > 3 for row in settled(found)} == {"x": True, "y": True, "z": False}
    assert (summary.pairs, calls.total()) == (1, 0)
    digests = {published.digest}
    for seed in range(3):
        turned = random.Random(seed).sample(ARENA, len(ARENA))
        digests.add(run(recipe_of(tmp_path, [arena(*one) for one in turned], VOTES, PEOPLE))[0].digest)
    assert len(digests) == 1


def test_equal_votes_of_nobody_named_are_one(tmp_path: Path) -> None:
    layout = {name: value for name, value in VOTES.items() if name != "voter"}
    recipe = recipe_of(tmp_path, [arena(*one) for one in ARENA[:4]], layout, PEOPLE)
    run(recipe)
    assert won_in(ratings(recipe, "people")) == {("x", "y"): 0.5, ("y", "z"): 1.0}


def test_an_answer_without_votes_is_null_only_where_nobody_else_rates_it(tmp_path: Path) -> None:
    found = [arena("x", "y", "a", 1), arena("x", "z", None, 1)]
    recipe = recipe_of(tmp_path, found, VOTES, PEOPLE)
    run(recipe)
    assert {row["completion_id"]: row["error"] for row in ratings(recipe, "people")} == {
        "x": None, "y": None, "z": "no given verdict",
    }  # fmt: skip
    asked = {"name": "asked", "backend": "echo", "model": "m"}
    other = recipe_of(tmp_path, found, VOTES, PEOPLE, asked)
    run(other)
    assert {row["completion_id"] for row in ratings(other, "people")} == {"x", "y"}


TWO = {"items": "answers", "text": "text", "member": "who", "ratings": {"ann": "ann", "bob": "bob"}}
ANN, BOB = ({"name": name, "backend": "given", "brings": {"overall": name}} for name in ("ann", "bob"))


def test_several_judges_bring_what_their_names_in_the_sources_say(tmp_path: Path) -> None:
    answers = [
        {"who": "x", "text": "1", "ann": 5, "bob": 4},
        {"who": "y", "text": "2", "ann": 2, "bob": None},
        {"who": "z", "text": "3"},
    ]
    recipe = recipe_of(tmp_path, [{"prompt": "Which?", "answers": answers}], TWO, ANN, BOB)
    _, summary, _ = run(recipe)
    found = {name: {row["completion_id"]: row["score"] for row in ratings(recipe, name)} for name in ("ann", "bob")}
    assert found == {"ann": {"x": 5, "y": 2, "z": None}, "bob": {"x": 4, "z": None}}
    assert summary.pairs == 1
    assert summary.completion_reasons == {"unrated": 1}


@pytest.mark.parametrize(
    ("judges", "layout", "told"),
    [
        ([ANN, BOB | {"brings": {"overall": "ann"}}], TWO, "ann and bob would bring the same ratings, ann of the"),
        ([ANN, BOB | {"brings": {"overall": "carl"}}], TWO, "there is no bob"),
        ([ANN, BOB | {"brings": {"honesty": "bob"}}], TWO, "brings: there is no honesty"),
        ([ANN, {"name": "k", "backend": "echo", "model": "m", "brings": {"overall": "bob"}}], TWO, "backend given"),
        ([ANN, BOB | {"protocol": "pointwise"}], TWO, "votes are pairwise"),
        ([ANN, BOB | {"protocol": "pairwise"}], TWO, "aspects: there is no bob"),
        ([PEOPLE], VOTES | {"columns": {"a": "b"}}, "completions.votes: they are of two"),
        ([PEOPLE], {**TWO, "voter": "v"}, "voter: it goes with votes"),
        ([PEOPLE], VOTES | {"votes": {"quality": "winner"}}, "completions.votes: there is no quality"),
    ],
)
def test_what_would_come_to_nothing_is_refused(tmp_path: Path, judges: Any, layout: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        recipe_of(tmp_path, [arena(*ARENA[0])], layout, *judges)
