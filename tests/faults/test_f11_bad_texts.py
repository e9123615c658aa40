"""F11: a text that is empty, blank or was cut off never becomes one of a pair, unless the recipe allows cut ones.

The rejections say for each why. A judge's probabilities that are none give no rating, and stop nothing; what is
published holds no NaN.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pairsmith.config import Pairing, Recipe
from pairsmith.judging.readout_logprobs import read_logprobs
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.judging.scoring import Scores
from pairsmith.protocol import Reply
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import judge_ref, pool_ref, rejections_ref
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.pairing.cases import selected
from tests.runs import completion, run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 20


def answer(content: Any, finish_reason: str = "stop", logprobs: Any = None) -> Fault:
    """A response with this text."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": logprobs}
    return Fault(200, json.dumps({"id": "fake", "object": "chat.completion", "choices": [choice]}))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeEndpoint]]:
    """Starts an endpoint that gives one answer, always or to a share of its calls."""
    started: list[FakeEndpoint] = []

    def start(what: Fault, share: float = 1.0) -> FakeEndpoint:
        monkeypatch.setitem(KINDS, f"answer {len(started)}", what)
        started.append(FakeEndpoint(weather=Weather(errors=share, kinds=(f"answer {len(started)}",))))
        return started[-1].__enter__()

    yield start
    for endpoint in started:
        endpoint.__exit__()


def model(name: str, endpoint: FakeEndpoint, **fields: Any) -> dict[str, Any]:
    where = {"base_url": endpoint.url, "api_key_env": None}
    return {"name": name, "model": name, "backend": "openai", "endpoint": where, **fields}


def shard_of(recipe: Recipe) -> str:
    (shard,) = [path.name for path in Path(open_store(recipe).root, "tables").iterdir() if path.name != "load"]
    return shard


def published_rows(folder: str) -> list[dict[str, Any]]:
    return [row for file in Path(folder, "data").iterdir() for row in pq.read_table(file).to_pylist()]


def numbers(value: Any) -> Iterator[float]:
    """All numbers within a value."""
    if isinstance(value, float):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers(part)


BAD = {
    "empty": (answer(""), "empty"),
    "blank": (answer(" \n\t\u2003\u00a0"), "empty"),
    "null": (answer(None), "empty"),
    "nothing but a thought": (answer("<think>Let me see.</think>\n"), "empty"),
    "a thought without an end": (answer("<think>Let me see. It is", "length"), "empty"),
    "cut": (answer("An answer that goes on and", "length"), "truncated"),
    "cut, in another's words": (answer("An answer that goes on and", "max_tokens"), "truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_f11_a_bad_text_is_never_paired_and_its_rejection_says_why(
    base_recipe: Build, endpoint: FakeEndpoint, answering: Callable[..., FakeEndpoint], tally: Tally, name: str
) -> None:
    what, reason = BAD[name]
    bad = answering(what)
    members = [model("a", endpoint), model("bad", bad), model("c", endpoint)]
    recipe = base_recipe(endpoint, COUNT, pool={"members": members})
    published, summary, _ = run(recipe)
    assert len(bad.journal) == COUNT
    rows = published_rows(published.folder)
    assert len(rows) == summary.paired > COUNT // 2
    assert {row[f"{side}_member"] for row in rows for side in ("chosen", "rejected")} == {"a", "c"}
    texts = [message["content"] for row in rows for side in ("chosen", "rejected") for message in row[side]]
    assert all(text.strip() and not text.startswith("An answer that goes on") for text in texts)
    assert summary.completion_reasons[reason] == COUNT
    shard = shard_of(recipe)
    ids = set(open_store(recipe).read(pool_ref(shard, "bad"))["completion_id"])
    rejections = open_store(recipe).read(rejections_ref(shard))
    assert len(ids) == COUNT
    assert Counter(rejections.loc[rejections["completion_id"].isin(ids), "reason"]) == {reason: COUNT}
    again = run(recipe)[2].total()
    tally(1, summary.loaded - COUNT, again)
    assert again == 0  # a bad answer is an answer: it was paid for


def test_f11_cut_texts_are_candidates_where_the_recipe_allows_them(
    base_recipe: Build, endpoint: FakeEndpoint, answering: Callable[..., FakeEndpoint]
) -> None:
    bad = answering(BAD["cut"][0])
    members = [model("a", endpoint), model("bad", bad), model("c", endpoint)]
    forbidden = base_recipe(endpoint, COUNT, pool={"members": members})
    allowed = base_recipe(endpoint, COUNT, pool={"members": members}, pairing={"allow_truncated": True})
    run(forbidden)
    published, summary, calls = run(allowed)
    assert calls.total() == 0
    assert summary.completion_reasons["truncated"] == 0
    assert "bad" in {row["chosen_member"] for row in published_rows(published.folder)}


def test_f11_a_prompt_with_one_sound_answer_says_what_became_of_the_others(
    base_recipe: Build, endpoint: FakeEndpoint, answering: Callable[..., FakeEndpoint], tally: Tally
) -> None:
    half = answering(answer(" \n"), share=0.5)
    members = [model("a", endpoint), model("bad", half), model("worse", answering(BAD["cut"][0]))]
    recipe = base_recipe(endpoint, COUNT, pool={"members": members})
    published, summary, _ = run(recipe)
    lost = summary.completion_reasons["empty"]
    assert 0 < lost < COUNT
    assert summary.prompt_reasons["too_few"] == lost
    rejections = open_store(recipe).read(rejections_ref(shard_of(recipe)))
    whole = rejections[rejections["completion_id"].isna() & (rejections["reason"] == "too_few")]
    assert set(whole["detail"]) == {"1 of 3 completions can be used: 1 empty, 1 truncated"}
    card = Path(published.folder, "README.md").read_text()
    assert f"fewer than two answers to choose from ({lost})" in card
    tally(1, summary.loaded - summary.paired - sum(summary.prompt_reasons.values()))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"text": ""}, "empty"), ({"text": " \u2003\n"}, "empty"), ({"finish_reason": "length"}, "truncated")],
)
@pytest.mark.parametrize("place", range(3))
def test_f11_the_best_score_does_not_help(fields: dict[str, Any], expected: str, place: int) -> None:
    made = [completion(f"c{n}", text=text) for n, text in enumerate(("amber " * 9, "birch " * 9, "cedar " * 9))]
    made[place] |= fields
    table = {f"c{n}": Scores(5.0 if n == place else float(n + 1)) for n in range(3)}
    selection = selected(made, table, Pairing(), True)
    others = [f"c{n}" for n in range(3) if n != place]
    assert [(pair["chosen_id"], pair["rejected_id"]) for pair in selection.pairs] == [(others[1], others[0])]
    (rejection,) = selection.rejections
    assert (rejection["completion_id"], rejection["reason"]) == (f"c{place}", expected)


