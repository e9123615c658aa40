"""Criteria: what an author is shown and writes, which items count, what judges are asked and what it comes to."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Author, Criteria, Judge, Rating
from pairsmith.judging.criteria import ALIKE, two_shown, write
from pairsmith.judging.criteria_reply import LONGEST, WEIGHTS, Item, read_item, read_items
from pairsmith.judging.criteria_sifting import read_lines, sifted, told_apart
from pairsmith.judging.rating import rate
from pairsmith.llms.echo import Echo
from pairsmith.protocol import Finished, Reply, Request
from pairsmith.storage.row_types import CriterionRow, rows_as
from pairsmith.storage.schemas import frame, rows, validated
from tests.generation.test_pool import prompt
from tests.runs import completion, rating

AUTHOR = Author(backend="echo", model="author")
SETTINGS = Criteria(author=AUTHOR)


def item(number: int, question: str = "", **fields: Any) -> dict[str, Any]:
    """A row of the criteria table."""
    row = {
        "prompt_id": "p",
        "item": number,
        "question": question or f"Question {number}?",
        "weight": 1.0,
        "check": None,
    }
    row |= {"author": "author", "strong_id": None, "weak_id": None, "note": None, "reply": "", "request": "r"}
    return row | {"error": None} | fields


def readings(*by_item: Sequence[float | None], judge: str = "j") -> list[dict[str, Any]]:
    """Rows of the ratings table: the readings of each item for the answers a, b, c ..., from item 1 on."""
    return [
        rating(name, score, "criteria", judge, protocol="criteria", order=number)
        for number, scores in enumerate(by_item, 1)
        for name, score in zip("abcdef", scores, strict=False)
    ]


def settle(
    items: list[dict[str, Any]], made: list[dict[str, Any]], **more: Any
) -> tuple[dict[int, str | None], dict[str, float | None]]:
    """Item -> why it does not count, and answer -> its score."""
    settings = Criteria(author=AUTHOR, **more)
    scored, criteria = sifted(frame("ratings", made), frame("criteria", items), settings)
    validated("criteria", criteria)
    return (
        {row["item"]: row["error"] for row in rows(criteria)},
        {row["completion_id"]: row["score"] for row in rows(validated("ratings", scored))},
    )


# What an author is shown


def shown(group: list[dict[str, Any]], *order: str) -> tuple[str, str, bool] | None:
    found = [two_shown(some, order) for some in (group, group[::-1])]  # type: ignore[arg-type]
    assert found[0] == found[1]
    return found[0] and (found[0].strong["completion_id"], found[0].weak["completion_id"], found[0].ranked)


def test_a_strong_and_a_weak_answer_are_shown_by_what_is_known_before_any_is_rated() -> None:
    a, b, c = (completion(name, member=name) for name in "abc")
    better = completion("e", member="evolver", evolution=2, parent_id="d")
    between = completion("d", member="evolver", evolution=1, parent_id="b")
    assert shown([a, b, c], "c", "x", "a", "b") == ("c", "b", True)
    assert shown([a, b, c, better, between]) == ("e", "b", True)  # the rewrite of the last round, and where it began
    assert shown([a, b, c, better, between], "a", "c") == ("a", "c", True)
    drawn = shown([a, b, c])
    assert drawn
    assert not drawn[2]
    more = completion("b2", member="b")
    assert shown([a, b, c, more], "c", "a", "b") == ("c", "b", True)
    firsts = [shown([completion(name, prompt_id=f"p{n}") for name in "ab"]) for n in range(20)]
    assert {one[0] for one in firsts if one} == {"a", "b"}  # a place in the alphabet is no merit
    same = completion("z", member="z", text=f" {c['text']}\n")
    assert shown([c, same], "c", "z") is None
    assert shown([c, same, a], "c", "z", "a") == ("c", "a", True)
    assert shown([c, same, b], "c", "b", "z") == ("c", "b", True)
    assert shown([a]) is None


def test_the_author_sees_the_prompt_and_two_answers_between_marks_and_is_told_only_what_is_known() -> None:
    asked: list[Request] = []

    class Keeps(Echo):
        def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
            asked.extend(requests)
            return super().stream(requests)

    one = prompt("Why?", reference="Since.")
    group = [completion(name, member=name, prompt_id=one["prompt_id"]) for name in "ab"]
    alike = prompt("Who?")
    same = [completion(f"s{n}", prompt_id=alike["prompt_id"], text="Me.") for n in range(2)]
    tables = frame("prompts", [one, alike]), frame("completions", [*group, *same])
    for order in ((), ("b", "a")):
        made = rows(validated("criteria", write(*tables, SETTINGS, AUTHOR, Keeps(AUTHOR), order)))
        assert [row["error"] for row in made if row["prompt_id"] == alike["prompt_id"]] == [ALIKE]
    drawn, ranked = (request.messages[0]["content"] for request in asked)
    assert "Nobody has said which" in drawn
    assert "usually the stronger" in ranked
    assert ranked.index("the text of b") < ranked.index("the text of a")
    assert "Since." in drawn
    assert "at most 6 questions" in drawn
    assert asked[0].schema
    assert "items" in asked[0].schema["properties"]


# What it writes

TEXTS = st.text(max_size=30)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "question": TEXTS | st.integers() | st.just("x" * 600),
        "weight": st.sampled_from([*WEIGHTS, "heavy"]) | st.floats() | st.none() | st.booleans(),
        "check": TEXTS | st.none() | st.integers() | st.sampled_from(["json", "words 2 to 1", 'contains "a"']),
    },
)


@settings(max_examples=50)
@given(
    st.lists(ITEMS | TEXTS | st.none(), max_size=5),
    st.sampled_from(["{}", "```json\n{}\n```", "So:\n{}", "<think>{{</think>{}"]),
)
def test_every_item_of_a_reply_is_read_or_has_a_reason(written: list[Any], around: str) -> None:
    found, error = read_items(
        around.replace("{{", "\0").replace("{}", json.dumps({"items": written})).replace("\0", "{")
    )
    assert (error is None) == bool(written)
    assert len(found) == len(written)
    for one, raw in zip(found, written, strict=True):
        if one.error is None:
            assert one.question
            assert one.question == " ".join(one.question.split())
            assert len(one.question) <= LONGEST
            assert one.weight is not None
            assert 0 < one.weight < math.inf
            asked_for = str(raw.get("check") or "").strip() if raw.get("check") != 0 else "0"
            assert bool(one.check or one.note) == bool(asked_for)
        else:
            assert one.error.startswith("unreadable: ")
        str([one.question, one.note, one.error]).encode()  # fit for a table


@settings(max_examples=50)
@given(
    st.text()
    | st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        json.dumps
    ),
    st.booleans(),
)
def test_any_reply_gives_items_or_an_error(text: str, cut: bool) -> None:
    found, error = read_items(text, cut)
    assert bool(found) != bool(error)


@pytest.mark.parametrize("weight", [0, -1, 1e9, math.inf, True, None, "heavy"])
def test_a_weight_is_a_name_or_a_number_above_zero(weight: Any) -> None:
    assert read_item({"question": "Why?", "weight": weight}).error == f"unreadable: weight is {weight!r}"
    assert read_item({"question": "Why?", "weight": 2}).weight == 2


def test_half_a_letter_does_not_reach_a_table() -> None:
    assert read_item({"question": "Is \ud800 so?"}).question == "Is ? so?"


def test_a_reply_that_was_cut_says_what_to_do() -> None:
    assert read_items('{"items": [{"question"', cut=True)[1] == (
        "unreadable: it was cut at max_tokens: raise sampling.max_tokens of the author"
    )


@pytest.mark.parametrize(
    ("first", "second", "errors"),
    [
        ("Does it name Paris?", "Does the answer name Paris?", [None, "repeats item 1"]),
        ("Does it name Paris?", "Does it name Rome?", [None, None]),
        ("Does it give 3 reasons why?", "Does it give 5 reasons why?", [None, None]),
        ("Does it name Paris?", "Does it not name Paris?", ["contradicts item 2", "contradicts item 1"]),
        ("Is it free of errors?", "Are there no errors?", [None, "repeats item 1"]),
    ],
)
def test_items_that_repeat_or_deny_each_other_are_dropped(first: str, second: str, errors: list[str | None]) -> None:
    assert [one.error for one in told_apart([Item(first, 1.0), Item(second, 1.0)], 6)] == errors


def test_items_beyond_the_number_and_of_one_check_are_dropped_and_unread_ones_take_no_place() -> None:
    asked = [Item("Unread?", error="unreadable: x"), Item("Is it so?", 1.0, "json"), Item("An object?", 1.0, "json")]
    asked += [Item(f"Does it say {word}?", 1.0) for word in ("amber", "lagoon", "zephyr")]
    assert [one.error for one in told_apart(asked, 3)] == [
        "unreadable: x", None, "repeats item 2", None, None, "one of more than 3 items",
    ]  # fmt: skip


# Which count by their readings, and what they come to


def test_a_score_is_the_weighted_share_of_yes_on_the_scale_1_to_5() -> None:
    items = [item(1), item(2, weight=0.5), item(3, error="repeats item 1")]
    errors, scores = settle(items, readings([1.0, 0.25], [0.2, 0.8]))
    assert errors == {1: None, 2: None, 3: "repeats item 1"}
    assert scores == pytest.approx({"a": 1 + 4 * (1 + 0.1) / 1.5, "b": 1 + 4 * (0.25 + 0.4) / 1.5})


def test_what_all_answers_meet_alike_does_not_count_and_without_any_other_they_are_tied() -> None:
    errors, scores = settle([item(1), item(2)], readings([0.9, 0.1, 0.5], [0.95, 0.9, 0.86]))
    assert errors == {1: None, 2: "tells nothing apart: yes differs by 0.09 at most"}
    assert scores == pytest.approx({"a": 4.6, "b": 1.4, "c": 3.0})
    errors, scores = settle([item(1)], readings([0.9, 0.85]))
    assert scores == pytest.approx(dict.fromkeys("ab", 1 + 4 * 0.875))
    errors, _ = settle([item(1)], readings([0.15, 0.1]), min_spread=0.05)
    assert errors == {1: None}  # 0.05 is enough, whatever its last digits are


def test_two_questions_about_the_same_that_opposite_answers_meet_contradict_each_other() -> None:
    same = [item(1, "Does it keep the summary under fifty words?"), item(2, "Does the summary run to a hundred words?")]
    other = [item(1, "Is it short?"), item(2, "Does it explain every step?")]
    opposite = ([0.9, 0.1, 0.2], [0.1, 0.9, 0.8])
    told = "contradicts item {}: opposite answers meet them"
    assert settle([*same, item(3)], readings(*opposite, [0.1, 0.5, 0.9]))[0] == {
        1: told.format(2),
        2: told.format(1),
        3: None,
    }
    assert settle(other, readings(*opposite))[0] == {1: None, 2: None}  # demands that no answer meets together
    two = [some[:2] for some in opposite]
    assert settle(same, readings(*two))[0] == {1: None, 2: None}  # of two answers, half of all items are opposite


def test_an_item_is_dropped_for_all_judges_together_and_a_null_reading_is_a_null_score() -> None:
    made = [*readings([0.5, 0.5], [0.9, 0.2]), *readings([0.9, 0.1], [None, 0.4], judge="k")]
    scored, criteria = sifted(frame("ratings", made), frame("criteria", [item(1), item(2)]), SETTINGS)
    assert not criteria["error"].notna().any()
    found = {(row["judge"], row["completion_id"]): (row["score"], row["error"]) for row in rows(scored)}
    assert found["j", "a"] == (pytest.approx(1 + 4 * 0.7), None)
    assert found["k", "a"] == (None, "no rating")
    assert {row["rationale"] for row in rows(scored)} >= {"0.50 Question 1?\n0.90 Question 2?", None}
    assert read_lines("0.50 Question 1?\n0.90 Question 2?") == {"Question 1?": 0.5, "Question 2?": 0.9}


# What judges are asked


@pytest.mark.parametrize("readout", ["text", "json", "logprobs"])
def test_all_requests_about_an_answer_begin_alike_and_end_in_the_question(readout: str) -> None:
    judge = Judge(name="j", backend="echo", model="m", readout=readout, protocol="pointwise")
    plan = Rating(judges=(judge,), aspects=("criteria",), criteria=SETTINGS)
    asked: list[Request] = []

    class Keeps(Echo):
        def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
            asked.extend(requests)
            return super().stream(requests)

    one = prompt("Why?")
    texts = [completion(name, prompt_id=one["prompt_id"]) for name in "ab"]
    items = [item(n, check="words at most 3" if n == 3 else None, prompt_id=one["prompt_id"]) for n in range(1, 5)]
    tables = frame("prompts", [one]), frame("completions", texts)
    made = rows(validated("ratings", rate(*tables, plan, judge, Keeps(judge), criteria=items)))  # type: ignore[arg-type]
    assert len(asked) == 2 * 3  # the third item is a program's
    assert {(row["completion_id"], row["order"]) for row in made} == {(t, n) for t in "ab" for n in range(1, 5)}
    assert all(0 <= row["score"] <= 1 for row in made)
    assert [row["score"] for row in made if row["order"] == 3] == [0.0, 0.0]  # of four words
    for text in "ab":
        heads = {
            request.messages[1]["content"].partition("Question ")[0]
            for request in asked
            if f"the text of {text}\n" in request.messages[1]["content"]
        }
        assert len(heads) == 1
    assert (asked[0].choices == ("Yes", "No")) == (readout == "logprobs") == (asked[0].sampling.max_tokens == 1)


def test_the_probability_of_yes_is_read_beside_that_of_no() -> None:
    judge = Judge(name="j", backend="echo", model="m", readout="logprobs", protocol="pointwise")
    plan = Rating(judges=(judge,), aspects=("criteria",), criteria=SETTINGS)

    class Sure(Echo):
        def answer(self, request: Request) -> Reply:
            return Reply("Yes", "stop", logprobs={"Yes": math.log(0.6), "No": math.log(0.2)})

    one = prompt("Why?")
    tables = frame("prompts", [one]), frame("completions", [completion("a", prompt_id=one["prompt_id"])])
    (row,) = rows(rate(*tables, plan, judge, Sure(judge), criteria=[item(1, prompt_id=one["prompt_id"])]))  # type: ignore[list-item]
    assert (row["rating"], row["score"]) == (1, pytest.approx(0.75))


def test_nothing_depends_on_the_order_of_prompts_answers_and_criteria() -> None:
    judge = Judge(name="j", backend="echo", model="m", readout="logprobs", protocol="pointwise")
    plan = Rating(judges=(judge,), aspects=("criteria",), criteria=SETTINGS)
    prompts = [prompt(f"Question {n}?") for n in range(4)]
    texts = [completion(f"c{n}{m}", prompt_id=one["prompt_id"]) for n in range(3) for m, one in enumerate(prompts)]
    found = set()
    for seed in range(10):
        for some in (prompts, texts):
            random.Random(seed).shuffle(some)
        tables = frame("prompts", prompts), frame("completions", texts)
        written = rows(write(*tables, SETTINGS, AUTHOR, Echo(AUTHOR)))
        random.Random(seed).shuffle(written)
        read = rate(*tables, plan, judge, Echo(judge), criteria=rows_as(CriterionRow, frame("criteria", written)))
        made = sifted(read, frame("criteria", written), SETTINGS)
        found.add(json.dumps([sorted(map(json.dumps, rows(table))) for table in made]))
    assert len(found) == 1
