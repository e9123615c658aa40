"""Bradley-Terry strengths against a slow reference, threes that go in a circle, and the draw of rounds."""

from __future__ import annotations

import math
import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.judging.tournament import PRIOR, Won, on_scale, paired_off, strengths, triples

TEXTS = 6
NAMES = "abcdef"


def drawn(seed: int) -> Won:
    """A tournament of up to six texts in which some comparisons are lacking, sure or tied."""
    rng = random.Random(seed)
    twos = [two for two in combinations(NAMES[: rng.randint(2, TEXTS)], 2) if rng.random() < 0.8]
    return {two: rng.choice([0.0, 0.5, 1.0, rng.random(), rng.random()]) for two in twos or [("a", "b")]}


def by_minorisation(tournaments: list[Won]) -> np.ndarray:
    """Hunter's MM algorithm for the same penalised likelihood, where the prior is an opponent of strength 0."""
    wins = np.zeros((len(tournaments), TEXTS, TEXTS))
    for number, won in enumerate(tournaments):
        for (one, other), p in won.items():
            i, j = NAMES.index(one), NAMES.index(other)
            wins[number, i, j], wins[number, j, i] = p, 1 - p
    games, worth = wins + wins.transpose(0, 2, 1), np.ones((len(tournaments), TEXTS))
    for _ in range(5000):
        against = (games / (worth[:, :, None] + worth[:, None, :])).sum(axis=2) + 2 * PRIOR / (worth + 1)
        worth = (wins.sum(axis=2) + PRIOR) / against
    return np.log(worth)


def test_strengths_are_those_of_a_reference_in_a_hundred_random_tournaments() -> None:
    tournaments = [drawn(seed) for seed in range(100)]
    for won, expected in zip(tournaments, by_minorisation(tournaments), strict=True):
        for name, found in strengths(won).items():
            assert found == pytest.approx(expected[NAMES.index(name)], abs=1e-6)


@given(st.permutations("abcde"), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_names_and_their_order_change_nothing(names: list[str], seed: int) -> None:
    won = drawn(seed)
    renamed = dict(zip(NAMES, [*names, "z"], strict=True))
    turned = {}
    for (one, other), p in reversed(list(won.items())):
        two = renamed[one], renamed[other]
        turned[min(two), max(two)] = p if two[0] < two[1] else 1 - p
    found, again = strengths(won), strengths(turned)
    for name, value in found.items():
        assert again[renamed[name]] == pytest.approx(value, abs=1e-8)
    assert strengths(dict(reversed(list(won.items())))) == found


def test_equal_records_give_equal_strengths_and_a_win_of_all_is_finite() -> None:
    everything = strengths(dict.fromkeys(combinations("abcde", 2), 1.0))
    assert all(math.isfinite(value) for value in everything.values())
    assert list(everything.values()) == sorted(everything.values(), reverse=True)
    for seed in range(5):  # the first and the last do alike against all others
        rng, alike = random.Random(seed), dict[tuple[str, str], float]()
        for name in "bcd":
            alike["a", name] = rng.random()
            alike[name, "e"] = 1 - alike["a", name]
        found = strengths(alike | {two: rng.random() for two in combinations("bcd", 2)})
        assert found["a"] == found["e"]
    assert set(strengths(dict.fromkeys(combinations("abcde", 2), 0.5)).values()) == {0.0}
    assert strengths({}) == {}


def test_a_score_stays_on_the_scale_and_an_average_text_stands_in_its_middle() -> None:
    assert on_scale(0, (0, 9)) == 4.5
    assert on_scale(-700, (1, 5)) == 1
    assert on_scale(700, (1, 5)) == 5


def test_threes_in_a_circle_are_counted_among_those_compared_in_full() -> None:
    circle = {("a", "b"): 1.0, ("b", "c"): 0.6, ("a", "c"): 0.4}
    assert triples(circle) == (1, 1)
    assert triples(circle | {("a", "c"): 0.5}) == (1, 0)  # a tie breaks it
    assert triples(dict.fromkeys(combinations("abcd", 2), 1.0)) == (4, 0)
    assert triples(circle | {("a", "d"): 1.0, ("c", "d"): 1.0}) == (2, 1)


@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_no_two_meet_twice_and_no_one_plays_twice_in_a_round(size: int, rounds: int, seed: int) -> None:
    rng, names = random.Random(seed), [f"t{n}" for n in range(size)]
    met: list[tuple[str, str]] = []
    points: dict[str, float] = {}
    for number in range(rounds):
        drawn = paired_off(names, points, met)
        playing = [name for two in drawn for name in two]
        assert len(playing) == len(set(playing))
        assert number or len(drawn) == size // 2
        assert not {frozenset(two) for two in drawn} & {frozenset(two) for two in met}
        met += drawn
        for one, other in drawn:
            points[one] = points.get(one, 0) + (won := rng.random())
            points[other] = points.get(other, 0) + 1 - won


def test_who_has_won_as_much_meets_next_and_who_has_played_most_sits_out() -> None:
    points = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}
    assert paired_off("abcd", points, [("a", "b"), ("c", "d")]) == [("a", "c"), ("b", "d")]
    assert paired_off("abc", {"a": 0.0, "b": 1.0}, [("a", "b")]) == [("b", "c")]
