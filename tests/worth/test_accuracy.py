"""Made-up judges of known accuracy are found within their interval; what a coin is, is called one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pairsmith.reporting.ratios import wilson
from pairsmith.worth.accuracy import Accuracy, Outcome, difference, measured

TRIALS, PAIRS = 200, 60


def outcomes(rng: np.random.Generator, kind: str, right: float) -> list[Outcome]:
    """What a made-up judge says of pairs. In 40% of them the better answer is the shorter.

    A judge biased to length prefers the longer answer in 80% of pairs, one biased to place the first in 80%; whatever
    else it says is right in the share `right`.
    """
    a_is_better, shorter, first = rng.random(PAIRS) < 0.5, rng.random(PAIRS) < 0.4, rng.random(PAIRS) < 0.5
    picks_better = rng.random(PAIRS) < right
    biased = rng.random(PAIRS) < 0.8
    if kind == "length":
        picks_better = np.where(biased, ~shorter, picks_better)
    if kind == "place":
        picks_better = np.where(biased, first == a_is_better, picks_better)
    picks_a = picks_better == a_is_better
    return [
        Outcome(bool(a), 1.0 if mine else -1.0, -5 if short == a else 5, first_won=bool(mine == one))
        for a, mine, short, one in zip(a_is_better, picks_a, shorter, first, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "right", "accuracy"),
    [
        ("fair", 0.5, 0.5),
        ("fair", 0.7, 0.7),
        ("fair", 0.9, 0.9),
        ("length", 0.7, 0.8 * 0.6 + 0.2 * 0.7),
        ("place", 0.7, 0.8 * 0.5 + 0.2 * 0.7),
    ],
)
def test_the_interval_holds_what_is_true(kind: str, right: float, accuracy: float) -> None:
    rng = np.random.default_rng(7)
    found = [measured(outcomes(rng, kind, right)) for _ in range(TRIALS)]
    held = [low <= accuracy <= high for low, high in (one.right.interval for one in found)]
    assert sum(held) >= 0.91 * TRIALS
    firsts = np.mean([one.first.value for one in found])
    shorter = np.mean([one.when_shorter.value for one in found])
    assert firsts == pytest.approx(0.9 if kind == "place" else 0.5, abs=0.02)
    if kind == "length":
        assert shorter == pytest.approx(0.2 * 0.7, abs=0.02)
    if right == 0.9:
        assert sum(one.is_coin for one in found) < 0.05 * TRIALS
    if right == 0.5:
        assert sum(one.is_coin for one in found) >= 0.91 * TRIALS


def test_a_tie_is_half_and_a_null_is_left_out() -> None:
    found = measured([Outcome(True, 1.0), Outcome(True, 0.0), Outcome(False, None), Outcome(False, 2.0)])
    assert (found.right.count, found.right.n) == (1.5, 3)
    assert (found.ties.count, found.ties.n, found.nulls.count, found.nulls.n) == (1, 3, 1, 4)


def test_flips_and_shorter_answers() -> None:
    found = measured([Outcome(True, 1.0, -3, flipped=True), Outcome(True, 1.0, 3, flipped=False), Outcome(False, 1.0)])
    assert (found.flips.count, found.flips.n) == (1, 2)
    assert (found.when_shorter.count, found.when_shorter.n) == (1, 1)


def of(count: float, n: int) -> Accuracy:
    rest = int(n - count)
    return measured([Outcome(True, 1.0)] * int(count) + [Outcome(True, -1.0)] * rest)


@pytest.mark.parametrize(
    ("count", "n", "words"),
    [(61, 200, "worse than a coin"), (25, 40, "a coin"), (26, 32, "better than a coin"), (0, 0, "gave no rating")],
)
def test_chance_is_called_chance(count: int, n: int, words: str) -> None:
    assert of(count, n).words == words


def test_wilson_matches_what_others_give() -> None:
    """Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, without continuity."""
    for count, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(count, n) == pytest.approx((low, high), abs=5e-5)


@given(some.integers(0, 60), some.integers(1, 60))
def test_an_interval_holds_its_share_and_stays_within_bounds(count: int, n: int) -> None:
    count = min(count, n)
    low, high = wilson(count, n)
    assert 0 <= low <= count / n + 1e-12
    assert count / n - 1e-12 <= high <= 1


def test_the_difference_of_two_judges_is_of_the_same_pairs() -> None:
    better = [Outcome(True, 1.0)] * 90 + [Outcome(True, -1.0)] * 10
    worse = [Outcome(True, 1.0)] * 60 + [Outcome(True, -1.0)] * 39 + [Outcome(True, None)]
    found = difference(better, worse)
    assert found is not None
    mean, low, high = found
    assert mean == pytest.approx(30 / 99)
    assert 0 < low < mean < high
    assert difference(better[:1], worse[:1]) is None
