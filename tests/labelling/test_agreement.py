"""Agreement: against other implementations, by hand, and intervals that hold what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.labelling.agreement import VERDICTS, alpha, judge_table, kappa, people_table, with_interval
from pairsmith.labelling.journal import Label
from pairsmith.labelling.pairs import LabelPair
from pairsmith.labelling.votes import voted
from tests.labelling.made import label, pairs

VERDICT = st.sampled_from(VERDICTS)


def spread(votes: list[str]) -> list[float]:
    counts = [votes.count(one) for one in VERDICTS]
    return [sum(n * (len(votes) - n) for n in counts) / (len(votes) - 1), *counts]


@given(st.lists(st.lists(VERDICT | st.none(), min_size=4, max_size=4), min_size=2, max_size=20))
def test_alpha_is_krippendorffs(votes: list[list[str | None]]) -> None:
    given_ = [[one for one in row if one] for row in votes]
    known = [row for row in given_ if len(row) > 1]
    if len({one for row in known for one in row}) < 2:
        return
    codes = [[np.nan if one is None else VERDICTS.index(one) for one in row] for row in votes]
    expected = krippendorff.alpha(np.array(codes, dtype=float).T, level_of_measurement="nominal")
    assert float(alpha(np.array([spread(row) for row in known], dtype=float).sum(axis=0))) == pytest.approx(expected)


def test_kappa_is_cohens() -> None:
    # 20 of 25 and 10 of 25: https://en.wikipedia.org/wiki/Cohen's_kappa#Simple_example
    cells = np.array([20, 5, 0, 10, 15, 0, 0, 0, 0], dtype=float)
    assert float(kappa(cells)) == pytest.approx(0.4)
    assert with_interval(np.tile([1.0] + [0.0] * 8, (5, 1)), kappa) is None  # chance alone agrees fully


def test_a_bootstrap_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(1), 0
    for _ in range(40):  # two people who agree in 0.7, else anything: kappa is 0.7 for even verdicts
        one = random.integers(0, 3, 150)
        other = np.where(random.random(150) < 0.7, one, random.integers(0, 3, 150))
        found = with_interval(np.eye(9)[3 * one + other], kappa)
        assert found
        held += found[1][0] <= 0.7 <= found[1][1]
    assert 34 <= held <= 40


def two_people(verdicts: list[tuple[Any, Any]], mark: str = "random") -> list[LabelPair]:
    found = list(pairs(len(verdicts)).values())
    people: dict[str, dict[str, Label]] = {"ann": {}, "bob": {}}
    for pair, two in zip(found, verdicts, strict=True):
        for (who, labels), verdict in zip(people.items(), two, strict=True):
            labels.update({pair.key: label(pair.key, verdict, who)} if verdict else {})
    return [replace(one, gold=replace(one.gold, drawn=mark)) for one in voted(found, people)]


def test_people_are_compared_where_both_decided_and_by_why_pairs_were_drawn() -> None:
    chance = two_people([("a", "a"), ("b", "a"), ("tie", "tie"), ("a", "skip"), ("b", None)])
    rows = people_table([*chance, *two_people([("a", "a")], "near_tie"), *two_people([("a", "b")], "disagreement")])
    assert [(row["drawn"], row["who"], row["pairs"], row["same"]) for row in rows] == [
        ("random", "ann, bob", 3, 0.67),
        ("telling", "ann, bob", 2, 0.5),
    ]
    assert rows[0]["95% interval"] == "0.21 to 0.94"
    assert rows[0]["chance-corrected"] == 0.5


def test_judges_are_compared_with_what_most_people_say() -> None:
    found = list(pairs(5).values())
    other = {"a": "b", "b": "a"}
    said = [found[0].chosen, other[found[1].chosen], "tie", "skip", found[4].chosen]
    people = {"ann": {pair.key: label(pair.key, one) for pair, one in zip(found, said, strict=True)}}  # type: ignore[arg-type]
    given_ = voted(found, people)
    given_[4] = replace(given_[4], judges={"judge": "tie"})
    rows = judge_table(given_)
    assert [(row["who"], row["pairs"], row["same"], row["ties of people"], row["ties of judge"]) for row in rows] == [
        ("data set", 3, 0.67, 1, 0),
        ("judge", 3, 0.5, 1, 1),  # its tie is half right
    ]


def test_where_nobody_labelled_there_is_no_table() -> None:
    assert people_table(pairs(3).values()) == judge_table(pairs(3).values()) == []
