from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Pairing, Rating
from pairsmith.judging.scoring import Scores, log_length, scores
from pairsmith.pairing.candidates import TOTAL
from pairsmith.pairing.strategies import STRATEGIES
from pairsmith.storage.schemas import Reason
from tests.pairing.cases import WORDS, guarded, ids, long_pool, pool, reason, selected
from tests.runs import completion, rating


def totals(ratings: list[dict[str, Any]], pairing: Pairing, how: Rating | None = None) -> dict[str, float | None]:
    return {name: found.total for name, found in scores(ratings, pairing, how).items()}


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
    selection = selected(made, table, Pairing(**settings), True)
    assert not selection.pairs
    assert reason(selection) == expected


def test_the_next_best_pair_is_tried() -> None:
    made = [
        completion("a", text="amber " * 20),
        completion("b", text="amber " * 20 + "x"),
        completion("c", text="cedar " * 20),
    ]
    selection = selected(made, {"a": Scores(5.0), "b": Scores(1.0), "c": Scores(2.0)}, Pairing(), True)
    assert ids(selection) == [("a", "c")]
    assert [(row["completion_id"], row["reason"]) for row in selection.rejections] == [("a", Reason.SIMILAR)]


def test_truncated_texts_are_candidates_where_the_recipe_says_so() -> None:
    made, table = pool(1.0, 5.0, finish_reason="length")
    assert ids(selected(made, table, Pairing(allow_truncated=True), True)) == [("c1", "c0")]


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
    selection = selected(made, table, config, scored)
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
    assert selected(shuffled, table, config, scored) == selection


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
    selection = selected(made, table, guarded(on_flag, strategy=strategy), True, flags=flagged)
    assert sorted(ids(selection)) == expected
    rows = [(row["completion_id"], row["detail"]) for row in selection.rejections if row["reason"] == Reason.FLAGGED]
    ending = {"report": None, "drop": "", "not-chosen": "; not to be chosen"}[on_flag]
    assert rows == ([] if ending is None else [(name, f"{told}{ending}") for name, told in flagged.items()])


@pytest.mark.parametrize(("on_flag", "expected"), [("not-chosen", "flagged"), ("drop", "too_few")])
def test_a_prompt_of_flagged_texts_says_so(on_flag: str, expected: str) -> None:
    made, table = pool(1.0, 5.0)
    selection = selected(made, table, guarded(on_flag), True, flags={"c0": "fake turns", "c1": "fake turns"})
    assert not selection.pairs
    assert reason(selection) == expected
    assert "2 flagged" in selection.rejections[-1]["detail"] or expected == "flagged"


@pytest.mark.parametrize("strategy", ["best-vs-worst", "best-vs-second", "all-above-margin", "per-aspect"])
def test_what_length_is_worth_is_taken_off(strategy: Any) -> None:
    made, table = long_pool((4.0, 2000), (3.5, 100))
    slopes = {TOTAL: 0.5, "overall": 0.5}
    ((chosen, rejected),) = ids(selected(made, table, Pairing(strategy=strategy), True, slopes=slopes))
    assert (chosen, rejected) == ("c1", "c0")
    (pair,) = selected(made, table, Pairing(strategy=strategy), True, slopes=slopes).pairs
    worth = 0.5 * (log_length("x" * 2000) - log_length("x" * 100))
    assert (pair["chosen_score"], pair["rejected_score"]) == (3.5, 4.0)
    assert pair["margin"] == pytest.approx(-0.5 + worth)
    assert ids(selected(made, table, Pairing(strategy=strategy), True)) == [("c0", "c1")]


def test_length_alone_makes_no_pair() -> None:
    made, table = long_pool((4.0, 2000), (4.0, 100))
    assert reason(selected(made, table, Pairing(), True, slopes={TOTAL: 0.5})) == "tie"
    made, table = long_pool((4.0, 2000), (3.5, 100))
    assert reason(selected(made, table, Pairing(min_margin=1), True, slopes={TOTAL: 0.5})) == "margin"


@settings(max_examples=100)
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
    extra: dict[str, Any] = {"slopes": {TOTAL: slope, "overall": slope}, "flags": flagged}
    selection = selected(made, table, config, True, **extra)
    assert selected(random.sample(made, len(made)), table, config, True, **extra) == selection
    assert on_flag == "report" or not {pair["chosen_id"] for pair in selection.pairs} & set(flagged)
    assert on_flag != "drop" or not {pair["rejected_id"] for pair in selection.pairs} & set(flagged)
    assert all(pair["margin"] > 0 for pair in selection.pairs)
