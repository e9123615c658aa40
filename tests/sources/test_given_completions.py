"""Completions and ratings that sources bring: three layouts, what may be wrong in them, and runs without a model."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Given, Judge, Member, Rating, Recipe, Source
from pairsmith.config.loading import load_recipe, parse_recipe
from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.registry import NoModel
from pairsmith.planning.dry_run import plan_run
from pairsmith.session import process_session
from pairsmith.sources.chats import Turns
from pairsmith.sources.given_completions import carried, completions_of, ratings_of, read_completions, united
from pairsmith.sources.prompts import to_prompt
from pairsmith.sources.row_fields import Refused
from pairsmith.stages.base import open_store
from pairsmith.stages.evolve import evolve_shard
from pairsmith.stages.freshness import lacking
from pairsmith.stages.generate import generate_shard
from pairsmith.stages.load import load as load_sources
from pairsmith.stages.rate import rate_shard
from pairsmith.storage.schemas import frame, rows, validated
from pairsmith.storage.tables import completion_refs, rating_refs
from tests.conftest import ROOT, shared
from tests.runs import run

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "from a chat"}]
MEMBER = Member(name="given", backend="given")
JUDGE = Judge(name="given", backend="given")
WIDE = {"columns": {"chosen": "chosen", "rejected": "rejected"}}
ITEMS = {
    "items": "answers",
    "text": "text",
    "member": "who",
    "ratings": {"overall": "n"},
    "rationales": {"overall": "why"},
}
LONG = {"text": "answer", "member": "who", "ratings": {"overall": "n"}}


def items(row: dict[str, Any], **layout: Any) -> list[dict[str, Any]]:
    return read_completions(row, Given(**layout), asked=Turns(None, CHAT[:1]))


def told(*completions: dict[str, Any], **rating: Any) -> dict[str, tuple[int | None, float | None, str | None]]:
    """Text -> rating, score and error in the aspect overall (or the only one of `rating`)."""
    prompt = to_prompt({"prompt": "Hi"}, Source(path="x.jsonl"), 100)
    extras = json.dumps({"completions": united(completions)})
    prompts = frame("prompts", [prompt | {"extras": extras}])
    table = validated("completions", completions_of(prompts, MEMBER))
    made = ratings_of(prompts, table, Rating(judges=(JUDGE,), **rating), JUDGE, MEMBER)
    text_of = {row["completion_id"]: row["text"] for row in rows(table)}
    found = rows(validated("ratings", made))
    return {text_of[row["completion_id"]]: (row["rating"], row["score"], row["error"]) for row in found}


def value(found: Any, may_be_na: bool = False, **layout: str) -> tuple[int | None, float | None, str | None]:
    """What becomes of one given value on the scale 1 to 10."""
    kind = next(iter(layout), "ratings")
    (item,) = items({"t": "text", "v": found}, text="t", **{kind: {"quality": "v"}})
    rubric = {"criterion": "?", "low": 1, "high": 10, "may_be_na": may_be_na}
    return told(item, aspects=("quality",), rubrics={"quality": rubric})["text"]


def test_columns_hold_text_or_a_chat() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "?"}]
    found = items({"chosen": chat, "rejected": "b"}, **WIDE)
    assert found == [{"member": "chosen", "text": "a"}, {"member": "rejected", "text": "b"}]
    layout = {"columns": {"x": {"text": "a.b", "model": "m", "ratings": {"overall": "s.0"}}}}
    assert items({"a": {"b": "t"}, "m": "M", "s": [4]}, **layout) == [
        {"member": "x", "text": "t", "model": "M", "ratings": {"overall": [{"value": 4}]}}
    ]


def test_a_list_within_the_row_and_a_row_each() -> None:
    row = {"answers": [{"text": "b", "who": 7, "n": "4", "why": "fair"}, {"text": "a", "who": "x"}]}
    first, second = items(row, **ITEMS)
    assert first == {"member": "7", "text": "b", "ratings": {"overall": [{"value": "4", "rationale": "fair"}]}}
    assert (second["member"], second["ratings"]) == ("x", {"overall": [{"value": None}]})
    assert items({"answers": ["b", "a"]}, items="answers") == [{"text": "a"}, {"text": "b"}]
    assert items({"answers": []}, **ITEMS) == []
    assert items({"answer": "a", "who": "x", "n": 3}, **LONG)[0]["ratings"] == {"overall": [{"value": 3}]}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (None, "missing: column text is absent or null"),
        (" \n", "empty"),
        (7, "wrong_type: column text holds int"),
        (b"x", "wrong_type: column text holds bytes"),
        ([], "wrong_type: column text holds a list without a message of the assistant"),
        ([{"role": "user", "content": "x"}], "wrong_type"),
        (
            [{"role": "assistant", "content": None}],
            "wrong_type: the assistant's last message in column text holds NoneType",
        ),
        ([{"role": "assistant", "content": ""}], "empty"),
        ({"content": "x"}, "wrong_type"),
    ],
)
def test_a_completion_that_cannot_be_used_is_a_row_with_its_error(wrong: Any, error: str) -> None:
    bad, good = sorted(items({"answers": [{"text": wrong, "who": "x"}, {"text": "y", "who": "y"}]}, **ITEMS),
                       key=lambda item: item["text"])  # fmt: skip
    assert bad["error"].startswith(error)
    assert "error" not in good
    prompt = to_prompt({"prompt": "Hi"}, Source(path="x.jsonl"), 100) | {"extras": json.dumps({"completions": [bad]})}
    (row,) = rows(validated("completions", completions_of(frame("prompts", [prompt]), MEMBER)))
    assert (row["text"], row["member"], row["error"]) == ("", "x", bad["error"])


def test_items_and_labels_of_the_wrong_kind() -> None:
    found = items({"answers": ["text", None, {"text": "a"}, {"text": "b", "who": ["x"]}, 5]}, **ITEMS)
    assert {item["error"] for item in found} == {
        "wrong_type: the list's item is str, not an object with fields",
        "wrong_type: the list's item is int, not an object with fields",
        "missing: column text is absent or null",
        "missing: the label in column who is absent or null",
        "wrong_type: the label in column who is list",
    }
    for row, message in (({}, "column answers is absent"), ({"answers": "text"}, "holds str, not a list")):
        with pytest.raises(Refused, match=message):
            items(row, **ITEMS)


def test_a_row_that_is_to_be_a_completion_and_is_none_is_refused() -> None:
    for row in ({"who": "x"}, {"answer": 5, "who": "x"}, {"answer": "a"}):
        with pytest.raises(Refused):
            items(row, **LONG)
    assert items({"answer": " ", "who": "x", "n": 3}, **LONG) == [{"member": "x", "text": "", "error": "empty"}]


@pytest.mark.parametrize(
    ("found", "rating"),
    [
        (4, 4),
        (4.0, 4),
        ("4", 4),
        (" 4 ", 4),
        ("4.0", 4),
        ("4/10", 4),
        ("four", 4),
        (Decimal("4"), 4),
        (10, 10),
        ("+4", 4),
    ],
)
def test_ratings_that_are_read(found: Any, rating: int) -> None:
    assert value(found) == (rating, float(rating), None)
    assert value(found, scores="v") == (rating, float(rating), None)


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (None, "no rating"),
        ("", "no rating"),
        (float("nan"), "no rating"),
        (float("inf"), "no number"),
        (0, "not on the scale 1 to 10"),
        (11, "not on the scale 1 to 10"),
        ("-4", "not on the scale 1 to 10"),
        (10**400, "not on the scale 1 to 10"),
        ("1e9999", "more than a rating"),
        ("N/A", "not applicable is no answer"),
        ([4], "the rating is a list"),
        ({"Rating": 4}, "the rating is a dict"),
        ("4/5", "rated out of 5, not 10"),
        ("4 or 5", "more than a rating"),
        ("good", "no number"),
        (b"4", "no number"),
    ],
)
def test_ratings_that_are_null_with_the_reason(found: Any, error: str) -> None:
    for kind in ("ratings", "scores"):
        rating, score, reason = value(found, **{kind: "v"})
        assert (rating, score) == (None, None)
        assert reason is not None
        assert reason.startswith(error)


@pytest.mark.parametrize(
    ("found", "rating"),
    [(True, 10), (False, 1), ("true", 10), ("False", 1), (" Up ", 10), ("down", 1), ("👍", 10), ("👎", 1)],
)
def test_thumbs_are_the_ends_of_the_scale(found: Any, rating: int) -> None:
    assert value(found) == value(found, scores="v") == (rating, float(rating), None)


BOTH = {"columns": {"a": "one", "Model-X": "two"}, "verdicts": {"overall": "winner"}}


@pytest.mark.parametrize(
    ("verdict", "rated"),
    [
        ("a", (5, 1)),
        ("A", (5, 1)),
        ("model_a", (5, 1)),
        ("left", (5, 1)),
        ("B", (1, 5)),
        ("model-x", (1, 5)),
        ("tie", (5, 5)),
        ("Tie (bothbad)", (1, 1)),
        ("one", (None, None)),
        ("who knows", (None, None)),
        (1, (None, None)),
        (True, (None, None)),
        (None, (None, None)),
    ],
)
def test_verdicts(verdict: Any, rated: tuple[int | None, int | None]) -> None:
    found = told(*items({"one": "x", "two": "y", "winner": verdict}, **BOTH))
    assert (found["x"][0], found["y"][0]) == rated


def test_verdicts_on_one_pair_that_contradict_each_other_are_none() -> None:
    both = [item for word in ("a", "b") for item in items({"one": "x", "two": "y", "winner": word}, **BOTH)]
    assert {error for _, _, error in told(*both).values()} == {"given ratings that contradict each other"}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, [(None, "c")]),
        ({"prompt": "a", "answers": ["b", "c"]}, [(None, "b"), (None, "c")]),
        ({"prompt": "a", "answers": '["b", "c"]'}, [(None, "b"), (None, "c")]),
        ({"messages": [CHAT[0], {"role": "model", "content": [{"type": "text", "text": "b"}]}]}, [(None, "b")]),
        ({"messages": CHAT}, [(None, "from a chat")]),
        ({"messages": json.dumps(CHAT)}, [(None, "from a chat")]),
        ({"messages": CHAT[:1]}, []),
        ({"prompt": "Hi", "chosen": CHAT, "rejected": "c"}, [("chosen", "from a chat"), ("rejected", "c")]),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            [("chosen", "b"), ("rejected", "c")],
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}],
             "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}},
            [("chosen", "b"), ("rejected", "c")],
        ),
    ],
)  # fmt: skip
def test_answers_of_the_layout(row: dict[str, Any], found: list[tuple[str | None, str]]) -> None:
    source = Source(path="x.jsonl", completions=Given(of_layout=True, ratings={"overall": "stars"}))
    brought = carried(to_prompt(row | {"stars": 4}, source, 100))
    assert sorted((item.get("member") or "", item["text"]) for item in brought) == [(who or "", t) for who, t in found]
    assert all(item["ratings"] == {"overall": [{"value": 4}]} for item in brought)


def test_an_answer_of_the_layout_that_is_blank_is_a_row_with_its_error() -> None:
    source = Source(path="x.jsonl", completions=Given(of_layout=True))
    prompt = to_prompt({"messages": [CHAT[0], {"role": "assistant", "content": ""}]}, source, 100)
    assert carried(prompt) == [{"error": "empty", "text": ""}]


@pytest.mark.parametrize("text", ["\n\nHuman: Hi\n\nAssistant: b", json.dumps([{"from": "gpt", "value": "b"}])])
def test_a_mapped_answer_that_is_a_chat_as_text_is_its_last_message(text: str) -> None:
    assert [item["text"] for item in items({"chosen": text, "rejected": "c"}, **WIDE)] == ["b", "c"]


def test_a_given_preference_becomes_a_pair(tmp_path: Path) -> None:
    chats = [{side: [CHAT[0], {"role": "assistant", "content": f"{side} {n}"}] for side in ("chosen", "rejected")}
             for n in range(2)]  # fmt: skip
    same = dict.fromkeys(("chosen", "rejected"), "\n\nHuman: b\n\nAssistant: c")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [chats[0], same])))
    recipe = parse_recipe(
        {"name": "given", "workspace": str(tmp_path / "ws"),
         "prompts": {"sources": [{"path": "rows.jsonl", "completions": {"of_layout": True}}]},
         "pool": {"members": [{"name": "given", "backend": "given"}]},
         "pairing": {"strategy": "member-order", "member_order": ["chosen", "rejected"]}},
        base=tmp_path,
    )  # fmt: skip
    _, summary, calls = run(recipe)
    assert (summary.pairs, dict(summary.prompt_reasons), calls.total()) == (1, {"identical": 1}, 0)


@pytest.mark.parametrize("found", [8.5, "8.5", Decimal("8.5"), "8.500000000000000000000"])
def test_only_a_score_may_lie_between_two_numbers(found: Any) -> None:
    assert value(found) == (None, None, "8.5 is not a whole number")
    assert value(found, scores="v") == (None, 8.5, None)


def test_not_applicable_is_told_apart_where_an_aspect_may_be() -> None:
    assert value("N/A", may_be_na=True) == (None, None, "not_applicable")


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4),
    st.booleans(),
)
def test_any_value_gives_a_score_on_the_scale_or_a_reason(found: Any, fractions: bool) -> None:
    rating, score, error = value(found, scores="v") if fractions else value(found)
    assert (score is None) == (error is not None)
    assert score is None or 1 <= score <= 10
    assert rating is None or rating == score


names = st.sampled_from(["text", "who", "n", "role", "content"])
any_value = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
)
columns = st.sampled_from(["prompt", "answers", "answer", "who", "n", "why", "chosen"])


@given(st.dictionaries(columns, any_value), st.sampled_from([WIDE, ITEMS, LONG]))
def test_any_row_becomes_a_prompt_or_is_refused(row: dict[str, Any], layout: dict[str, Any]) -> None:
    try:
        prompt = to_prompt(row, Source(path="x.jsonl", completions=layout), 1000)  # type: ignore[arg-type]
    except Refused:
        return
    made = validated("completions", completions_of(frame("prompts", [prompt]), MEMBER))
    assert all(row["error"] or row["text"].strip() for row in rows(made))
    assert len(made) == len(carried(prompt))


def test_the_same_text_of_the_same_writer_is_one_with_the_ratings_of_both() -> None:
    one = {"member": "x", "text": "a", "ratings": {"overall": [{"value": 4, "rationale": "good"}]}}
    for other, read in (({"value": "4"}, (4, 4.0, None)), ({"value": None}, (4, 4.0, None)),
                        ({"value": 5}, (None, None, "given ratings that contradict each other"))):  # fmt: skip
        again = one | {"ratings": {"overall": [other]}}
        assert told(one, again) == told(again, one) == told(one, again, again) == {"a": read}
    assert len(told(one, one | {"member": "y"}, one | {"text": "b"})) == 2  # by text: those of x and y are alike


def test_a_text_that_has_no_rating_is_null_only_where_nobody_else_rates() -> None:
    prompt = to_prompt({"prompt": "Hi"}, Source(path="x.jsonl"), 100)
    extras = json.dumps({"completions": [{"member": "x", "text": "a", "ratings": {"overall": [{"value": 4}]}}]})
    prompts = frame("prompts", [prompt | {"extras": extras}])
    mine = completions_of(prompts, MEMBER)
    made = frame("completions", [*rows(mine), rows(mine)[0] | {"completion_id": "made", "member": "model"}])
    other = Judge(name="other", backend="echo", model="m", aspects=("overall",))
    rating = Rating(judges=(JUDGE, other), aspects=("overall", "helpfulness"))
    found = [
        (row["completion_id"], row["aspect"], row["score"])
        for row in rows(ratings_of(prompts, made, rating, JUDGE, MEMBER))
    ]
    own = rows(mine)[0]["completion_id"]
    assert found == [(own, "overall", 4.0), (own, "helpfulness", None), ("made", "helpfulness", None)]


def test_nothing_can_be_asked_of_what_was_given() -> None:
    with pytest.raises(AssertionError, match="no model"):
        NoModel(MEMBER).stream([])


def recipe_of(
    folder: Path, file: Path, layout: dict[str, Any], columns: dict[str, str] | None = None, **more: Any
) -> Recipe:
    """Given completions, rated and paired as they are."""
    source = {"path": str(file), "completions": layout, "columns": columns or {}}
    data = {
        "name": "set",
        "workspace": str(folder / "data"),
        "prompts": {"sources": [source]},
        "pool": {"members": [{"name": "given", "backend": "given"}]},
        "rating": {"judges": [{"name": "given", "backend": "given"}]},
    }
    return parse_recipe(data | more, base=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prompts.sources.0.completions=null", "needs a member with backend given"),
        ("pool.members=[{name: a, backend: echo, model: m}]", "needs a member with backend given"),
        ("pool.members.0.samples=3", r"backend: given asks no model; leave out \['samples'\]"),
        ("pool.members.0.model=m", r"leave out \['model'\]"),
        ("pool.members=[{name: a, backend: given}, {name: b, backend: given}]", "one member with backend given"),
        ("rating.judges=[{name: a, backend: given}, {name: b, backend: given}]", "bring the same ratings"),
        ("rating.judges.0.readout=json", r"leave out \['readout'\]"),
        ("rating.judges.0.model=m", r"leave out \['model'\]"),
        ("rating.aspects=[overall-score, overall]", "rating.judges.0.aspects: there is no overall"),
        ("rating.judges.0.aspects=[helpful]", "rating.judges.0.aspects: there is no helpful; did you mean helpfulness"),
        ("rating.judges=[{name: a, backend: echo, model: m, aspects: [honesty]}]", "no judge rates"),
        (
            "prompts.sources.0.completions.scores.overal=x",
            "ratings and scores: there is no overal; did you mean overall",
        ),
        ("prompts.sources.0.completions.scores.honesty=x", r"\['honesty'\] stand in more than one of"),
        ("prompts.sources.0.completions.rationales.overall=x", "completions.rationales: there is no overall"),
        ("prompts.sources.0.completions={items: x, columns: {a: b}}", r"\['items'\] go into its entries"),
        ("prompts.sources.0.completions={columns: {a: {model: b}}}", "name the text of each"),
        ("prompts.sources.0.completions={member: x}", "name the text of each"),
        ("prompts.sources.0.completions.text='{{ x'", "completions"),
        ("evolution={evolver: {backend: given}}", "cannot rewrite any"),
        ("prompts.decontaminate={against: [{path: prompts/rated.jsonl, completions: {text: x}}]}", "not looked at"),
        ("pool.draw=1", "pool.draw: is 1 but there are 0 members"),
    ],
)
def test_recipes_whose_given_parts_would_come_to_nothing_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(ROOT / "recipes" / "re-pair.yaml", [change])


def test_the_recipe_that_pairs_anew(tmp_path: Path) -> None:
    changes = [f"workspace={tmp_path}"]
    _, summary, calls = run(load_recipe(ROOT / "recipes" / "re-pair.yaml", changes))
    assert (summary.loaded, summary.paired, sum(calls.values())) == (6, 6, 0)
    assert summary.aspects["honesty by given"]["null"] == 1  # "N/A"
    weights = "pairing={strategy: best-vs-worst, aspect_weights: {overall-score: 1, helpfulness: 0, honesty: 0, "
    weights += "instruction-following: 0, truthfulness: 0}}"
    published, summary, _ = run(load_recipe(ROOT / "recipes" / "re-pair.yaml", [*changes, weights]))
    assert published.version == "v0002"
    assert dict(summary.wins) == {("orchard-13b", "rule-bot"): 6}


def test_labels_are_shown_as_text_wherever_they_stand(tmp_path: Path, file: Callable[..., Path]) -> None:
    labels = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "a|b\n\n# c", "\x1b[31mred"]
    answers = [{"text": f"answer {n} " * (n + 1), "who": label, "n": n + 1} for n, label in enumerate(labels)]
    path = file("a.jsonl", lines([{"prompt": f"Question {n}?", "answers": answers} for n in range(3)]))
    export = {"publishing": {"exports": ["csv"]}, "pairing": {"strategy": "all-above-margin"}}
    published, summary, _ = run(recipe_of(tmp_path, path, ITEMS, **export))
    assert summary.pairs == 18
    folder = Path(published.folder)
    assert "<script>alert" not in (folder / "report.html").read_text()
    card = (folder / "README.md").read_text()
    assert "<script>alert" not in card
    assert "\n# c" not in card
    (cells,) = folder.glob("csv/*.csv")
    assert ",=cmd" not in cells.read_text()
    assert ",'=cmd" in cells.read_text()


def test_labels_in_the_recipe_are_known_to_it(tmp_path: Path, file: Callable[..., Path]) -> None:
    path = file("a.jsonl", '{"prompt": "Hi", "chosen": "yes, of course", "rejected": "no"}\n')
    order = {"strategy": "member-order", "member_order": ["chosen", "rejected"]}
    _, summary, calls = run(recipe_of(tmp_path, path, WIDE, rating=None, pairing=order))
    assert dict(summary.wins) == {("chosen", "rejected"): 1}
    assert not calls
    with pytest.raises(ConfigError, match="there is no rejcted"):
        recipe_of(tmp_path, path, WIDE, rating=None, pairing=order | {"member_order": ["chosen", "rejcted"]})


SCORES = {side: {"text": side, "scores": {"quality": f"metadata.score_{side}"}} for side in ("chosen", "rejected")}
QUALITY = {
    "aspects": ["quality"],
    "rubrics": {"quality": {"criterion": "UltraFeedback's overall score", "low": 1, "high": 10}},
    "judges": [{"name": "given", "backend": "given"}],
}


def binarized() -> list[dict[str, Any]]:
    """1,000 real rows: a prompt, two answers, two overall scores."""
    return [json.loads(line) for line in shared("pairs/uf_binarized_train_1000.jsonl").read_text().splitlines()]


def lines(found: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in found)


def test_given_scores_of_a_real_set_pair_as_they_say(tmp_path: Path) -> None:
    source = binarized()
    recipe = recipe_of(tmp_path, shared("pairs/uf_binarized_train_1000.jsonl"), {"columns": SCORES}, rating=QUALITY)
    published, summary, calls = run(recipe)
    assert summary.paired + sum(summary.prompt_reasons.values()) == summary.loaded == summary.rows_read == 1000
    scores = [(row["metadata"]["score_chosen"], row["metadata"]["score_rejected"]) for row in source]
    decided = [a > b for a, b in scores if a != b]
    assert all(decided)
    assert set(summary.wins) == {("chosen", "rejected")}
    alike = summary.prompt_reasons["identical"] + summary.prompt_reasons["too_few"] + summary.prompt_reasons["similar"]
    assert len(decided) - alike <= summary.paired <= len(decided)
    assert summary.aspects["quality by given"]["null"] == 0
    assert not calls
    assert open_ledger(recipe.ledger_url, process_session()).replies.count() == 0
    again, _, _ = run(recipe)
    assert (again.version, again.new) == (published.version, False)
    assert {line.calls for line in plan_run(recipe).lines} == {0}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_real_pairs_in_another_form_keep_their_order(language: str, tmp_path: Path) -> None:
    layout = {"columns": {"chosen": "chosen.value", "rejected": "rejected.value"}}
    order = {"strategy": "member-order", "member_order": ["chosen", "rejected"]}
    columns = {"prompt": "{{ conversations | map(attribute='value') | join('\n\n') }}"}
    path = shared(f"pairs/llamafactory_dpo_{language}_demo.json")
    _, summary, calls = run(recipe_of(tmp_path, path, layout, columns, rating=None, pairing=order))
    assert summary.rows_read == 300 == summary.loaded + sum(summary.load_reasons.values())
    assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values())
    assert set(summary.wins) == {("chosen", "rejected")}
    assert summary.paired > 250
    assert not calls


def test_real_thumbs_up_and_down_are_ratings(tmp_path: Path) -> None:
    """A long table: a chat that ends with the answer, and whether it was liked; most prompts stand in it once."""
    layout = {"text": "messages", "ratings": {"liked": "{{ label | int }}"}}
    rubric = {"criterion": "Was it liked?", "low": 0, "high": 1}
    rating = {"aspects": ["liked"], "rubrics": {"liked": rubric}, "judges": [{"name": "given", "backend": "given"}]}
    path = shared("pairs/llamafactory_kto_en_demo.json")
    recipe = recipe_of(tmp_path, path, layout, {"prompt": "messages.0.content"}, rating=rating)
    loaded = load_sources(recipe, process_session())
    assert loaded.accepted + loaded.rejected + loaded.merged == 300
    for shard in loaded.shards:
        generate_shard(recipe, shard, "given", process_session())
        rate_shard(recipe, shard, "given", process_session())
        ratings = open_store(recipe).load_all(rating_refs(recipe, shard)).data
        assert ratings["rating"].isin([0, 1]).all()


def test_the_three_layouts_any_order_and_any_shard_size_give_one_data_set(
    tmp_path: Path, file: Callable[..., Path]
) -> None:
    source, sides = binarized()[:120], ("chosen", "rejected")
    in_items = [
        {"prompt": row["prompt"], "answers": [{"w": s, "t": row[s], "n": row["metadata"][f"score_{s}"]} for s in sides]}
        for row in source
    ]
    in_rows = [{"prompt": row["prompt"], **one} for row in in_items for one in row["answers"]]
    mixed = in_rows[:]
    random.Random(7).shuffle(mixed)
    places = {"member": "w", "text": "t", "scores": {"quality": "n"}}
    digests = {}
    for name, found, layout in (
        ("wide", source, {"columns": SCORES}),
        ("items", in_items[::-1], {"items": "answers", **places}),
        ("rows", in_rows, places),
        ("mixed", mixed, places),
    ):
        path = file("set.jsonl", lines(found))
        for size in (40, 1000):
            recipe = recipe_of(tmp_path / f"{name}{size}", path, layout, rating=QUALITY, shard_size=size)
            published, summary, _ = run(recipe)
            digests[name, size] = published.digest
            assert summary.rows_read == len(found) == summary.loaded + sum(summary.load_reasons.values())
            assert summary.load_reasons["merged"] == (120 if "answers" not in found[0] and "t" in found[0] else 0)
    assert len(set(digests.values())) == 1


def test_other_completions_of_a_known_prompt_are_noticed_and_only_they_cost(
    tmp_path: Path, echo_recipe: Callable[..., Recipe], file: Callable[..., Path]
) -> None:
    def build(last: str) -> Recipe:
        told = [{"prompt": f"Question {n}?", "answer": "seven, or so", "who": "x"} for n in range(6)]
        told[5]["answer"] = last
        path = file("answers.jsonl", lines(told))
        members = [{"name": "brief", "backend": "echo", "model": "b"}, {"name": "old", "backend": "given"}]
        source = {"path": str(path), "completions": {"text": "answer", "member": "who"}}
        return echo_recipe(1, prompts={"sources": [source]}, pool={"members": members}, evolution=None, shard_size=4)

    _, _, calls = run(build("nine, or so"))
    assert calls == {"generate": 6, "rate": 12}
    published, summary, calls = run(build("eleven, I think"))
    assert calls == {"rate": 2}  # the ledger knows the rest; one text of one prompt is new to the judge
    assert (published.version, summary.loaded) == ("v0002", 6)
    assert run(build("nine, or so"))[2] == {}


def test_given_and_generated_completions_and_judges_mix(
    echo_recipe: Callable[..., Recipe], file: Callable[..., Path]
) -> None:
    row = {"answers": [{"text": "yes, it is", "who": "brief", "n": 5}, {"text": "not at all", "who": "y", "n": 2}]}
    path = file("answers.jsonl", lines([{"prompt": f"Question {n}?", **row} for n in range(5)]))
    plain = file("plain.jsonl", lines([{"prompt": f"Question {n}?"} for n in range(3, 8)]))
    recipe = echo_recipe(
        1,
        prompts={"sources": [{"path": str(plain)}, {"path": str(path), "completions": ITEMS}]},
        pool={"members": [{"name": "brief", "backend": "echo", "model": "b"}, {"name": "old", "backend": "given"}]},
        evolution={"evolver": {"backend": "echo", "model": "e"}, "of": ["y"]},
        rating={
            "aspects": ["overall", "honesty"],
            "judges": [
                {"name": "given", "backend": "given", "aspects": ["overall"]},
                {"name": "judge", "backend": "echo", "model": "j"},
            ],
        },
    )
    _, summary, calls = run(recipe)
    assert calls == {"generate": 8, "evolve": 5, "rate": 16}
    assert (summary.loaded, summary.rows_read, summary.load_reasons) == (8, 10, {"duplicate": 2})
    store = open_store(recipe)
    (shard,) = store.shards()
    made = store.load_all(completion_refs(recipe, shard)).data
    assert made["member"].value_counts().to_dict() == {"brief": 13, "y": 5, "evolver": 5}
    ratings = store.load_all(rating_refs(recipe, shard)).data
    assert ratings["judge"].value_counts().to_dict() == {"judge": 46, "given": 10}
    lines_of = {line.who: line.calls for line in plan_run(recipe).lines}
    assert lines_of == {"brief": 8, "old": 0, "evolver": 5, "given": 0, "judge": 32}  # asking again included


def test_what_is_lacking_is_named_and_nothing_is_asked(echo_recipe: Callable[..., Recipe]) -> None:
    recipe = echo_recipe(6)
    (shard,) = load_sources(recipe, process_session()).shards
    assert lacking(recipe, shard, "pair", process_session()) == ["completions by brief", "completions by long"]
    assert not (Path(recipe.workspace) / "ledger.sqlite").exists()
    for member in recipe.pool.members:
        generate_shard(recipe, shard, member.name, process_session())
    assert lacking(recipe, shard, "rate", process_session()) == ["completions by evolver"]
    evolve_shard(recipe, shard, process_session())
    assert lacking(recipe, shard, "rate", process_session()) == []
    assert lacking(recipe, shard, "pair", process_session()) == ["ratings by judge"]
    rate_shard(recipe, shard, "judge", process_session())
    assert lacking(recipe, shard, "pair", process_session()) == []
    changed = echo_recipe(6, rating={"aspects": ["overall"]})
    assert lacking(changed, shard, "pair", process_session()) == ["ratings by judge as this recipe makes them"]
    assert lacking(changed, shard, "rate", process_session()) == []


def test_a_table_to_be_tried_again_counts_only_for_the_recipe_that_made_it(
    echo_recipe: Callable[..., Recipe], file: Callable[..., Path]
) -> None:
    path = file("mixed.jsonl", lines([{"prompt": "fine"}, {"prompt": "[echo: fail]"}]))
    far = {"min_margin": 100}  # so that there is no pair
    recipe = echo_recipe(1, prompts={"sources": [{"path": str(path)}]}, evolution=None, pairing=far)
    with pytest.raises(RunError, match="no pair to publish"):
        run(recipe)
    (shard,) = open_store(recipe).shards()
    assert lacking(recipe, shard, "pair", process_session()) == []
    members = [{"name": name, "backend": "echo", "model": "other"} for name in ("brief", "long")]
    members[1] |= {"system_prompt": "At length."}
    sources = {"sources": [{"path": str(path)}]}
    other = echo_recipe(1, prompts=sources, evolution=None, pool={"members": members})
    assert len(lacking(other, shard, "rate", process_session())) == 2


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["a", "b", "c"]), st.integers(0, 6)), max_size=8),
    st.randoms(),
)
def test_the_order_of_what_is_given_changes_nothing(found: list[tuple[str, str, int]], random: random.Random) -> None:
    made = [{"member": m, "text": t, "ratings": {"overall": [{"value": n}]}} for m, t, n in found]
    mixed = made[:]
    random.shuffle(mixed)
    assert united(made) == united(mixed) == united([*united(made), *mixed])


@pytest.mark.parametrize(
    ("found", "rating"),
    [(1, 5), (0, 1), (-1, 1), ("1", 5), ("0.0", 1), (1.0, 5), (True, 5), ("thumbs_up", 5), ("No", 1), (None, None),
     (2, None), ("who knows", None), ([1], None)],
)  # fmt: skip
def test_thumbs_that_are_numbers_are_read_where_they_are_called_so(found: Any, rating: int | None) -> None:
    (item,) = items({"t": "text", "v": found}, text="t", thumbs={"overall": "v"})
    assert told(item)["text"][0] == rating


@pytest.mark.parametrize("pair", [(1, 0), ("1", "0"), (1.0, -1.0)])
def test_ratings_that_may_be_thumbs_are_never_turned_round(pair: tuple[Any, Any]) -> None:
    both = [item for text, v in zip("ab", pair, strict=True)
            for item in items({"t": text, "v": v}, text="t", ratings={"overall": "v"})]  # fmt: skip
    with pytest.raises(DataError, match=r"completions: \{thumbs: \{overall: ...\}\}"):
        told(*both)
    rubric = {"criterion": "?", "low": 0, "high": 1}
    own = [item | {"ratings": {"q": item["ratings"]["overall"]}} for item in both]
    from_below = told(*own, aspects=("q",), rubrics={"q": rubric})
    assert from_below["a"][0] == 1


@pytest.mark.parametrize(
    ("verdict", "rated"), [(0, (5, 1)), (1, (1, 5)), (1.0, (1, 5)), ("1", (1, 5)), (2, (None,) * 2)]
)
def test_verdicts_that_are_numbers_name_labels_alone(verdict: Any, rated: tuple[int | None, int | None]) -> None:
    given = {"columns": {"0": "one", "1": "two"}, "verdicts": {"overall": "better"}}
    found = told(*items({"one": "x", "two": "y", "better": verdict}, **given))
    assert (found["x"][0], found["y"][0]) == rated
