from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.reporting.summary_tables import aspect_table
from tests.reporting.shards import counted, some, tables


@given(st.lists(st.lists(st.integers(0, 60), max_size=8), min_size=1, max_size=5), st.randoms())
@settings(max_examples=25)
def test_counts_are_the_same_however_prompts_are_split_and_merged(parts: list[list[int]], random: Any) -> None:
    numbers = list(dict.fromkeys(number for part in parts for number in part))
    whole = counted(tables([some(1, number)[0] for number in numbers]))
    seen: set[int] = set()
    shards = []
    for part in parts:
        own = [number for number in dict.fromkeys(part) if number not in seen]
        seen.update(own)
        shards.append(tables([some(1, number)[0] for number in own]))
    random.shuffle(shards)
    assert counted(*shards) == whole


def test_counts_are_what_they_say() -> None:
    shard = tables(some(300))
    summary, pairs = counted(shard), shard.pairs
    texts = dict(zip(shard.completions["completion_id"], shard.completions["text"].str.len(), strict=True))
    gaps = [texts[row.chosen_id] - texts[row.rejected_id] for row in pairs.itertuples()]
    assert (summary.longer, summary.shorter) == (sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps))
    totals = {what: 0 for what, _ in summary.histograms}
    for (what, _), count in summary.histograms.items():
        totals[what] += count
    assert totals == {"margin": len(pairs), "chosen": len(pairs), "rejected": len(pairs)}
    assert sum(summary.scores.values()) == shard.ratings["score"].notna().sum()
    (first, *_) = aspect_table(summary)
    judged = shard.ratings.query("judge == 'first' and aspect == 'helpfulness'")
    twos = judged.dropna(subset="score").groupby("prompt_id")["score"].agg(list)
    tied = [scores[0] == scores[1] for scores in twos if len(scores) == 2]
    assert first["aspect"] == "helpfulness by first"
    assert first["tied share"] == pytest.approx(sum(tied) / len(tied), abs=0.006)
    assert first["null share"] == pytest.approx(judged["score"].isna().mean(), abs=0.006)


def test_counts_take_no_more_room_for_more_data() -> None:
    small, large = counted(tables(some(400))), counted(tables(some(2000)))
    assert len(json.dumps(large.to_json())) < 1.1 * len(json.dumps(small.to_json()))
