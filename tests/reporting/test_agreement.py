"""Trust in judges: every number against one computed from all the data, and the same whatever the order of shards."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.reporting.agreement import Trust, markdown_marks
from pairsmith.reporting.markdown import markdown_table
from pairsmith.storage.schemas import frame
from pairsmith.storage.tables import ShardTables
from tests.runs import completion, rating

FAMILIES = {"alice": "a", "bob": "b", "carol": "c", "a-small": "a", "b-small": "b"}  # d-small has none
MEMBERS = ("a-small", "b-small", "d-small", "b-small")
JUDGES = ("alice", "bob", "carol")  # alice judges in two orders, carol pointwise
ASPECTS = ("helpfulness", "honesty")
FORMATS = ("plain", "# Head", "- one\n- two", "**bold**", "```py\n# not a head\n```", "|a|b|\n|-|-|\n|1|2|")
Rows = list[dict[str, Any]]


def shard(completions: Rows, ratings: Rows, pairs: Sequence[tuple[str, str]] = ()) -> ShardTables:
    defaults = {
        "prompt_id": "p", "chosen_member": "m", "rejected_member": "m", "chosen_model": "x", "rejected_model": "x",
        "similarity": 0.0, "strategy": "best-vs-worst",
    }  # fmt: skip
    made = [{**defaults, "chosen_id": chosen, "rejected_id": rejected} for chosen, rejected in pairs]
    ratings = [{"order": 0, **row} for row in ratings]
    parts = (("completions", completions), ("ratings", ratings), ("pairs", made), ("rejections", []))
    return ShardTables(frame("prompts", []), *(frame(table, rows) for table, rows in parts))


def made_up(seed: int, prompts: int, fine: bool) -> tuple[Rows, Rows, list[tuple[str, str]]]:
    """Texts of all lengths and formats with scores by judges who skip texts, fail, lean to length and to place."""
    draw = random.Random(seed)
    completions: Rows = []
    ratings: Rows = []
    pairs = []
    for prompt in range(prompts):
        ids = [f"{seed}-{prompt}-{place}" for place in range(draw.randint(1, 4))]
        for name, member in zip(ids, MEMBERS, strict=False):
            text = "word " * draw.randint(1, 40) + "\n" + draw.choice(FORMATS)
            completions.append(completion(name, prompt_id=f"{seed}-{prompt}", member=member, text=text))
        pairs += [(ids[0], ids[1])] if len(ids) > 1 else []
        for judge, aspect, order in itertools.product(JUDGES, ASPECTS, (0, 1)):
            if order and judge != "alice":
                continue
            listwise = judge != "carol"
            for position, name in enumerate(draw.sample(ids, len(ids))):
                length = len(next(row["text"] for row in completions if row["completion_id"] == name))
                score = min(5.0, max(1.0, draw.gauss(1 + math.log(length) / 3 + 0.3 * position, 1)))
                if draw.random() < 0.1 and not listwise:
                    continue
                ratings.append(
                    rating(
                        name,
                        None if draw.random() < 0.15 else round(score, 1 if fine else 0),
                        aspect,
                        judge,
                        prompt_id=f"{seed}-{prompt}",
                        protocol="listwise" if listwise else "pointwise",
                        order=order,
                        position=position if listwise else 0,
                    )
                )
    return completions, ratings, pairs


def trust_in(*parts: tuple[Rows, Rows, list[tuple[str, str]]]) -> Trust:
    whole = Trust()
    for part in parts:
        one = Trust()
        one.add(shard(*part), FAMILIES)
        whole.merge(one)
    return whole


def all_rows(parts: Sequence[tuple[Rows, Rows, list[tuple[str, str]]]]) -> pd.DataFrame:
    """One row a rating, with its text: what the independent computations start from."""
    completions = pd.DataFrame([row for part in parts for row in part[0]])[["completion_id", "text", "member"]]
    ratings = pd.DataFrame([row for part in parts for row in part[1]])
    ratings["score"] = ratings["score"].astype(float)
    return ratings.merge(completions, on="completion_id")


def within(data: pd.DataFrame, column: str) -> pd.Series:
    return data[column] - data.groupby(["judge", "aspect", "prompt_id", "order"])[column].transform("mean")


@pytest.fixture(scope="module", params=[False, True], ids=["whole scores", "fine scores"])
def parts(request: pytest.FixtureRequest) -> list[tuple[Rows, Rows, list[tuple[str, str]]]]:
    return [made_up(seed, 25, request.param) for seed in range(4)]


def test_alpha_and_agreement_are_those_of_all_the_data(parts: Any) -> None:
    table, data = trust_in(*parts).agreement_table(), all_rows(parts)
    assert [(row["aspect"], row["judges"]) for row in table] == [
        (aspect, judges)
        for aspect in ASPECTS
        for judges in ("alice, bob, carol", "alice, bob", "alice, carol", "bob, carol")
    ]
    for row in table:
        own = data[data["aspect"] == row["aspect"]]
        scores = own.pivot_table(index="judge", columns="completion_id", values="score", aggfunc="mean")
        scores = scores.loc[row["judges"].split(", ")]
        alpha = krippendorff.alpha(reliability_data=scores.to_numpy(), level_of_measurement="interval")
        assert row["alpha"] == pytest.approx(alpha, abs=6e-4)
        both = scores.dropna(axis=1)
        distance = both.max() - both.min()
        assert row["by all"] == both.shape[1] > 20
        assert row["exact"] == pytest.approx((distance < 1e-8).mean(), abs=6e-3)
        assert row["within 1"] == pytest.approx((distance < 1 + 1e-8).mean(), abs=6e-3)
        assert row["by any"] == (scores.notna().any().sum() if scores.shape[0] == 3 else None)
    least = min(row["alpha"] for row in table if row["judges"].count(",") == 2)
    assert trust_in(*parts).least_agreement() == least


def test_alpha_of_a_published_example() -> None:
    """Wikipedia's example with missing values: 0.811 with the interval metric."""
    none = None
    data = {
        "a": [none] * 5 + [3, 4, 1, 2, 1, 1, 3, 3, none, 3],
        "b": [1, none, 2, 1, 3, 3, 4, 3] + [none] * 7,
        "c": [none, none, 2, 1, 3, 4, 4, none, 2, 1, 1, 3, 3, none, 4],
    }
    ratings = [rating(f"t{i}", score, judge=judge) for judge, scores in data.items() for i, score in enumerate(scores)]
    trust = trust_in(([completion(f"t{i}") for i in range(15)], ratings, []))
    assert trust.least_agreement() == 0.811
    assert trust.agreement_table()[0] == {
        "aspect": "overall", "judges": "a, b, c", "by any": 13, "by all": 2, "alpha": 0.811, "exact": 0.5,
        "within 1": 1.0,
    }  # fmt: skip


