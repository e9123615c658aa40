"""Which verdict is read from a reply, and which is not guessed."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.judging.readout_verdict import could_be_a_tie, read_verdict, verdict_schema
from pairsmith.judging.readouts import Read, Scale, Sheet, Text
from pairsmith.protocol import Reply

SHEET = Sheet((Text("x", "a1b2c3", "one"), Text("y", "d4e5f6", "two")), Scale(1, 5), False)
QUOTED = Sheet(SHEET.texts, SHEET.scale, False, unbound=False)


def said(text: str, readout: str = "text", sheet: Sheet = SHEET, finish: str = "stop") -> Read:
    first, second = read_verdict(readout, sheet, Reply(text, finish)).values()
    assert first.error == second.error
    assert first.rationale == second.rationale
    if first.error is None:
        return {(1, 0): Read(1, rationale=first.rationale), (0, 1): Read(2, rationale=first.rationale)}.get(
            (int(first.score or 0), int(second.score or 0)), Read(0, rationale=first.rationale)
        )
    assert (first.score, second.score, first.rating) == (None, None, None)
    return first


@pytest.mark.parametrize(
    ("reply", "better"),
    [
        ("Rationale: It is right.\nBetter: a1b2c3", 1),
        ("**Better:** `d4e5f6`", 2),
        ("Better text: Text D4E5F6.", 2),
        ("The better answer is a1b2c3, because it answers.", 1),
        ("Better: [[tie]]", 0),
        ("Better: <a1b2c3>", 1),
        ("Verdict: a tie", 0),
        ("Better: neither (both fail)", 0),
        ("d4e5f6", 2),
        ("tie", 0),
        ("<think>Better: a1b2c3?</think>\nBetter: d4e5f6", 2),
        ("Better: a1b2c3\n\nFinal verdict: a1b2c3", 1),
    ],
)
def test_a_verdict_in_any_dress(reply: str, better: int) -> None:
    assert said(reply).rating == better


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("", "no verdict"),
        ("The first one is better by far.\nIt is longer.", "no verdict"),
        ("Better: the first", "neither a mark nor a tie"),
        ("Better: a1b2c3 or d4e5f6", "more than a verdict"),
        ("Better: <a1b2c3, d4e5f6 or tie>", "more than a verdict"),
        ("Better: a1b2c3, though not by much", "more than a verdict"),
        ("Better: not a1b2c3", "neither a mark nor a tie"),
        ("Better: a1b2c3\nCorrection: d4e5f6", "more than one verdict"),
        ("Better: ffffff", "not there"),
        ("a1b2c3 and d4e5f6", "more than a verdict"),
        ("Better:", "neither a mark nor a tie"),
    ],
)
def test_nothing_is_guessed(reply: str, told: str) -> None:
    assert told in str(said(reply).error)


def test_a_reply_that_was_cut_ends_before_its_last_line() -> None:
    assert said("Better: a1b2c3", finish="length").error == "no verdict"
    assert said("Better: a1b2c3\nsince", finish="length").rating == 1


def test_a_tie_that_may_be_quoted_is_none_and_a_mark_cannot_be() -> None:
    assert could_be_a_tie("They said: Better: tie.")
    assert could_be_a_tie('{"better": "tie"}')
    assert not could_be_a_tie("It was better to tie the knot.")
    assert "quoted" in str(said("Better: tie", sheet=QUOTED).error)
    assert "quoted" in str(said('{"better": "tie"}', "json", QUOTED).error)
    assert said("Better: d4e5f6", sheet=QUOTED).rating == 2


@pytest.mark.parametrize(
    ("reply", "better"),
    [
        ('{"rationale": "So.", "better": "a1b2c3"}', 1),
        ('Here:\n```json\n{"better": "D4E5F6",}\n```', 2),
        ('{"better": "tie"}', 0),
        ('{"better": "first"}', None),
        ('{"better": null}', None),
        ('{"better": ["a1b2c3"]}', None),
        ('{"verdict": "a1b2c3"}', None),
        ("Better: a1b2c3", None),
    ],
)
def test_a_verdict_as_json(reply: str, better: int | None) -> None:
    assert said(reply, "json").rating == better
    assert said('{"rationale": " So. ", "better": "tie"}', "json").rationale == "So."


def test_the_schema_lets_a_judge_say_what_is_read() -> None:
    made = verdict_schema(SHEET, rationale=True)
    assert list(made["properties"]) == ["rationale", "better"]
    for value, better in zip(made["properties"]["better"]["enum"], (1, 2, 0), strict=True):
        assert said(json.dumps({"rationale": "x", "better": value}), "json").rating == better


def test_letters_are_probabilities() -> None:
    weights = {"A": 0.6, "B": 0.1, "C": 0.1}
    reply = Reply("A - It is right.", logprobs={letter: math.log(p) for letter, p in weights.items()})
    first, second = read_verdict("logprobs", SHEET, reply).values()
    assert (first.score, second.score) == pytest.approx((0.75, 0.125))
    assert (first.rating, second.rating, first.rationale) == (1, 0, "It is right.")
    tied = read_verdict("logprobs", SHEET, Reply("C", logprobs=dict.fromkeys("ABC", math.log(1 / 3))))
    assert [read.rating for read in tied.values()] == [0, 0]
    for wrong in ({"A": 0.0, "B": -1.0}, {}, {"A": math.nan, "B": -1.0, "C": -1.0}, {"A": 3.0, "B": -1.0, "C": -1.0}):
        assert read_verdict("logprobs", SHEET, Reply("A", logprobs=wrong))["a1b2c3"].error
    assert "zero" in str(
        read_verdict("logprobs", SHEET, Reply("", logprobs=dict.fromkeys("ABC", -1e9)))["a1b2c3"].error
    )


WORDS = st.lists(st.sampled_from(["a1b2c3", "d4e5f6", "tie", "Better:", "\n", "{", '"better": "tie"', "}"]) | st.text())


@given(WORDS.map(" ".join), st.sampled_from(["text", "json"]))
@settings(max_examples=60, deadline=None)
def test_any_reply_gives_one_verdict_or_none(reply: str, readout: str) -> None:
    found = read_verdict(readout, SHEET, Reply(reply, "stop"))
    assert list(found) == ["a1b2c3", "d4e5f6"]
    assert all((one.score is None) == (one.error is not None) for one in found.values())
    assert sum(one.score or 0 for one in found.values()) <= 1
