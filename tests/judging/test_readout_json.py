from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.readout_json import read_json, schema_for
from pairsmith.judging.readouts import Read
from tests.judging.sheets import MARKS, ONE, SHEET, THREE


def test_json() -> None:
    entries = {mark: {"rationale": " why ", "rating": n} for n, mark in enumerate(MARKS, start=1)}
    assert [read.rating for read in read_json(json.dumps(entries), SHEET).values()] == [1, 2, 3]
    assert read_json(f"```json\n{json.dumps(entries)}\n```", SHEET)[MARKS[0]] == Read(1, 1.0, "why")


@pytest.mark.parametrize("rating", ["4.0", "four", "4 or 5", "9", True, 4.5, 9, 10**400, None, [4], {"value": 4}])
def test_json_takes_only_whole_numbers_on_the_scale(rating: object) -> None:
    found = read_json(json.dumps({MARKS[0]: {"rating": rating}}), ONE)[MARKS[0]]
    assert found.rating is None
    assert found.error


@pytest.mark.parametrize(
    ("said", "rating"),
    [
        ('{"a1b2c3": {"rating": "4"}}', 4),
        ('{"rationale": "Clear.", "rating": 4}', 4),
        ('{"rating": "4"}', 4),
        ("4", 4),
        (' "4"\n', 4),
        ("```json\n4\n```", 4),
        ('{"a1b2c3": 4}', 4),
        ('{"a1b2c3": "4"}', 4),
        ('{"a1b2c3": 9}', None),
        ('{"a1b2c3": true}', None),
        ('{"a1b2c3": 4, "b": 5}', None),
        ("44", None),
        ("4 5", None),
        ('{"rating": 4, "score": 5}', None),
        ('{"d4e5f6": {"rating": 4}}', None),
        ('{"rating": 4}{"rating": 5}', None),
    ],
)
def test_of_one_text_a_rating_needs_no_mark_and_may_be_digits(said: str, rating: int | None) -> None:
    assert read_json(said, ONE)[MARKS[0]].rating == rating
    assert read_json(said, replace(ONE, unbound=False))[MARKS[0]].rating == (rating if "a1b2c3" in said else None)


@pytest.mark.parametrize("text", ["4", "It is so.\n**4**"])
def test_digits_that_a_text_holds_alone_may_be_a_quotation(text: str) -> None:
    sheet = replace(ONE, texts=(replace(ONE.texts[0], text=text),))
    assert read_json('"4"', sheet)[MARKS[0]].rating is None
    assert read_json('"5"', sheet)[MARKS[0]].rating == 5


@pytest.mark.parametrize("said", ['{"a1b2c3": 4}', '{"a1b2c3": {"rating": "4"}}', '{"rating": 4}', "4"])
def test_of_several_texts_none_of_this_is_read(said: str) -> None:
    assert {read.rating for read in read_json(said, SHEET).values()} == {None}


def test_json_with_a_double_key_is_null() -> None:
    assert read_json('{"a1b2c3": {"rating": 4}, "a1b2c3": {"rating": 5}}', ONE)[MARKS[0]].rating is None


def test_the_schema_binds_by_mark_and_is_closed() -> None:
    schema = schema_for(SHEET, rationale=True)
    assert schema["required"] == list(MARKS)
    assert list(schema["properties"][MARKS[0]]["properties"]) == ["rationale", "rating"]
    assert None not in schema["properties"][MARKS[0]]["properties"]["rating"]["enum"]


ENTRIES = {mark: {"rationale": "it ends `,]` and\n``` so, }", "rating": n} for n, mark in enumerate(MARKS, start=1)}
SAID = json.dumps(ENTRIES, indent=1)
TRAILING = SAID.replace("\n }", ",\n }").replace("\n}", "\n,\n}")


@pytest.mark.parametrize("said", [SAID, TRAILING, json.dumps(ENTRIES), SAID.replace("\\n", "\n")])
@pytest.mark.parametrize(
    "around",
    [
        "{}", "\ufeff{}", "Sure! My ratings:\n\n{}\n\nLet me know.", "Here is the JSON: {}", "<think>{5}</think>\n{}",
        "Here:\n```json\n{}\n```\nIn all, fine.", "~~~\n{}\n~~~", "```JSON\n{}```",
    ],
)  # fmt: skip
def test_json_with_things_around_it(said: str, around: str) -> None:
    found = read_json(around.replace("{}", said), SHEET)
    assert list(found.values()) == [Read(n, float(n), "it ends `,]` and\n``` so, }") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "reply",
    [
        f"{SAID}\n{SAID}",
        f"```json\n{SAID}\n```\n```json\n{SAID}\n```",
        f'Format: {{"mark": 1}}\n{SAID}',
        f"{SAID}\nI first had {{}}.",
        f"I would not say {SAID}",
        f"{SAID} is what a bad judge would say",
        f"[{SAID}]",
        SAID[:-8],
        SAID.replace('"', "'"),
        SAID.replace("},", "},,"),
        SAID.replace(": 1", ": ,"),
        f"Rating: 5\n{SAID[1:]}",
        '"' + SAID.replace('"', '\\"') + '"',
    ],
)
def test_json_that_is_not_one_object_on_its_own_is_null(reply: str) -> None:
    found = read_json(reply, SHEET)
    assert [one.rating for one in found.values()] == [None] * 3
    assert all(one.error for one in found.values())


def test_json_beside_a_rating_line_is_null_for_that_text() -> None:
    found = read_json(f"Rating {MARKS[0]}: 5\n\n{SAID}\n", SHEET)
    assert [one.rating for one in found.values()] == [None, 2, 3]


@pytest.mark.parametrize(
    "after",
    ["Text a1b2c3 rating: 5", "| Text | Rating |\n|---|---|\n| a1b2c3 | 5 |", "On reflection:\na1b2c3: 5",
     "Revised rating: a1b2c3 should be 5"],
)  # fmt: skip
def test_an_object_that_is_taken_back_beside_it_counts_for_nothing(after: str) -> None:
    told = json.dumps({mark: {"rating": 1} for mark in MARKS})
    found = read_json(f"{told}\n{after}", THREE)
    assert [read.rating for read in found.values()] == [None, 1, 1]


def test_digits_alone_that_may_be_cut_or_an_answer_are_none() -> None:
    assert read_json("1", ONE, cut=True)[MARKS[0]].rating is None
    assert [read_json(said, ONE, cut=True)[MARKS[0]].rating for said in ('"1"', "1\n")] == [1, 1]
    sheet = JudgeSheet(ONE.texts, ONE.scale, False, prompt="How many moons has Mars?", reference="two")
    assert [read_json(said, sheet)[MARKS[0]].rating for said in ("2", '"2"', "3")] == [None, None, 3]


@pytest.mark.parametrize(("after", "rating"), [("Correction: 3/5", None), ("[[3]]", None), ("3", None), ("4/5", 4)])
def test_of_one_text_an_object_may_be_taken_back_without_the_mark(after: str, rating: int | None) -> None:
    assert read_json(f'{{"rating": 4}}\n\n{after}', ONE)[MARKS[0]].rating == rating