def test_positions_are_compared_within_prompts(parts: Any) -> None:
    table, data = trust_in(*parts).position_table(), all_rows(parts)
    data = data[(data["protocol"] == "listwise") & data["score"].notna()]
    data = data[data.groupby(["judge", "aspect", "prompt_id", "order"])["score"].transform("size") > 1]
    data = data.assign(difference=within(data, "score"), place=within(data, "position"))
    assert [(row["judge"], row["position"]) for row in table] == list(itertools.product(["alice", "bob"], [1, 2, 3, 4]))
    for row in table:
        judge = data[data["judge"] == row["judge"]]
        there = judge[judge["position"] == row["position"] - 1]
        assert row["n"] == len(there) > 0
        assert row["difference"] == pytest.approx(there["difference"].mean(), abs=6e-3)
        r = np.corrcoef(judge["place"].astype(float), judge["difference"])[0, 1]
        assert row["correlation"] == pytest.approx(r, abs=6e-3)


def test_leanings_are_those_of_all_the_data(parts: Any) -> None:
    table, data = trust_in(*parts).bias_table(), all_rows(parts)
    assert [row["judge"] for row in table] == list(JUDGES)
    for row in table:
        own = data[data["judge"] == row["judge"]]
        scored = own[own["score"].notna()].copy()
        scored["log"] = np.log(scored["text"].str.len())
        scored["marks"] = scored["text"].map(markdown_marks)
        assert row["ratings"] == len(own)
        assert row["null"] == pytest.approx(own["score"].isna().mean(), abs=6e-3)
        groups = [list(group["score"]) for _, group in scored.groupby(["aspect", "prompt_id", "order"])]
        twos = [a == b for group in groups for a, b in itertools.combinations(group, 2)]
        assert row["ties"] == pytest.approx(np.mean(twos), abs=6e-3)
        for name, column in (("length", "log"), ("markdown", "marks")):
            r = np.corrcoef(within(scored, column), within(scored, "score"))[0, 1]
            assert row[name] == pytest.approx(r, abs=6e-3)


