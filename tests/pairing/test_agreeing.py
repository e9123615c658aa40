from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pairsmith.config import Judge, Pairing, Rating, Recipe
from pairsmith.config.check_kinds import Regex
from pairsmith.errors import ConfigError
from pairsmith.pairing.candidates import Evidence, evidence_of
from pairsmith.pairing.select import select
from pairsmith.storage.schemas import Reason, frame
from tests.pairing.cases import ids, pool, reason
from tests.runs import rating, run

Build = Callable[..., Recipe]
REWARD = {"backend": "reward", "aspects": ("overall",), "scale": (-2.0, 2.0)}
HOW = Rating(
    aspects=("helpfulness", "overall"),
    judges=(Judge(name="judge", model="echo:j", aspects=("helpfulness",)), Judge(name="reward", model="r", **REWARD)),
    checks=(Regex(name="polite", kind="regex", pattern="x"),),
)
MEMBERS = {"strategy": "member-order", "member_order": ("m0", "m1")}


def evidence(judge: Any, reward: Any, polite: Any, pairing: Pairing) -> Evidence:
    """The ratings that c0 and c1 got from each rater."""
    rows = [
        rating(f"c{n}", value, aspect, judge=name, protocol=protocol)
        for name, aspect, protocol, values in (
            ("judge", "helpfulness", "pointwise", judge),
            ("reward", "overall", "reward", reward),
            ("checks", "polite", "check", polite),
        )
        for n, value in enumerate(values)
    ]
    return evidence_of(frame("ratings", rows), pairing, HOW)


@pytest.mark.parametrize(
    ("agree", "values", "words"),
    [
        ((), ((1, 5), (-1, 1), (0, 1)), None),
        (("judge",), ((4, 3), (-1, 1), (0, 1)), None),
        (("judge",), ((3, 4), (1, -1), (1, 0)), "judge gave 3 and 4"),
        (("judge", "reward"), ((4, 3), (1, -1), (0, 1)), None),
        (("judge", "reward"), ((4, 3), (-1, 1), (0, 1)), "reward gave 2 and 4"),
        (("judge",), ((3, 3), (1, -1), (1, 0)), "judge gave 3 and 3"),
        (("reward",), ((4, 3), (0.009, 0.0), (1, 0)), "reward gave 3.009 and 3"),
        (("reward",), ((4, 3), (0.02, 0.0), (1, 0)), None),
        (("judge",), ((4, None), (1, -1), (1, 0)), "judge gave no score"),
        (("checks",), ((3, 4), (-1, 1), (1, 0)), None),
        (("checks",), ((4, 3), (1, -1), (1, 1)), "checks gave 5 and 5"),
    ],
)
def test_a_pair_stays_where_each_named_rater_by_itself_puts_it_in_its_order(
    agree: tuple[str, ...], values: Any, words: str | None
) -> None:
    made, _ = pool(1.0, 1.0)
    pairing = Pairing(**MEMBERS, agree=agree)
    selection = select("p", made, pairing, replace(evidence(*values, pairing), needs_scores=False))
    assert ids(selection) == ([] if words else [("c0", "c1")])
    if words:
        assert reason(selection) == Reason.DISAGREE
        assert selection.rejections[0]["detail"] == f"as chosen against c1: {words}"


def test_a_rater_without_weight_may_still_have_to_agree() -> None:
    made, _ = pool(1.0, 1.0)
    pairing = Pairing(aspect_weights={"overall": 0.0, "polite": 0.0}, agree=("reward",))
    for rewards, expected in (((1, -1), [("c0", "c1")]), ((-1, 1), [])):
        assert ids(select("p", made, pairing, evidence((4, 3), rewards, (0, 0), pairing))) == expected


@pytest.mark.parametrize("conflicts", ["ignore", "drop", "prefer-aspects", "prefer-overall"])
def test_a_rater_counts_by_what_it_rates_whatever_is_preferred_among_all(conflicts: Any) -> None:
    made, _ = pool(1.0, 1.0)
    pairing = Pairing(**MEMBERS, agree=("judge", "reward", "checks"), conflicts=conflicts)
    found = replace(evidence((4, 3), (1, -1), (1, 0), pairing), needs_scores=False)
    assert ids(select("p", made, pairing, found)) == [("c0", "c1")]


def test_who_must_agree_rates(echo_recipe: Build) -> None:
    with pytest.raises(ConfigError, match="pairing.agree: there is no nobody; there is judge"):
        echo_recipe(2, pairing={"agree": ["nobody"]})
    gates = {"checks": [{"name": "gate", "kind": "regex", "pattern": "x", "gate": True}]}
    with pytest.raises(ConfigError, match="pairing.agree: there is no checks"):
        echo_recipe(2, rating=gates, pairing={"agree": ["checks"]})


def test_a_run_keeps_the_pairs_on_which_its_judges_agree(echo_recipe: Build) -> None:
    rating = {"judges": [{"name": name, "backend": "echo", "model": name} for name in ("one", "two")]}
    _, both, _ = run(echo_recipe(20, rating=rating))
    _, agreed, _ = run(echo_recipe(20, name="agreed", rating=rating, pairing={"agree": ["one", "two"]}))
    assert 0 < agreed.pairs < both.pairs
    assert agreed.completion_reasons[Reason.DISAGREE] > 0