def digit(token: str, logprob: float, **top: float) -> dict[str, Any]:
    others = [{"token": name.strip("_"), "logprob": value} for name, value in top.items()]
    return {"content": [{"token": token, "logprob": logprob, "top_logprobs": others}]}


NAN, INF = math.nan, math.inf
WILD = {
    "NaN": digit("4", NAN, _4=NAN, _3=NAN),
    "NaN for another": digit("4", -0.1, _4=-0.1, _3=NAN),
    "infinity": digit("4", INF, _4=INF, _5=-1.0),
    "minus infinity everywhere": digit("4", -INF, _4=-INF, _3=-INF),
    "far above 0": digit("4", 1000.0, _4=1000.0, _3=-1.0),
    "beyond a double": digit("4", 1e308, _4=1e308, _3=1e308),
    "a whole number beyond a double": digit("4", 10**400),
    "null": digit("4", None),  # type: ignore[arg-type]
    "a list": {"content": [[1]]},
    "nothing": None,
}


@pytest.mark.parametrize("name", WILD)
def test_f11_probabilities_that_are_none_give_no_rating(
    base_recipe: Build, endpoint: FakeEndpoint, answering: Callable[..., FakeEndpoint], tally: Tally, name: str
) -> None:
    judging = answering(answer("4 - Fine.", logprobs=WILD[name]), share=0.3)
    judge = model("judge", judging, readout="logprobs", protocol="pointwise")
    judge["endpoint"] |= {"attempts": 1}
    members = [model(name, endpoint) for name in "ab"]
    rating = {"aspects": ["overall"], "judges": [judge]}
    recipe = base_recipe(endpoint, COUNT, pool={"members": members}, rating=rating, publishing={"exports": ["jsonl"]})
    published, summary, _ = run(recipe)
    ratings = open_store(recipe).read(judge_ref(shard_of(recipe), "judge"))
    bad = ratings[ratings["rating"].isna()]
    assert len(ratings) == 2 * COUNT
    assert 4 <= len(bad) <= 22
    assert bad["score"].isna().all()
    assert bad["error"].notna().all()
    assert summary.completion_reasons["unrated"] == len(bad)
    rows = published_rows(published.folder)
    assert rows
    assert not [value for row in rows for value in numbers(row) if not math.isfinite(value)]
    (lines,) = Path(published.folder, "jsonl").iterdir()
    assert "NaN" not in lines.read_text()
    assert not set(bad["completion_id"]) & {row[f"{side}_id"] for row in rows for side in ("chosen", "rejected")}
    tally(1, summary.loaded - summary.paired - sum(summary.prompt_reasons.values()))


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1000.0, 1e308, 710.0])
def test_f11_no_score_is_made_of_what_is_no_probability(value: float) -> None:
    sheet = Sheet((Text("x", "a1b2c3", "the text"),), Scale(1, 5), False)
    logprobs = {str(n): math.log(p) for n, p in enumerate((0.1, 0.1, 0.1, 0.5, 0.2), start=1)}
    for place in "12345":
        found = read_logprobs(Reply("4 - Fine.", "stop", logprobs=logprobs | {place: value}), sheet)
        assert (found.rating, found.score) == (None, None)
        assert found.error
