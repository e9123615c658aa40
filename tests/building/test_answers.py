"""The columns that stand for a completion and its ratings: what they may hold, and what is told of other things."""

from __future__ import annotations

from typing import Any

import pytest

from pairsmith.building.answers import Answers, answers_in, ratings_in
from pairsmith.building.rows import Rows, column_names, plain_rows, prompts_in
from pairsmith.errors import ConfigError
from tests.building.cases import answers


def read(rows: list[dict[str, Any]]) -> tuple[Rows, Answers]:
    table = plain_rows(rows)
    return table, answers_in(table, prompts_in(table, column_names(None)), "rate")


def ratings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return ratings_in(*read(rows), needed=True)


def test_what_a_row_does_not_tell_is_filled_in() -> None:
    (made,) = read(answers("Yes."))[1].table
    assert (made["member"], made["model"], made["text"], made["error"]) == ("given", "given", "Yes.", None)
    assert (made["sample"], made["seed"], made["evolution"], made["request"]) == (0, 0, 0, "")


@pytest.mark.parametrize("text", [None, float("nan"), "", " \n"])
def test_an_answer_without_text_is_kept_and_says_so(text: Any) -> None:
    assert [row["error"] for row in read(answers(text))[1].table] == ["empty: row 0 has no completion"]


def test_an_answer_that_no_encoding_can_store_says_so() -> None:
    (made,) = read(answers("so \ud800"))[1].table
    assert made["text"] == ""
    assert made["error"] == "unreadable: row 0: a lone surrogate, which no encoding can store"


def test_why_an_answer_failed_is_kept() -> None:
    assert read(answers("", error=["failed: no network"]))[1].table[0]["error"] == "failed: no network"


def test_ids_that_are_numbers_stand_for_their_digits_whatever_pandas_makes_of_them() -> None:
    found = read(answers("a", "b", "c", completion_id=[0, 1.0, "x"], parent_id=[None, 0.0, float("nan")]))[1]
    assert list(found.made) == ["0", "1", "x"]
    assert [row["parent_id"] for row in found.table] == [None, "0", None]


def test_an_answer_that_stands_twice_counts_once_and_is_noted() -> None:
    found = read(answers("a", "b", "a"))[1]
    assert [row["text"] for row in found.table] == ["a", "b"]
    assert [row["detail"] for row in found.repeated] == ["row 2: same completion as row 0"]
    assert found.repeated[0]["completion_id"] == found.table[0]["completion_id"]
    assert len(read(answers("a", "a", member=["m", "n"]))[1].table) == 2
    assert len(read(answers("a", "a", sample=[0, 1]))[1].table) == 2


def test_one_id_for_two_texts_or_two_prompts_is_an_error() -> None:
    with pytest.raises(ConfigError, match="rows 0 and 1 have the same completion_id 1, but not the same text"):
        read(answers("a", "b", completion_id=[1, 1]))
    with pytest.raises(ConfigError, match="rows 0 and 1 have the same completion_id"):
        read([*answers("a", completion_id=[1]), *answers("a", completion_id=[1], prompt="How?")])


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("completion", 5, "holds 5, which is not text"),
        ("member", 5, "is not text"),
        ("model", ["x"], "is not text"),
        ("sample", "train", "holds 'train', which is not a whole number"),
        ("sample", True, "whole number"),
        ("seed", -1, "whole number"),
        ("evolution", 0.5, "whole number"),
        ("n_tokens", float("inf"), "whole number"),
        ("error", "none", "which is not as pairsmith writes why"),
        ("prompt_id", "p-17", "which is not the id of the prompt in it"),
        ("completion_id", 1.5, "whole number"),
    ],
)
def test_a_column_of_our_name_that_means_something_else_is_an_error(column: str, value: Any, told: str) -> None:
    fix = rf"rename it, as in data.rename\(columns={{'{column}': 'my_{column}'}}\)"
    with pytest.raises(ConfigError, match=f"row 1: the column {column} .*{told}.*{fix}"):
        read([*answers("a"), {"prompt": "Why?", "completion": "b", column: value}])


def test_the_column_of_texts_must_be_there() -> None:
    with pytest.raises(ConfigError, match="rate needs the column completion, .*have prompt, text. Rename yours"):
        read([{"prompt": "Why?", "text": "So."}])
    with pytest.raises(ConfigError, match="rate needs the column completion"):
        read([{"prompt": None, "text": "So."}, {"prompt": "Why?", "text": "So."}])
    assert read([])[1].table == []


@pytest.mark.parametrize("parents", [["a"], ["b", "a"], ["b", "c", "a"]])
def test_a_completion_that_comes_from_itself_is_an_error(parents: list[str]) -> None:
    texts = "abc"[: len(parents)]
    with pytest.raises(ConfigError, match="is its own parent"):
        read(answers(*texts, completion_id=list(texts), parent_id=parents))


def test_parents_that_are_not_in_the_rows_or_are_shared_are_fine() -> None:
    found = read(answers("a", "b", "c", completion_id=list("abc"), parent_id=["elsewhere", "a", "a"]))[1]
    assert [row["parent_id"] for row in found.table] == ["elsewhere", "a", "a"]


def test_ratings_may_leave_out_who_gave_them_and_a_number_alone_is_one() -> None:
    told = [
        [{"judge": "j", "aspect": "honesty", "rating": 4}, {"score": 3.5}],
        None,
        [],
        None,
    ]
    made = ratings(answers("a", "b", "c", "d", ratings=told, score=[1.0, -7.5, 2, None]))
    shown = [(row["judge"], row["aspect"], row["protocol"], row["rating"], row["score"]) for row in made]
    assert shown == [
        ("j", "honesty", "given", 4, 4),
        ("given", "overall", "given", None, 3.5),
        ("given", "overall", "reward", None, -7.5),
        ("given", "overall", "reward", None, 2.0),
    ]


def test_ratings_stand_with_the_answer_of_their_own_row() -> None:
    rows = answers("a", "a", sample=[0, 1], score=[1, 2])
    found = {row["completion_id"]: row["score"] for row in ratings(rows)}
    assert found == {row["completion_id"]: row["sample"] + 1 for row in read(rows)[1].table}
    assert [row["score"] for row in ratings(answers("a", "b", completion_id=[0, 1], score=[1, 2]))] == [1, 2]


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("score", "good", "holds 'good', which is not a number"),
        ("score", float("inf"), "not a number"),
        ("score", True, "not a number"),
        ("ratings", "[4, 5]", "not a list of ratings"),
        ("ratings", [4], "not a list of ratings"),
        ("ratings", {"score": 4}, "not a list of ratings"),
        ("ratings", [{"scor": 4}], "of which one has no score"),
        ("ratings", [{"score": "4"}], "the column score holds '4'"),
        ("ratings", [{"rating": 4.5}], "the column rating holds 4.5, which is not a whole number"),
    ],
)
def test_what_is_no_rating_is_an_error(column: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"row 0: .*{told}"):
        ratings(answers("a", **{column: [value]}))


def test_a_rating_that_failed_needs_no_score() -> None:
    (made,) = ratings(answers("a", ratings=[[{"judge": "j", "score": None, "error": "no rating"}]]))
    assert (made["score"], made["error"]) == (None, "no rating")


def test_neither_ratings_nor_a_score_is_a_wrong_column() -> None:
    with pytest.raises(ConfigError, match="pair needs the column ratings.*or score; the rows have prompt, completion"):
        ratings(answers("a"))
    assert ratings_in(*read(answers("a")), needed=False) == []
