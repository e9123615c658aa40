from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pairsmith.config import Judge, Pairing, Rating, Recipe
from pairsmith.judging.scoring import Scores
from pairsmith.pairing import agreeing
from pairsmith.pairing.agreeing import LEAST_DIFFERENCE
from pairsmith.pairing.candidates import TOTAL, evidence_of
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.stages.plan import plan_fingerprint
from pairsmith.storage.schemas import Reason, frame
from tests.pairing.cases import ids, long_pool, pool, reason, selected

Build = Callable[..., Recipe]
LOGPROBS = {"protocol": "pointwise", "readout": "logprobs", "rationale": False}


def rating(*judges: dict[str, Any], **settings: Any) -> Rating:
    made = tuple(Judge(name=f"j{n}", model=f"echo:{n}", **fields) for n, fields in enumerate(judges))
    return Rating(judges=made, aspects=("helpfulness",), **settings)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (rating({}), 0.0),
        (rating({"orders": 4}, {}), 0.0),
        (rating(LOGPROBS), LEAST_DIFFERENCE),
        (rating({}, LOGPROBS), LEAST_DIFFERENCE),
        (rating({"backend": "reward", "aspects": ("helpfulness",)}), LEAST_DIFFERENCE),
        (rating({}, {}, aggregation="z-scored"), LEAST_DIFFERENCE),
        (None, 0.0),
    ],
)
def test_scores_that_are_continuous_have_a_least_difference(made: Rating | None, expected: float) -> None:
    assert evidence_of(frame("ratings", []), Pairing(), made).min_difference == expected


def test_what_the_recipe_names_counts_before_what_is_usual() -> None:
    made, table = pool(3.0, 3.3)
    for named, expected in ((0.0, 1), (0.3, 1), (0.31, 0), (None, 0)):
        pairing = Pairing(min_difference=named)
        assert len(ids(selected(made, table, pairing, True, min_difference=0.5))) == expected


def test_scores_that_hardly_differ_are_a_tie_whatever_length_control_makes_of_them() -> None:
    made, table = long_pool((3.001, 40), (3.0, 400))
    known = {"slopes": {TOTAL: 0.5}}
    pairing = Pairing(length_control=True)
    assert ids(selected(made, table, pairing, True, **known)) == [("c0", "c1")]  # 1.15 points for its length
    selection = selected(made, table, pairing, True, min_difference=0.01, **known)
    assert not selection.pairs
    assert reason(selection) == Reason.TIE
    assert selection.rejections[0]["detail"] == "as chosen against c1: scores differ by 0.001, less than 0.01"
    farther, table = long_pool((3.01, 40), (3.0, 400))
    assert ids(selected(farther, table, pairing, True, min_difference=0.01, **known)) == [("c0", "c1")]


def test_the_next_pair_that_differs_enough_takes_the_place_of_a_near_tie() -> None:
    made, table = pool(3.0, 3.004, 3.5)
    assert ids(selected(made, table, Pairing(strategy="best-vs-second"), True, min_difference=0.6)) == []
    table["c2"] = Scores(3.008)
    assert ids(selected(made, table, Pairing(strategy="best-vs-second"), True, min_difference=0.006)) == [("c2", "c0")]


def test_without_scores_no_difference_is_asked_for() -> None:
    made, table = pool(3.0, 3.001)
    order = Pairing(strategy="member-order", member_order=("m0", "m1"))
    assert ids(selected(made, table, order, False, min_difference=1.0)) == [("c0", "c1")]


def test_the_least_difference_is_part_of_what_decides_pairs_and_of_no_older_plan(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = echo_recipe(2)
    assert "min_difference" not in plain.model_dump(mode="json")["pairing"]
    continuous = echo_recipe(2, rating={"judges": [{"name": "echo", "model": "echo", **LOGPROBS}]})
    off = continuous.model_copy(update={"pairing": Pairing(min_difference=0.0)})
    recipes = (plain, continuous, off)
    before = [plan_fingerprint(recipe) for recipe in recipes]
    surveyed = [plan_fingerprint(recipe, SURVEY) for recipe in recipes]
    monkeypatch.setattr(agreeing, "LEAST_DIFFERENCE", 0.02)
    same = [plan_fingerprint(recipe) == one for recipe, one in zip(recipes, before, strict=True)]
    assert same == [True, False, True]
    assert [plan_fingerprint(recipe, SURVEY) for recipe in recipes] == surveyed