def test_a_judge_is_compared_with_judges_of_other_families(parts: Any) -> None:
    table, data = trust_in(*parts).bias_table(), all_rows(parts)
    data = data.groupby(["aspect", "completion_id", "judge", "member"], as_index=False)["score"].mean().dropna()
    data["writer"] = data["member"].map(FAMILIES)
    for row in table:
        differences: dict[bool, list[float]] = {True: [], False: []}
        for _, group in data[data["writer"].notna()].groupby(["aspect", "completion_id"]):
            mine, others = group[group["judge"] == row["judge"]], group[group["judge"] != row["judge"]]
            if len(mine) and len(others):
                own = mine["writer"].iloc[0] == FAMILIES[row["judge"]]
                differences[own].append(mine["score"].iloc[0] - others["score"].mean())
        assert row["leniency"] == pytest.approx(np.mean(differences[False]), abs=6e-3)
        if row["judge"] == "carol":  # no member of its family
            assert row["self-preference"] is None
        else:
            assert row["self-preference"] == pytest.approx(np.mean(differences[True]), abs=6e-3)


def test_judges_of_one_family_do_not_hide_each_others_preference() -> None:
    families = {"j1": "a", "j2": "a", "j3": "b", "m": "a"}
    ratings = [rating("t", score, judge=judge) for judge, score in (("j1", 5.0), ("j2", 5.0), ("j3", 2.0))]
    trust = Trust()
    trust.add(shard([completion("t")], ratings), families)
    assert [row["self-preference"] for row in trust.bias_table()] == [3.0, 3.0, None]
    assert [row["leniency"] for row in trust.bias_table()] == [None, None, -3.0]
    alone = Trust()
    alone.add(shard([completion("t")], ratings[:2]), families)
    assert [row["self-preference"] for row in alone.bias_table()] == [None, None]


def test_length_bias_counts_equal_lengths_as_half() -> None:
    texts = [completion(name, text="x" * size) for name, size in (("long", 9), ("mid", 5), ("same", 5), ("short", 1))]
    pairs = [("long", "short"), ("mid", "short"), ("mid", "same"), ("short", "long")]
    trust = trust_in((texts, [], pairs))
    assert trust.length_bias() == (2 + 0.5) / 4 - 0.5
    assert trust_in((texts, [], pairs[:2])).length_bias() == 0.5
    assert trust_in((texts, [], pairs[3:])).length_bias() == -0.5


def test_nothing_is_made_up_where_there_is_nothing_to_know() -> None:
    trust = trust_in(([], [], []))
    assert (trust.agreement_table(), trust.position_table(), trust.bias_table()) == ([], [], [])
    assert trust.length_bias() is None
    assert trust.least_agreement() is None
    one = [completion("t")]
    nulls = trust_in((one, [rating("t", None, judge=judge) for judge in ("a", "b")], []))
    assert nulls.agreement_table() == [
        {"aspect": "overall", "judges": "a, b", "by any": 0, "by all": 0, "alpha": None, "exact": None,
         "within 1": None}
    ]  # fmt: skip
    assert nulls.bias_table()[0] == {
        "judge": "a", "ratings": 1, "null": 1.0, "ties": None, "length": None, "markdown": None,
        "self-preference": None, "leniency": None,
    }  # fmt: skip
    assert nulls.least_agreement() is None


