"""Several judges, aspects and scales -> one score; checks that are gates; strategies that need more than the total."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Pairing, Rating
from pairsmith.config.judging import Aggregation
from pairsmith.errors import ConfigError
from pairsmith.judging.scoring import AGGREGATIONS, Scores, in_conflict, scores, stopped
from pairsmith.pairing.candidates import evidence_of
from pairsmith.pairing.select import pair
from pairsmith.storage.schemas import frame
from tests.pairing.cases import WORDS, ids, pool, selected
from tests.runs import completion, rating

JUDGE = {"backend": "echo", "model": "echo-1"}


def panel(**fields: Any) -> Rating:
    """Judges a, b and c; b counts twice."""
    judges = [{"name": name, "weight": 2.0 if name == "b" else 1.0, "seed": n, **JUDGE} for n, name in enumerate("abc")]
    return Rating.model_validate({"judges": judges, **fields})


def of(*values: float | None, name: str = "c", **fields: Any) -> list[dict[str, Any]]:
    return [rating(name, value, judge=judge, **fields) for judge, value in zip("abc", values, strict=False)]


@pytest.mark.parametrize(("how", "expected"), [("mean", (1 + 2 * 2 + 5) / 4), ("median", 2.0), ("trimmed", 2.0)])
def test_judges_are_put_together_as_the_recipe_says(how: str, expected: float) -> None:
    found = scores(of(1.0, 2.0, 5.0), Pairing(), panel(aggregation=how))
    assert found["c"].total == pytest.approx(expected)


def test_a_judge_that_gave_no_rating_makes_the_score_null_and_one_for_whom_it_does_not_apply_is_left_out() -> None:
    assert scores(of(1.0, None, 5.0), Pairing(), panel())["c"].total is None
    na = [row | {"error": "not_applicable"} if row["score"] is None else row for row in of(1.0, None, 5.0)]
    assert scores(na, Pairing(), panel())["c"].total == 3.0


def test_z_scores_take_a_judges_level_and_spread_out() -> None:
    lenient = [rating(f"c{n}", value, judge="a") for n, value in enumerate((4.0, 4.5, 5.0))]
    strict = [rating(f"c{n}", value, judge="b") for n, value in enumerate((1.0, 2.0, 3.0))]
    found = scores([*lenient, *strict], Pairing(), panel(aggregation="z-scored"))
    assert [found[f"c{n}"].total for n in range(3)] == pytest.approx([-1.2247, 0.0, 1.2247], abs=1e-4)
    flat = scores([rating(f"c{n}", 3.0, judge="a") for n in range(3)], Pairing(), panel(aggregation="z-scored"))
    assert {one.total for one in flat.values()} == {0.0}


def test_the_orders_of_a_judge_count_as_one_rating() -> None:
    twice = [rating("c", 5.0, judge="a", order=0), rating("c", 3.0, judge="a", order=1), rating("c", 2.0, judge="c")]
    assert scores(twice, Pairing(), panel())["c"].total == 3.0


def test_scales_are_made_one_before_aspects_are_averaged() -> None:
    rubrics = {"clarity": {"criterion": "Is it clear?", "low": 0, "high": 100}}
    config = panel(rubrics=rubrics, aspects=["overall", "clarity"])
    found = scores([rating("c", 3.0), rating("c", 100.0, "clarity")], Pairing(), config)["c"]
    assert found.aspects == {"overall": 3.0, "clarity": 5.0}
    assert found.total == 4.0


@given(st.permutations([*of(1.1, 2.7, 3.3), *of(4.1, 2.2, 1.9, name="d"), *of(2.0, 2.5, 4.9, aspect="honesty")]))
def test_the_order_of_rows_changes_nothing(rows: list[dict[str, Any]]) -> None:
    for how in ("mean", "median", "trimmed", "z-scored"):
        config = panel(aggregation=how, aspects=["overall", "honesty"])
        assert scores(rows, Pairing(), config) == scores(sorted(rows, key=str), Pairing(), config)


def test_overall_and_aspects_in_conflict() -> None:
    better = Scores(4.0, {"overall": 5.0, "helpfulness": 2.0, "honesty": 3.0})
    worse = Scores(3.0, {"overall": 3.0, "helpfulness": 4.0, "honesty": 3.0})
    assert in_conflict(better, worse)
    assert not in_conflict(better, Scores(1.0, {"overall": 3.0, "helpfulness": 1.0, "honesty": 3.0}))
    assert not in_conflict(better, Scores(None, {"overall": 3.0, "helpfulness": None}))
    made, _ = pool(1.0, 1.0)
    table = {"c0": better, "c1": worse}
    assert ids(selected(made, table, Pairing(), True)) == [("c0", "c1")]
    selection = selected(made, table, Pairing(conflicts="drop"), True)
    assert not selection.pairs
    assert selection.rejections[-1]["reason"] == "conflict"


def test_conflicts_can_be_settled() -> None:
    rows = [rating("c", 5.0, "overall"), rating("c", 1.0, "helpfulness")]
    assert scores(rows, Pairing(conflicts="prefer-overall"))["c"].total == 5.0
    assert scores(rows, Pairing(conflicts="prefer-aspects"))["c"].total == 1.0


def test_best_vs_low_rejects_what_is_a_little_below_the_rest() -> None:
    values = (5.0, 4.0, 4.0, 4.0, 3.0, 1.0)
    settings = Pairing(strategy="best-vs-low", low_deviations=0.5)
    assert ids(selected(*pool(*values), settings, True)) == [("c0", "c4")]
    assert ids(selected(*pool(*values), settings.model_copy(update={"low_deviations": 3.0}), True)) == [("c0", "c5")]


def test_a_pair_for_each_aspect() -> None:
    made, _ = pool(1.0, 1.0, 1.0)
    table = {
        "c0": Scores(3.0, {"helpfulness": 5.0, "honesty": 1.0}),
        "c1": Scores(3.0, {"helpfulness": 1.0, "honesty": 5.0}),
        "c2": Scores(3.0, {"helpfulness": 2.0, "honesty": 3.0}),
    }
    selection = selected(made, table, Pairing(strategy="per-aspect"), True)
    assert ids(selection) == [("c0", "c1"), ("c1", "c0")]
    assert [row["strategy"] for row in selection.pairs] == ["per-aspect: helpfulness", "per-aspect: honesty"]
    assert {row["margin"] for row in selection.pairs} == {4.0}


def test_per_aspect_leaves_out_a_text_with_a_null_everywhere_and_one_to_which_an_aspect_does_not_apply_there() -> None:
    made, _ = pool(1.0, 1.0, 1.0, 1.0)
    helpful, honest = (1, 2, 3, 4), (1, 2, 5, 5)
    table = [
        rating(f"c{n}", score, aspect)
        for aspect, found in (("helpfulness", helpful), ("honesty", honest))
        for n, score in enumerate(found)
    ]
    whole, per_aspect = Pairing(), Pairing(strategy="per-aspect")
    table[7] = rating("c3", None, "honesty", error="not_applicable")
    table[6] = rating("c2", None, "honesty")  # failed to be rated
    selection = selected(made, scores(table, whole), per_aspect, True)
    assert ids(selection) == [("c3", "c0"), ("c1", "c0")]
    assert [(row["completion_id"], row["reason"]) for row in selection.rejections] == [("c2", "unrated")]
    weighed = Pairing(strategy="per-aspect", aspect_weights={"honesty": 0})
    assert ids(selected(made, scores(table, weighed), weighed, True)) == [("c3", "c0"), ("c1", "c0")]


def test_length_costs_what_the_recipe_says() -> None:
    made = [completion("long", text=WORDS[0] * 400), completion("short", text=WORDS[1]), completion("bad", text="no")]
    table = {"long": Scores(5.0), "short": Scores(4.0), "bad": Scores(1.0)}
    assert ids(selected(made, table, Pairing(), True)) == [("long", "bad")]
    assert ids(selected(made, table, Pairing(length_penalty=1.0), True)) == [("short", "bad")]


def test_a_gate_bars_a_text_and_counts_for_no_score() -> None:
    gate = {"kind": "regex", "name": "no-lists", "pattern": "^- ", "negate": True, "multiline": True, "gate": True}
    config = panel(checks=[gate])
    rows = [rating("c0", 5.0), rating("c1", 3.0), rating("c2", 1.0)]
    told = [rating(f"c{n}", value, "no-lists", "checks") for n, value in enumerate((0.0, 1.0, 1.0))]
    assert stopped([*rows, *told], config) == {"c0": "no-lists"}
    made, _ = pool(1.0, 1.0, 1.0)
    prompts = frame("prompts", [{"prompt_id": "p", "messages": '[{"role": "user", "content": "?"}]', "source": "s"}])
    evidence = evidence_of(frame("ratings", [*rows, *told]), Pairing(), config)
    pairs, rejections = pair(prompts, frame("completions", made), Pairing(), evidence)
    assert pairs[["chosen_id", "rejected_id"]].to_numpy().tolist() == [["c1", "c2"]]
    assert rejections[["completion_id", "reason", "detail"]].to_numpy().tolist() == [["c0", "check_failed", "no-lists"]]


@pytest.mark.parametrize("strategy", ["best-vs-worst", "best-vs-low", "per-aspect", "all-above-margin"])
def test_all_permutations_of_one_prompt_agree(strategy: Any) -> None:
    made, _ = pool(1.0, 1.0, 1.0, 1.0)
    table = {f"c{n}": Scores(float(n % 3), {"overall": float(n % 3), "honesty": float(n)}) for n in range(4)}
    found = [
        selected(list(order), table, Pairing(strategy=strategy), True).pairs for order in itertools.permutations(made)
    ]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("max(scores)", 5.0),
        ("sum(weights)", 4.0),
        ("True", 1.0),
        ("None", None),
        ("float('nan')", "which is neither a finite number nor None"),
        ("10**400", "failed: OverflowError"),
        ("'5'", "returned '5'"),
        ("1 / 0", "failed: ZeroDivisionError"),
        ("scores.clear()", "failed: AttributeError"),
    ],
)
def test_an_aggregation_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, expected: float | str | None
) -> None:
    (tmp_path / "own_aggregation.py").write_text(f"def f(scores, weights): return {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_aggregation", raising=False)
    settings = panel(aggregation="own_aggregation:f")
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            scores(of(5.0, 2.0, 1.0), Pairing(), settings)
    else:
        assert scores(of(5.0, 2.0, 1.0), Pairing(), settings)["c"].total == expected


def test_every_aggregation_is_implemented() -> None:
    assert set(get_args(Aggregation)) == set(AGGREGATIONS)
