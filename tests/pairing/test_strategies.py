from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Pairing, Strategy
from pairsmith.judging.scoring import Scores
from pairsmith.pairing.strategies import STRATEGIES
from pairsmith.storage.schemas import Reason
from tests.pairing.cases import WORDS, ids, pool, reason, selected
from tests.runs import completion


def test_every_strategy_is_implemented() -> None:
    assert set(get_args(Strategy)) == set(STRATEGIES)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("best-vs-worst", ("c1", "c2")), ("best-vs-second", ("c1", "c3"))],
)
def test_by_rank(strategy: Any, expected: tuple[str, str]) -> None:
    assert ids(selected(*pool(3.0, 5.0, 1.0, 4.0), Pairing(strategy=strategy), True)) == [expected]


def test_best_vs_random_draws_among_all_others() -> None:
    rejected = set()
    for seed in range(40):
        ((chosen, other),) = ids(
            selected(*pool(3.0, 5.0, 1.0, 4.0), Pairing(strategy="best-vs-random", seed=seed), True)
        )
        assert chosen == "c1"
        rejected.add(other)
    assert rejected == {"c0", "c2", "c3"}


def test_all_above_margin() -> None:
    settings = Pairing(strategy="all-above-margin", min_margin=2)
    assert set(ids(selected(*pool(1.0, 2.0, 3.0, 5.0), settings, True))) == {
        ("c3", "c0"), ("c3", "c1"), ("c3", "c2"), ("c2", "c0"),
    }  # fmt: skip
    capped = settings.model_copy(update={"max_pairs": 1})
    assert ids(selected(*pool(1.0, 2.0, 3.0, 5.0), capped, True)) == [("c3", "c0")]


def test_evolved_vs_original() -> None:
    made = [
        completion("o", text="amber " * 5),
        completion("e1", evolution=1, parent_id="o", text="birch " * 5),
        completion("e2", evolution=2, parent_id="e1", text="cedar " * 5),
    ]
    table = {"o": Scores(3.0), "e1": Scores(4.0), "e2": Scores(2.0)}
    settings = Pairing(strategy="evolved-vs-original")
    checked = selected(made, table, settings, True)
    assert ids(checked) == [("e1", "o")]
    assert {row["reason"] for row in checked.rejections} == {Reason.MARGIN}
    assert ids(selected(made, {}, settings.model_copy(update={"checked": False}), False)) == [("e2", "o")]


def test_member_order_needs_no_scores() -> None:
    made, _ = pool(None, None, None)
    settings = Pairing(strategy="member-order", member_order=("m2", "m0"))
    assert ids(selected(made, {}, settings, False)) == [("c2", "c0")]
    same = [completion("a", member="m0", text="amber"), completion("b", member="m0", text="birch")]
    assert reason(selected(same, {}, settings, False)) == "no_match"


def test_equal_scores_break_by_the_seed_not_by_the_id() -> None:
    chosen = {ids(selected(*pool(5.0, 5.0, 1.0), Pairing(seed=seed), True))[0][0] for seed in range(20)}
    assert chosen == {"c0", "c1"}


def test_all_permutations_of_one_prompt_agree() -> None:
    made, table = pool(3.0, 5.0, 5.0, 1.0)
    for strategy in STRATEGIES:
        config = Pairing(strategy=strategy, member_order=("m0", "m1", "m2"))
        found = [selected(list(order), table, config, True).pairs for order in itertools.permutations(made)]
        assert all(pairs == found[0] for pairs in found)


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"evolved-vs-original", "member-order", "per-aspect"}))
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 300)), min_size=2, max_size=6),
    st.sampled_from([0.0, 0.7, 5.0]),
    st.sampled_from([0.0, 1.5]),
)
def test_chosen_scores_higher_than_rejected_whatever_the_length_penalty(
    strategy: Any, texts: list[tuple[int, int]], length_penalty: float, min_margin: float
) -> None:
    made = [completion(f"c{n}", text=WORDS[n] * size) for n, (_, size) in enumerate(texts)]
    table = {f"c{n}": Scores(float(score)) for n, (score, _) in enumerate(texts)}
    pairing = Pairing(strategy=strategy, length_penalty=length_penalty, min_margin=min_margin)
    for row in selected(made, table, pairing, True).pairs:
        assert row["chosen_score"] - row["rejected_score"] >= max(min_margin, 1)
