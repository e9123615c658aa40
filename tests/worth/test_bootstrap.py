"""Intervals by simulation: as often wrong as they say, and narrow enough to find what is there."""

from __future__ import annotations

import numpy as np
import pytest

from pairsmith.worth.bootstrap import Effect, Luck, effect, luck_of, needed

ITEMS = 100


def trained(random: np.random.Generator, items: np.ndarray, runs: int, luck: float, gain: float = 0.0) -> np.ndarray:
    """Simulated scores of trainings on one set: prompts differ, each training goes its own way, each answer too."""
    own = random.normal(0, luck, (runs, 1)) + random.normal(0, 0.5, (runs, len(items)))
    return np.asarray(items + gain + own)


def found(random: np.random.Generator, runs: int, luck: float, gain: float = 0.0) -> Effect:
    """The difference of two sets' trainings, with the luck seen over these and two controls."""
    items = random.normal(0, 1, ITEMS)
    arms = [trained(random, items, runs, luck, more) for more in (gain, 0.0, 0.0, 0.0)]
    return effect(arms[0], arms[1], luck_of(arms), seed=int(random.integers(1 << 30)))


@pytest.mark.parametrize(("runs", "luck"), [(1, 0.0), (3, 0.0), (3, 0.1), (5, 0.3)])
def test_arms_of_one_version_differ_in_a_twentieth_of_trials(runs: int, luck: float) -> None:
    random = np.random.default_rng([7, runs, int(luck * 100)])
    assert 0.03 <= np.mean([found(random, runs, luck).is_decided for _ in range(400)]) <= 0.07


def test_without_the_luck_of_trainings_half_of_all_trials_would_see_a_difference_that_is_not_there() -> None:
    random = np.random.default_rng(3)
    items = random.normal(0, 1, ITEMS)
    pairs = [[trained(random, items, 3, 0.3) for _ in range(2)] for _ in range(100)]
    assert np.mean([effect(one, other, None).is_decided for one, other in pairs]) > 0.5


@pytest.mark.parametrize("luck", [0.0, 0.1])
def test_what_is_learnt_is_found(luck: float) -> None:
    random = np.random.default_rng(4)
    assert np.mean([found(random, 3, luck, gain=0.5).low > 0 for _ in range(50)]) > 0.9


def test_what_was_needed_is_enough_and_half_of_it_is_not() -> None:
    """A gain of 0.1 with a spread of 0.7 a prompt: found in 4 of 5 trials with the number named."""
    seen = Effect(0.1, -0.04, 0.24, 50, 1, 0.5, None)
    items = needed(seen, 0.1).items  # type: ignore[union-attr]
    assert items == pytest.approx(392, abs=2)
    random = np.random.default_rng(5)

    def share(many: int) -> float:
        trials = [random.normal(0.1, 0.5**0.5, (1, many)) for _ in range(200)]
        return float(np.mean([effect(one, np.zeros((1, many)), None).is_decided for one in trials]))

    assert share(items) == pytest.approx(0.8, abs=0.08)
    assert share(items // 2) < 0.6


def test_luck_that_hides_a_difference_asks_for_trainings() -> None:
    seen = effect(np.array([[0.5, 0.7], [0.1, 0.2]]), np.array([[0.2, 0.3], [0.3, 0.5]]), Luck(0.04, 2))
    assert seen.luck == pytest.approx(0.04)
    more = needed(seen, 0.1)
    assert more is not None
    assert more.runs > 2
    assert needed(seen, 0.0) is None
    assert needed(seen, 1e-9) is None


def test_the_same_scores_give_the_same_interval_and_the_untrained_model_has_no_luck() -> None:
    random = np.random.default_rng(6)
    one, none = random.normal(1, 1, (2, 30)), np.zeros((1, 30))
    assert effect(one, none, None, 5) == effect(one, none, None, 5)
    both, alone = (effect(one, none, Luck(0.1, 2), 5, other_is_trained=known) for known in (True, False))
    assert (both.luck, alone.luck) == (pytest.approx(0.15), pytest.approx(0.05))
    assert (both.runs, alone.runs) == (1, 2)


def test_one_training_tells_nothing_of_luck() -> None:
    assert luck_of([np.zeros((1, 5)), np.zeros((3, 1))]) is None


def test_scores_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        effect(np.zeros((1, 3)), np.zeros((1, 2)), None)
