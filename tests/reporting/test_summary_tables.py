from __future__ import annotations

import pytest

from pairsmith.pairing.candidates import TOTAL
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import (
    funnel,
    funnel_table,
    guard_table,
    member_table,
    pair_table,
    slope_table,
    usage_table,
)
from tests.reporting.shards import counted, some, tables


def test_costs_of_an_earlier_recipe_stay_in_sight() -> None:
    paid = [
        {"asker": "judge j", "model": "/home/me/m", "calls": 2, "n_prompt_tokens": 9, "n_tokens": 3, "cost": 0.25},
        {"asker": "judge gone", "model": "x", "calls": 1, "n_prompt_tokens": 1, "n_tokens": 1, "cost": 0.5},
        {"asker": None, "model": "x", "calls": 1, "n_prompt_tokens": 1, "n_tokens": 1, "cost": None},
    ]
    models = [{"role": "member", "name": "m", "model": "y"}, {"role": "judge", "name": "j", "model": "/home/me/m"}]
    found = [list(row.values()) for row in usage_table(paid, models)]
    assert found == [
        ["member m", "y", 0, None, None, None, ""],
        ["judge j", "m", 2, 9, 3, 0.25, ""],
        ["not noted", "x", 1, 1, 1, None, "no"],
        ["judge gone", "x", 1, 1, 1, 0.5, "no"],
        ["all", "", 4, 11, 5, 0.75, ""],
    ]
    assert usage_table([], models) == []


def test_the_funnel_says_where_prompts_were_left() -> None:
    summary = Summary(rows_read=9, loaded=7, completed=6, paired=4)
    summary.load_reasons.update({"duplicate": 1, "blank": 1})
    summary.prompt_reasons.update({"tie": 3})
    assert funnel_table(summary) == [
        {"stage": "rows read", "prompts": 9, "left out": ""},
        {"stage": "loaded", "prompts": 7, "left out": "the prompt is blank (1), the same prompt again (1)"},
        {"stage": "completed", "prompts": 6, "left out": ""},
        {"stage": "paired", "prompts": 4, "left out": "the best answers are tied (3)"},
    ]
    summary.evolved, summary.aspects = 5, {"overall by j": {"ratings": 1}}
    assert [stage for stage, _ in funnel(summary)][3:] == ["evolved", "rated", "paired"]


def test_tables_of_a_shard_count_what_is_in_it() -> None:
    shard = tables(some(60))
    summary, pairs = counted(shard), shard.pairs
    for row in member_table(summary):
        own = shard.completions[shard.completions["member"] == row["member"]]
        assert (row["completions"], row["failed"]) == (len(own), own["error"].notna().sum())
        assert row["chosen"] == (pairs["chosen_member"] == row["member"]).sum()
        assert row["rejected"] == (pairs["rejected_member"] == row["member"]).sum()
    (means,) = pair_table(summary)
    assert means["pairs"] == len(pairs)
    assert means["mean margin"] == pytest.approx(pairs["margin"].mean(), abs=0.006)


def test_flags_and_slopes_are_shown_where_there_are_any() -> None:
    assert (guard_table(Summary()), slope_table(Summary())) == ([], [])
    summary = Summary(slopes={"honesty": 0.5, TOTAL: 1.0})
    summary.flags.update({("repeated", "completions"): 3, ("repeated", "rejected"): 2})
    assert guard_table(summary) == [{"flag": "repeated", "completions": 3, "chosen": 0, "rejected": 2}]
    assert [(row["score"], row["slope"]) for row in slope_table(summary)] == [
        ("in all", "1.0000"),
        ("honesty", "0.5000"),
    ]
