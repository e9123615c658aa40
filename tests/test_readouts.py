from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.llms.base import Reply
from pairsmith.readouts import (
    NOT_APPLICABLE,
    Read,
    Scale,
    Sheet,
    Text,
    read_json,
    read_logprobs,
    read_text,
    schema_for,
)

MARKS = ("a1b2c3", "d4e5f6", "0a9b8c")
SHEET = Sheet(tuple(Text(f"id-{mark}", mark, f"the text {mark}") for mark in MARKS), Scale(1, 5), False)
ONE = Sheet(SHEET.texts[:1], Scale(1, 5), False)


def ratings(reply: str, sheet: Sheet = SHEET) -> list[int | None]:
    return [found.rating for found in read_text(reply, sheet).values()]


def section(mark: str, rating: object, rationale: str = "Because.") -> str:
    return f"### Text {mark}\nRationale: {rationale}\nRating {mark}: {rating}\n"


GOOD = "\n".join(section(mark, rating) for mark, rating in zip(MARKS, (4, 1, 5), strict=True))


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "Sure! Here are my ratings.\n\n" + GOOD + "\nI hope this helps.",
        "<think>Text a1b2c3 is bad.\nRating a1b2c3: 1</think>\n" + GOOD,
        "\n".join(section(m, r) for m, r in zip(reversed(MARKS), (5, 1, 4), strict=True)),
        GOOD.replace("Rating", "**Rating").replace(": 4", ":** 4").replace(": 1", ":** 1").replace(": 5", ":** 5"),
        GOOD.replace("Because.", "First.\n\nSecond paragraph.\n- a list\n"),
        GOOD.replace("### Text ", "**Text ").replace("\nRationale", "**\nRationale"),
        GOOD.replace(": 4", ": 4/5 (good)").replace(": 5", ": [[5]]").replace(": 1", ": one"),
        GOOD.replace("Rating a1b2c3", "Rating").replace("Rating d4e5f6", "Rating").replace("Rating 0a9b8c", "Rating"),
        GOOD.replace("### Text a1b2c3\n", "### [a1b2c3]\n"),
        GOOD.replace("Rating a1b2c3: 4", "Rating a1b2c3:\n4"),
    ],
)
def test_layouts_that_judges_write(reply: str) -> None:
    assert ratings(reply) == [4, 1, 5]


@pytest.mark.parametrize(
    "value",
    [
        "One could argue for a 4",
        "2 errors found, so 4/5",
        "2 errors found",
        "1 (lowest) to 5 (highest): 4",
        "4,000",
        "\n1. Accurate\n2. Clear",
        "\n2 things are wrong",
        "4/" + "9" * 5000,
        "9" * 5000,
        "four or five",
        "6",
        "0",
        "-3",
        "10",
        "4.5",
        "3,5",
        "4-5",
        "3 or 4",
        "4 to 5",
        "NaN",
        "inf",
        "",
        "good",
        "4/10",
        "N/A",
        "4th",
        "<1 to 5>",
    ],
)
def test_no_rating_is_clamped_rounded_or_guessed(value: str) -> None:
    assert ratings(GOOD.replace("a1b2c3: 4", f"a1b2c3: {value}")) == [None, 1, 5]


def test_lines_that_disagree_make_null_and_lines_that_agree_do_not() -> None:
    assert ratings(GOOD + section(MARKS[0], 2)) == [None, 1, 5]
    assert ratings(GOOD + section(MARKS[0], 4)) == [4, 1, 5]


def test_a_missing_section_moves_no_other_rating() -> None:
    found = read_text(section(MARKS[1], 2) + section(MARKS[2], 3), SHEET)
    assert [read.rating for read in found.values()] == [None, 2, 3]
    assert found[MARKS[0]].error == "no section for this text"


def test_the_rationale_is_kept_without_its_label() -> None:
    assert read_text(GOOD, SHEET)[MARKS[0]].rationale == "Because."
    assert read_text(section(MARKS[0], 9), ONE)[MARKS[0]].rationale == "Because."


def test_a_single_text_needs_no_header() -> None:
    assert ratings("Good work.\nRating: 4", ONE) == [4]
    assert read_text("Good work.\nRating: 4", ONE)[MARKS[0]].rationale == "Good work."


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Rating: 5\nOn reflection it is weaker.\nFinal rating: 3", None),
        (f"Rating {MARKS[0]}: 5\nHm.\nRevised rating {MARKS[0]}: 3", None),
        (f"Rating for {MARKS[0]}: 1\n\nOverall score: 4", 1),
        (f"The text ends with\n_Rating: 5_\nMy rating for {MARKS[0]}: 1", 1),
        ("Rating: 1 - no, make that four", None),
        (f"1. Rating {MARKS[0]}: 4", 4),
        (f"• Rating {MARKS[0]}: 4 (out of 5)", 4),
        (f"Rating {MARKS[0]} - 4", 4),
        (f"**Text {MARKS[0]}:** Rating: 4", 4),
        (f"### Text {MARKS[0]}: the only one\nRating: 4", 4),
        (f"**Rating {MARKS[0]}:** 4/5", 4),
        (f"Rating ({MARKS[0]}): 4 - a good one", 4),
    ],
)
def test_second_thoughts_and_odd_labels(reply: str, expected: int | None) -> None:
    assert ratings(reply, ONE) == [expected]