@pytest.mark.parametrize("score", [0.1, 1 / 3, 3.0, 4.7])
def test_scores_that_never_vary_have_no_alpha_and_no_correlation(score: float) -> None:
    texts = [completion(f"t{i}", text="x" * (i + 1)) for i in range(7)]
    trust = trust_in((texts, [rating(f"t{i}", score, judge=judge) for i in range(7) for judge in "ab"], []))
    assert trust.agreement_table()[0]["alpha"] is None
    assert trust.agreement_table()[0]["exact"] == 1.0
    assert trust.bias_table()[0]["length"] is None
    assert trust.bias_table()[0]["ties"] == 1.0


def test_critiques_and_single_judges_have_no_agreement() -> None:
    ratings = [rating("t", 8.0, "critique", judge) for judge in "ab"] + [rating("t", 3.0, "honesty", "a")]
    trust = trust_in(([completion("t")], ratings, []))
    assert trust.agreement_table() == []
    assert [row["ratings"] for row in trust.bias_table()] == [1]


def test_places_beyond_nine_are_in_order() -> None:
    texts = [completion(f"t{i}", text="x" * (i + 1)) for i in range(12)]
    ratings = [rating(f"t{i}", 1.0 + i / 4, protocol="listwise", position=i) for i in range(12)]
    table = trust_in((texts, ratings, [])).position_table()
    assert [row["position"] for row in table] == list(range(1, 13))
    assert {row["correlation"] for row in table} == {1.0}
    assert table[0]["difference"] == pytest.approx(-1.38, abs=0.011)


def test_tables_have_one_set_of_columns_and_go_through_markdown(parts: Any) -> None:
    trust = trust_in(*parts)
    for table in (trust.agreement_table(), trust.position_table(), trust.bias_table()):
        assert len({tuple(row) for row in table}) == 1
        assert markdown_table(table).count("\n") == len(table) + 1
        assert "nan" not in markdown_table(table)


@settings(max_examples=20)
@given(
    seeds=st.lists(st.integers(0, 10**6), max_size=4, unique=True),
    prompts=st.integers(0, 3),
    fine=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_order_changes_nothing_and_json_keeps_everything(
    seeds: list[int], prompts: int, fine: bool, order: random.Random
) -> None:
    parts = [made_up(seed, prompts, fine) for seed in seeds]
    one_by_one = trust_in(*parts)
    mixed = [tuple(order.sample(rows, len(rows)) for rows in part) for part in order.sample(parts, len(parts))]
    at_once = Trust()
    at_once.add(shard(*([row for part in mixed for row in part[kind]] for kind in range(3))), FAMILIES)
    stored = json.loads(json.dumps(one_by_one.to_json()))
    assert trust_in(*mixed) == at_once == one_by_one == Trust.from_json(stored)
    assert trust_in(*mixed).to_json() == at_once.to_json() == stored


def test_what_is_kept_does_not_grow_with_the_data() -> None:
    few, many = (len(trust_in(made_up(1, prompts, True)).sums) for prompts in (60, 240))
    assert few == many


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("", 0),
        ("plain - text, 2 * 3 * 4 and a|b", 0),
        ("# One\n## Two\n#hashtag", 2),
        ("- a\n  * b\n1. c\n2) d\n-not\n---", 4),
        ("**bold** and __this__ but not * that *", 2),
        ("```python\n# no head\n- no item\n```\nthen\n~~~\n**x**\n~~~", 2),
        ("```\nnever closed\n# no head", 1),
        ("| a | b |\n|:--|---|\n| 1 | 2 |\n\na|b\n-|-\n1|2", 2),
    ],
)
def test_markdown_is_counted(text: str, marks: int) -> None:
    assert markdown_marks(text) == marks


@pytest.mark.parametrize("piece", [" ", "*", "_", "`", "```", "```\n", "|", "-", "|-", "\n", "# ", "1", "**a", "- "])
def test_counting_markdown_takes_no_time(piece: str) -> None:
    markdown_marks(piece * 50_000)  # a pattern that backtracks would meet the timeout
