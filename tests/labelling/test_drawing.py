"""Which pairs are drawn, why, in which order, and on which side each answer stands."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pairsmith.labelling.drawing import Candidate, drawn, in_order_for, left_for

MARGINS = st.none() | st.floats(-4, 4)
CANDIDATES = st.lists(st.tuples(MARGINS, st.sampled_from([0.0, 0.25, 0.5])), max_size=40).map(
    lambda found: [Candidate(row, f"key {row}", *one) for row, one in enumerate(found)]
)


@given(CANDIDATES, st.integers(1, 60), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_draw_depends_on_the_seed_and_not_on_the_order_of_pairs(
    candidates: list[Candidate], count: int, seed: int, shuffler: random.Random
) -> None:
    found = drawn(candidates, count, seed)
    assert len(found) == min(count, len(candidates))
    shuffled = candidates[:]
    shuffler.shuffle(shuffled)
    assert drawn(shuffled, count, seed) == found


@given(CANDIDATES, st.integers(1, 30), st.integers(0, 10))
def test_more_pairs_hold_all_of_fewer(candidates: list[Candidate], count: int, more: int) -> None:
    few, many = drawn(candidates, count, 0), drawn(candidates, count + more, 0)
    assert few.keys() <= many.keys()


def test_the_random_half_is_a_sample_of_all_pairs_near_ties_included() -> None:
    candidates = [Candidate(row, f"key {row}", margin=0.0 if row < 50 else 2.0) for row in range(100)]
    near = [sum(row < 50 for row, why in drawn(candidates, 40, seed).items() if why == "random") for seed in range(60)]
    assert 9 < sum(near) / len(near) < 11  # of 20


def test_the_other_half_is_near_ties_and_what_judges_disagree_about() -> None:
    candidates = [Candidate(row, f"key {row}", margin=row / 10, dissent=0.4 * (row >= 90)) for row in range(100)]
    found = drawn(candidates, 20, 0)
    assert Counter(found.values()) == {"random": 10, "near_tie": 5, "disagreement": 5}
    by_chance = {row for row, why in found.items() if why == "random"}
    nearest = set([row for row in range(90) if row not in by_chance][:5])
    assert {row for row, why in found.items() if why == "near_tie"} == nearest
    assert all(row >= 90 for row, why in found.items() if why == "disagreement")


def test_without_scores_all_are_random() -> None:
    assert set(drawn([Candidate(row, str(row)) for row in range(9)], 6, 0).values()) == {"random"}


def test_order_and_sides_are_each_persons_own_and_even() -> None:
    keys = [f"key {number}" for number in range(400)]
    assert sorted(in_order_for("ann", 0, keys)) == sorted(keys)
    assert in_order_for("ann", 0, keys) == in_order_for("ann", 0, reversed(keys)) != in_order_for("bob", 0, keys)
    sides = {who: [left_for(who, 0, key) for key in keys] for who in ("ann", "bob")}
    for found in sides.values():
        assert 160 < found.count("a") < 240
    assert 160 < sum(one == other for one, other in zip(*sides.values(), strict=True)) < 240
