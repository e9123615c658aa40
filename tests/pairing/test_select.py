from __future__ import annotations

import itertools
import random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Pairing, Rating, Strategy
from pairsmith.judging.scoring import Scores, log_length, scores
from pairsmith.pairing.select import STRATEGIES, TOTAL, select
from pairsmith.storage.schemas import Reason
from tests.runs import completion, rating

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven"]


def pool(*values: float | None, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Completions c0, c1, ... of quite different texts, with these scores."""
    made = [completion(f"c{n}", member=f"m{n}", text=WORDS[n] * 9, **fields) for n in range(len(values))]
    return made, {f"c{n}": Scores(value) for n, value in enumerate(values)}


def totals(ratings: list[dict[str, Any]], pairing: Pairing, how: Rating | None = None) -> dict[str, float | None]:
    return {name: found.total for name, found in scores(ratings, pairing, how).items()}


def ids(selection: Any) -> list[tuple[str, str]]:
    return [(pair["chosen_id"], pair["rejected_id"]) for pair in selection.pairs]


def reason(selection: Any) -> str:
    (row,) = [row for row in selection.rejections if row["completion_id"] is None]
    return str(row["reason"])


def test_every_strategy_is_implemented() -> None:
    assert set(get_args(Strategy)) == set(STRATEGIES)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("best-vs-worst", ("c1", "c2")), ("best-vs-second", ("c1", "c3"))],
)
def test_by_rank(strategy: Any, expected: tuple[str, str]) -> None:
    assert ids(select("p", *pool(3.0, 5.0, 1.0, 4.0), Pairing(strategy=strategy), True)) == [expected]


def test_best_vs_random_draws_among_all_others() -> None:
    rejected = set()
    for seed in range(40):
        ((chosen, other),) = ids(
            select("p", *pool(3.0, 5.0, 1.0, 4.0), Pairing(strategy="best-vs-random", seed=seed), True)
        )
        assert chosen == "c1"
        rejected.add(other)
    assert rejected == {"c0", "c2", "c3"}


def test_all_above_margin() -> None:
    settings = Pairing(strategy="all-above-margin", min_margin=2)
    assert set(ids(select("p", *pool(1.0, 2.0, 3.0, 5.0), settings, True))) == {
        ("c3", "c0"), ("c3", "c1"), ("c3", "c2"), ("c2", "c0"),
    }  # fmt: skip
    capped = settings.model_copy(update={"max_pairs": 1})
    assert ids(select("p", *pool(1.0, 2.0, 3.0, 5.0), capped, True)) == [("c3", "c0")]


def test_evolved_vs_original() -> None:
    made = [
        completion("o", text="amber " * 5),
        completion("e1", evolution=1, parent_id="o", text="birch " * 5),
        completion("e2", evolution=2, parent_id="e1", text="cedar " * 5),
    ]
    table = {"o": Scores(3.0), "e1": Scores(4.0), "e2": Scores(2.0)}
    settings = Pairing(strategy="evolved-vs-original")
    checked = select("p", made, table, settings, True)
    assert ids(checked) == [("e1", "o")]
    assert {row["reason"] for row in checked.rejections} == {Reason.MARGIN}
    assert ids(select("p", made, {}, settings.model_copy(update={"checked": False}), False)) == [("e2", "o")]


def test_member_order_needs_no_scores() -> None:
    made, _ = pool(None, None, None)
    settings = Pairing(strategy="member-order", member_order=("m2", "m0"))
    assert ids(select("p", made, {}, settings, False)) == [("c2", "c0")]
    same = [completion("a", member="m0", text="amber"), completion("b", member="m0", text="birch")]
    assert reason(select("p", same, {}, settings, False)) == "no_match"


@pytest.mark.parametrize(
    ("values", "fields", "settings", "expected"),
    [
        ((3.0, 3.0), {}, {}, "tie"),
        ((3.0, 3.5), {}, {"min_margin": 1}, "margin"),
        ((3.0, None), {}, {}, "too_few"),
        ((3.0, 5.0), {"text": "same text\n"}, {}, "identical"),
        ((3.0, 5.0), {"finish_reason": "length"}, {}, "too_few"),
        ((3.0, 5.0), {"text": " "}, {}, "too_few"),
        ((3.0, 5.0), {"error": "failed: 500"}, {}, "no_completion"),
        ((3.0,), {}, {}, "too_few"),
        ((), {}, {}, "no_completion"),
    ],
)
def test_a_prompt_without_a_pair_says_why(
    values: tuple[float | None, ...], fields: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    made, table = pool(*values)
    made = [row | fields for row in made]
    selection = select("p", made, table, Pairing(**settings), True)
    assert not selection.pairs
    assert reason(selection) == expected


def test_the_next_best_pair_is_tried() -> None:
    made = [
        completion("a", text="amber " * 20),
        completion("b", text="amber " * 20 + "x"),
        completion("c", text="cedar " * 20),
    ]
    selection = select("p", made, {"a": Scores(5.0), "b": Scores(1.0), "c": Scores(2.0)}, Pairing(), True)
    assert ids(selection) == [("a", "c")]
    assert [(row["completion_id"], row["reason"]) for row in selection.rejections] == [("a", Reason.SIMILAR)]


def test_truncated_texts_are_candidates_where_the_recipe_says_so() -> None:
    made, table = pool(1.0, 5.0, finish_reason="length")
    assert ids(select("p", made, table, Pairing(allow_truncated=True), True)) == [("c1", "c0")]


def test_scores_weigh_aspects_and_leave_out_what_does_not_apply() -> None:
    ratings = [
        rating("c", 4.0, "helpfulness"), rating("c", 2.0, "honesty"),
        rating("c", 2.0, "helpfulness", judge="k"), rating("c", 9.0, "critique"),
    ]  # fmt: skip
    assert totals(ratings, Pairing()) == {"c": pytest.approx(2.5)}
    assert totals(ratings, Pairing(aspect_weights={"helpfulness": 3.0})) == {"c": pytest.approx(2.75)}
    assert totals(ratings, Pairing(aspect_weights={"honesty": 0.0})) == {"c": pytest.approx(3.0)}
    not_applicable = rating("c", None, "truthfulness", error="not_applicable")
    assert totals([*ratings, not_applicable], Pairing()) == {"c": pytest.approx(2.5)}
    assert totals([*ratings, rating("c", None, "truthfulness")], Pairing()) == {"c": None}
    assert totals([not_applicable], Pairing()) == {"c": None}


completions = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(["", "same", "same ", *WORDS]),
            "member": st.sampled_from(["a", "b", "c"]),
            "finish_reason": st.sampled_from(["stop", "stop", "length"]),
            "error": st.sampled_from([None, None, None, "empty", "failed: x"]),
            "score": st.sampled_from([None, 1.0, 2.0, 3.0, 3.0, 5.0]),
            "parent": st.integers(-3, 6),
        }
    ),
    max_size=7,
)


@settings(max_examples=300)
@given(completions, st.sampled_from(sorted(STRATEGIES)), st.randoms(use_true_random=False), st.floats(0, 2))
def test_every_prompt_leaves_once_and_order_never_matters(
    drawn: list[dict[str, Any]], strategy: Any, rng: random.Random, min_margin: float
) -> None:
    made, table = [], {}
    for n, fields in enumerate(drawn):
        parent = f"c{fields['parent']}" if 0 <= fields["parent"] < n else None
        row = {key: fields[key] for key in ("text", "member", "finish_reason", "error")}
        made.append(completion(f"c{n}", parent_id=parent, evolution=1 if parent else 0, **row))
        table[f"c{n}"] = Scores(fields["score"])
    config = Pairing(strategy=strategy, min_margin=min_margin, member_order=("a", "b", "c"))
    scored = strategy != "member-order"
    selection = select("p", made, table, config, scored)
    whole = [row for row in selection.rejections if row["completion_id"] is None]
    assert len(whole) == (0 if selection.pairs else 1)
    for pair in selection.pairs:
        chosen, rejected = (
            next(row for row in made if row["completion_id"] == pair[f"{side}_id"]) for side in ("chosen", "rejected")
        )
        assert chosen["text"].strip() != rejected["text"].strip()
        assert not chosen["error"]
        assert not rejected["error"]
        assert chosen["finish_reason"] == rejected["finish_reason"] == "stop"
        if scored:
            assert pair["margin"] > 0
            assert pair["margin"] >= min_margin - 1e-6
    shuffled = rng.sample(made, len(made))
    assert select("p", shuffled, table, config, scored) == selection


def test_equal_scores_break_by_the_seed_not_by_the_id() -> None:
    chosen = {ids(select("p", *pool(5.0, 5.0, 1.0), Pairing(seed=seed), True))[0][0] for seed in range(20)}
    assert chosen == {"c0", "c1"}


def test_all_permutations_of_one_prompt_agree() -> None:
    made, table = pool(3.0, 5.0, 5.0, 1.0)
    for strategy in STRATEGIES:
        config = Pairing(strategy=strategy, member_order=("m0", "m1", "m2"))
        found = [select("p", list(order), table, config, True).pairs for order in itertools.permutations(made)]
        assert all(pairs == found[0] for pairs in found)


def guarded(on_flag: str, **settings: Any) -> Pairing:
    return Pairing.model_validate({"guard": {"on_flag": on_flag}, **settings})


@pytest.mark.parametrize(
    ("on_flag", "strategy", "expected"),
    [
        ("report", "best-vs-worst", [("c3", "c0")]),
        ("not-chosen", "best-vs-worst", [("c2", "c0")]),
        ("drop", "best-vs-worst", [("c2", "c1")]),
        ("not-chosen", "best-vs-second", [("c2", "c1")]),
        ("not-chosen", "all-above-margin", [("c1", "c0"), ("c2", "c0"), ("c2", "c1")]),
        ("drop", "all-above-margin", [("c2", "c1")]),
        ("not-chosen", "per-aspect", [("c2", "c0")]),
    ],
)
def test_flagged_texts_are_counted_or_never_chosen_or_dropped(on_flag: str, strategy: Any, expected: Any) -> None:
    made, _ = pool(1.0, 2.0, 3.0, 5.0)
    table = {f"c{n}": Scores(score, {"overall": score}) for n, score in enumerate((1.0, 2.0, 3.0, 5.0))}
    flagged = {"c0": "repeated", "c3": "judge instructions, rating lines"}
    selection = select("p", made, table, guarded(on_flag, strategy=strategy), True, flagged=flagged)
    assert sorted(ids(selection)) == expected
    rows = [(row["completion_id"], row["detail"]) for row in selection.rejections if row["reason"] == Reason.FLAGGED]
    ending = {"report": None, "drop": "", "not-chosen": "; not to be chosen"}[on_flag]
    assert rows == ([] if ending is None else [(name, f"{told}{ending}") for name, told in flagged.items()])


@pytest.mark.parametrize(("on_flag", "expected"), [("not-chosen", "flagged"), ("drop", "too_few")])
def test_a_prompt_of_flagged_texts_says_so(on_flag: str, expected: str) -> None:
    made, table = pool(1.0, 5.0)
    selection = select("p", made, table, guarded(on_flag), True, flagged={"c0": "fake turns", "c1": "fake turns"})
    assert not selection.pairs
    assert reason(selection) == expected
    assert "2 flagged" in selection.rejections[-1]["detail"] or expected == "flagged"


def long_pool(*scored: tuple[float, int]) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Completions of these scores and lengths."""
    made = [completion(f"c{n}", text=WORDS[n][0] * length) for n, (_, length) in enumerate(scored)]
    return made, {f"c{n}": Scores(score, {"overall": score}) for n, (score, _) in enumerate(scored)}


@pytest.mark.parametrize("strategy", ["best-vs-worst", "best-vs-second", "all-above-margin", "per-aspect"])
def test_what_length_is_worth_is_taken_off(strategy: Any) -> None:
    made, table = long_pool((4.0, 2000), (3.5, 100))
    slopes = {TOTAL: 0.5, "overall": 0.5}
    ((chosen, rejected),) = ids(select("p", made, table, Pairing(strategy=strategy), True, slopes=slopes))
    assert (chosen, rejected) == ("c1", "c0")
    (pair,) = select("p", made, table, Pairing(strategy=strategy), True, slopes=slopes).pairs
    worth = 0.5 * (log_length("x" * 2000) - log_length("x" * 100))
    assert (pair["chosen_score"], pair["rejected_score"]) == (3.5, 4.0)
    assert pair["margin"] == pytest.approx(-0.5 + worth)
    assert ids(select("p", made, table, Pairing(strategy=strategy), True)) == [("c0", "c1")]


def test_length_alone_makes_no_pair() -> None:
    made, table = long_pool((4.0, 2000), (4.0, 100))
    assert reason(select("p", made, table, Pairing(), True, slopes={TOTAL: 0.5})) == "tie"
    made, table = long_pool((4.0, 2000), (3.5, 100))
    assert reason(select("p", made, table, Pairing(min_margin=1), True, slopes={TOTAL: 0.5})) == "margin"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 60)), min_size=2, max_size=6),
    st.sampled_from(sorted(STRATEGIES)),
    st.sampled_from(["report", "not-chosen", "drop"]),
    st.sets(st.integers(0, 5)),
    st.floats(-1, 1),
    st.randoms(),
)
def test_neither_flags_nor_slopes_let_the_order_of_rows_matter(
    scored: list[tuple[int, int]], strategy: Any, on_flag: str, which: set[int], slope: float, random: Any
) -> None:
    made, table = long_pool(*((float(score), length) for score, length in scored))
    config = guarded(on_flag, strategy=strategy, member_order=("m",))
    flagged = {f"c{n}": "fake turns" for n in which}
    extra: dict[str, Any] = {"slopes": {TOTAL: slope, "overall": slope}, "flagged": flagged}
    selection = select("p", made, table, config, True, **extra)
    assert select("p", random.sample(made, len(made)), table, config, True, **extra) == selection
    assert on_flag == "report" or not {pair["chosen_id"] for pair in selection.pairs} & set(flagged)
    assert on_flag != "drop" or not {pair["rejected_id"] for pair in selection.pairs} & set(flagged)
    assert all(pair["margin"] > 0 for pair in selection.pairs)


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
    for row in select("p", made, table, pairing, True).pairs:
        assert row["chosen_score"] - row["rejected_score"] >= max(min_margin, 1)
