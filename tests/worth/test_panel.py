"""A panel's weights are fitted to gold, and judged on gold that they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from pairsmith.worth.panel import best_forms, fit, halves, held_out, shares_right


def judged(
    rng: np.random.Generator, pairs: int, *rights: float
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Margins of 1 or -1 of judges that are right in these shares, independent of each other; and who is better."""
    a_is_better = rng.random(pairs) < 0.5
    right = rng.random((pairs, len(rights))) < np.array(rights)
    return np.where(right == a_is_better[:, None], 1.0, -1.0), a_is_better


def right_in(margins: np.ndarray, a_is_better: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(shares_right(margins[:, None], a_is_better)[0])


def test_three_judges_with_independent_errors_are_more_than_one() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(20):
        margins, a_is_better = judged(rng, 600, 0.7, 0.7, 0.7)
        half = halves([f"prompt {n}" for n in range(600)])
        found = held_out(margins, a_is_better, ["x", "y", "z"], margins.mean(axis=1), half)
        shares.append([right_in(one, a_is_better) for one in (found.panel, found.single, found.mean)])
    panel, single, mean = np.mean(shares, axis=0)
    assert panel >= 0.75
    assert single == pytest.approx(0.7, abs=0.02)
    assert mean == pytest.approx(0.784, abs=0.02)


def test_a_good_judge_is_not_drowned_by_coins_as_in_a_mean() -> None:
    rng = np.random.default_rng(4)
    margins, a_is_better = judged(rng, 600, 0.85, 0.5, 0.5, 0.5)
    half = halves([f"prompt {n}" for n in range(600)])
    found = held_out(margins, a_is_better, list("wxyz"), margins.mean(axis=1), half)
    assert right_in(found.panel, a_is_better) > 0.8 > right_in(found.mean, a_is_better)


def test_weights_are_log_odds_in_each_judges_units() -> None:
    rng = np.random.default_rng(5)
    margins, a_is_better = judged(rng, 4000, 0.7, 0.9)
    weights = fit(margins * [1, 10], a_is_better)
    assert weights == pytest.approx([np.log(0.7 / 0.3), np.log(0.9 / 0.1) / 10], rel=0.1)


def test_no_judge_is_turned_round() -> None:
    rng = np.random.default_rng(6)
    margins, a_is_better = judged(rng, 400, 0.2, 0.8)
    wrong, right = fit(margins, a_is_better)
    assert wrong == 0 < right
    assert fit(-margins[:, 1:], a_is_better).tolist() == [0]


def test_nulls_and_constants_are_no_trouble() -> None:
    margins = np.array([[1.0, 0.0], [np.nan, 0.0], [-1.0, 0.0]] * 10)
    assert fit(margins, np.array([True, True, False] * 10))[1] == 0
    assert fit(np.full((4, 1), np.nan), np.array([True] * 4)).tolist() == [0]
    held = held_out(margins, np.array([True, True, False] * 10), ["x", "y"], margins[:, 0], np.arange(30) < 15)
    assert np.isnan(held.panel).sum() == 10


def test_pairs_of_one_prompt_are_in_one_half_whatever_their_order() -> None:
    names = [f"prompt {n % 30}" for n in range(90)]
    half = halves(names)
    assert len({(name, bool(one)) for name, one in zip(names, half, strict=True)}) == 30
    assert half.sum() == 45
    assert dict(zip(names[::-1], halves(names[::-1]), strict=True)) == dict(zip(names, half, strict=True))


def test_each_judge_is_in_its_best_form() -> None:
    margins = np.array([[1.0, -1.0, 0.0, 1.0]] * 4)
    assert best_forms(margins, np.array([True] * 4), ["x", "x", "y", "y"]) == [0, 3]