def test_a_header_with_more_on_its_line_still_ends_the_section_before() -> None:
    reply = f"### Text {MARKS[0]}\nRating - 1\n\n### Text {MARKS[1]}: the longer one\nRating: 5"
    assert ratings(reply) == [1, 5, None]


def test_prose_that_begins_with_a_mark_is_no_header() -> None:
    reply = f"### Text {MARKS[0]}\nRationale: complete;\nText {MARKS[1]} is worse than this one.\nRating: 5"
    assert ratings(reply) == [None, None, None]


def test_the_last_line_of_a_reply_that_was_cut_rates_nothing() -> None:
    assert read_text(f"Good.\nRating {MARKS[0]}: 1", ONE, cut=True)[MARKS[0]].rating is None
    assert read_text(f"Rating {MARKS[0]}: 4\nIt is go", ONE, cut=True)[MARKS[0]].rating == 4


def test_thoughts_are_no_answer_whether_opened_closed_or_neither() -> None:
    line = f"Rating {MARKS[0]}: 2\n"
    assert ratings(f"First guess:\n{line}</think>\nRating {MARKS[0]}: 4", ONE) == [4]
    assert ratings(f"<think>{line}", ONE) == [None]


def test_a_reply_of_nothing_but_dashes_is_read_in_no_time() -> None:
    assert ratings("-" * 200_000) == [None, None, None]


def test_not_applicable_only_where_it_may_be() -> None:
    may = Sheet(ONE.texts, ONE.scale, True)
    assert read_text("Rating: N/A", may)[MARKS[0]].error == NOT_APPLICABLE
    assert read_text("Rating: N/A", ONE)[MARKS[0]].error != NOT_APPLICABLE


@given(st.text())
def test_any_reply_gives_one_read_per_text(reply: str) -> None:
    for read in (read_text, read_json):
        found = read(reply, SHEET)
        assert tuple(found) == MARKS
        assert all(one.rating is None or 1 <= one.rating <= 5 for one in found.values())
        assert all((one.rating is None) == (one.error is not None) for one in found.values())


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))


@given(st.permutations(range(3)), st.lists(st.integers(1, 5), min_size=3, max_size=3), plain, plain)
def test_ratings_bind_by_mark_whatever_the_order_and_noise(
    order: list[int], values: list[int], noise: str, rationale: str
) -> None:
    hazards = ("rating", "score", "think>", "thinking>", "reasoning>", "text")
    if any(hazard in (noise + rationale).lower() for hazard in hazards):
        return
    reply = noise + "\n" + "\n".join(section(MARKS[i], values[i], rationale) for i in order)
    assert ratings(reply) == values


def test_json() -> None:
    entries = {mark: {"rationale": " why ", "rating": n} for n, mark in enumerate(MARKS, start=1)}
    assert [read.rating for read in read_json(json.dumps(entries), SHEET).values()] == [1, 2, 3]
    assert read_json(f"```json\n{json.dumps(entries)}\n```", SHEET)[MARKS[0]] == Read(1, 1.0, "why")


@pytest.mark.parametrize("rating", ["4", True, 4.5, 9, 10**400, None, [4], {"value": 4}])
def test_json_takes_only_whole_numbers_on_the_scale(rating: object) -> None:
    found = read_json(json.dumps({MARKS[0]: {"rating": rating}}), ONE)[MARKS[0]]
    assert found.rating is None
    assert found.error


def test_json_with_a_double_key_is_null() -> None:
    assert read_json('{"a1b2c3": {"rating": 4}, "a1b2c3": {"rating": 5}}', ONE)[MARKS[0]].rating is None


def test_logprobs_give_the_mode_and_the_mean() -> None:
    logprobs = {str(n): math.log(p) for n, p in enumerate((0.1, 0.1, 0.1, 0.5, 0.2), start=1)}
    found = read_logprobs(Reply("4 - Well done.", logprobs=logprobs), ONE)
    assert (found.rating, found.rationale) == (4, "Well done.")
    assert found.score == pytest.approx(3.6)
    assert read_logprobs(Reply("4", logprobs=logprobs), ONE).rationale is None
    nan = Reply("4", logprobs=logprobs | {"2": math.nan})
    assert read_logprobs(nan, ONE).rating is None
    assert read_logprobs(Reply("4"), ONE).rating is None


def test_logprobs_not_applicable() -> None:
    may = Sheet(ONE.texts, ONE.scale, True)
    logprobs = dict.fromkeys("12345", math.log(0.1)) | {"N": math.log(0.5)}
    assert read_logprobs(Reply("N", logprobs=logprobs), may).error == NOT_APPLICABLE


def test_the_schema_binds_by_mark_and_is_closed() -> None:
    schema = schema_for(SHEET, rationale=True)
    assert schema["required"] == list(MARKS)
    assert list(schema["properties"][MARKS[0]]["properties"]) == ["rationale", "rating"]
    assert None not in schema["properties"][MARKS[0]]["properties"]["rating"]["enum"]
