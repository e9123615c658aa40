"""What a proof says in words: no more than its intervals do."""

from __future__ import annotations

from dataclasses import replace

from pairsmith.worth.bootstrap import Effect
from pairsmith.worth.conclusions import CHECKS, MARGIN, UNTRAINED, Comparison, conclusions

HIGHER = Effect(0.2, 0.1, 0.3, 100, 1, 0.25, None)
LOWER = replace(HIGHER, mean=-0.2, low=-0.3, high=-0.1)
OPEN = replace(HIGHER, mean=0.05, low=-0.05, high=0.15)


def words(*compared: Comparison, seeds: int = 1) -> str:
    return " | ".join(conclusions(compared, 200, seeds))


def test_two_sets_are_ranked_by_checks_alone_and_by_several_trainings_alone() -> None:
    lower = Comparison(CHECKS, "", "a", "b", LOWER)
    assert words(lower, seeds=3).startswith(
        "b is worth more than a to this model by these checks: the model trained on b meets more checks than that on "
        "a: 0.2 (95% interval 0.1 to 0.3)."
    )
    once = words(lower)
    assert "is worth more" not in once
    assert "not yet for the sets" in once
    assert "is worth more" not in words(Comparison(MARGIN, "a", "a", "b", LOWER), seeds=3)


def test_what_is_undecided_says_how_many_prompts_and_trainings_would_decide() -> None:
    told = words(Comparison(CHECKS, "", "a", "b", OPEN))
    assert "a or b: undecided by checks, 0.05 (95% interval -0.05 to 0.15)" in told
    assert "find a true difference of 0.14 in 4 of 5 trials; if it is as large as the one seen, about 785" in told
    lucky = Comparison(CHECKS, "", "a", "b", replace(OPEN, luck=0.01, runs=3))
    assert "and 189 trainings an arm would" in words(lucky, seeds=3)
    assert "too small for any number" in words(Comparison(CHECKS, "", "a", "b", replace(OPEN, mean=1e-9)))


def test_without_checks_no_set_is_called_better() -> None:
    told = words(Comparison(MARGIN, "a", "a", "a, sides shuffled", HIGHER), seeds=3)
    assert told.startswith("a: what it prefers can be learnt.")
    assert "takes --eval" in told
    assert "One training" not in told


def test_a_control_that_is_not_beaten_is_told() -> None:
    assert "not shown that 200 pairs teach" in words(Comparison(MARGIN, "a", "a", "a, sides shuffled", OPEN))
    assert "the opposite" in words(Comparison(MARGIN, "a", "a", "a, sides shuffled", LOWER))
    assert "meets fewer checks than the untrained model" in words(Comparison(CHECKS, "", "a", UNTRAINED, LOWER))
    assert "no gain or loss in checks shown against the same pairs" in words(
        Comparison(CHECKS, "", "a", "a, sides shuffled", OPEN)
    )
