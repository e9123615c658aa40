"""What a judge's ratings of gold say: margins, flips when the sides are swapped, a leaning to what is shown first."""

from __future__ import annotations

from typing import Any

import pytest

from pairsmith.config import Judge, Pairing, Rating
from pairsmith.worth.accuracy import Outcome
from pairsmith.worth.gold import GoldPair, Vote, gold_pair
from pairsmith.worth.rated_gold import answer_ids, outcomes_of, tables_of
from tests.runs import rating

PAIR = gold_pair([{"role": "user", "content": "Why?"}], "first answer", "other", [Vote("a")], reference="so")
A, B = answer_ids(PAIR)
ALONE = Rating(judges=(Judge(name="j", backend="echo", model="m"),))


def seen(order: int, first: str, score: float, other: float, aspect: str = "overall") -> list[dict[str, Any]]:
    """Rows of one sheet on which `first` stood before the other text."""
    second = B if first == A else A
    shown = {"order": order, "prompt_id": PAIR.pair_id, "aspect": aspect, "protocol": "listwise"}
    return [rating(first, score, position=0, **shown), rating(second, other, position=1, **shown)]


def outcome(*rows: dict[str, Any], pair: GoldPair = PAIR) -> Outcome:
    _, (found,) = outcomes_of(rows, [pair], Pairing(), ALONE)  # type: ignore[arg-type]
    return found


def test_one_way_round() -> None:
    found = outcome(*seen(0, B, 2, 4))
    assert (found.margin, found.flipped, found.first_won) == (2, None, 0)
    assert found.more_characters == len(PAIR.a) - len(PAIR.b)
    assert outcome(*seen(0, B, 3, 3)).first_won is None


@pytest.mark.parametrize(
    ("rows", "flipped", "first_won", "margin"),
    [
        ([*seen(0, A, 5, 1), *seen(1, B, 5, 2)], True, 1, 0.5),
        ([*seen(0, A, 5, 1), *seen(1, B, 2, 5)], False, 0.5, 3.5),
        ([*seen(0, A, 5, 1), *seen(1, A, 5, 2)], None, 1, 3.5),  # the same way round twice
        ([*seen(0, A, 3, 3), *seen(1, B, 2, 5)], False, 0, 1.5),  # a tie is no flip
    ],
)
def test_both_ways_round(rows: list[dict[str, Any]], flipped: bool | None, first_won: float, margin: float) -> None:
    found = outcome(*rows)
    assert (found.flipped, found.first_won, found.margin) == (flipped, first_won, margin)


def test_texts_rated_alone_have_no_place() -> None:
    rows = [rating(name, score, position=0, order=0, prompt_id=PAIR.pair_id) for name, score in ((A, 4), (B, 1))]
    found = outcome(*rows)
    assert (found.margin, found.flipped, found.first_won) == (3, None, None)


def test_a_null_gives_no_preference() -> None:
    found = outcome(*seen(0, A, 5, 1)[:1], rating(B, None, prompt_id=PAIR.pair_id, position=1, error="unreadable"))
    assert found.credit is None


def test_each_pair_is_a_prompt_of_its_own() -> None:
    other = gold_pair(PAIR.messages, "first answer", "third", [Vote("b")])
    prompts, completions = tables_of([PAIR, other])
    assert list(prompts["prompt_id"]) == [PAIR.pair_id, other.pair_id]
    assert list(prompts["reference"].fillna("")) == ["so", ""]
    assert completions["completion_id"].is_unique
    assert len(completions) == 4
