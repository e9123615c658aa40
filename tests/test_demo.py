"""The demo: its prompts can be checked as they say, and each half of its pairs is made as its recipe says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairsmith.config import CHECKS, IfEval, Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.judging.checks import judge_text, require
from pairsmith.reporting.against_checks import pairs_by_checks
from pairsmith.reporting.agreement import Trust
from pairsmith.stages.base import open_store
from pairsmith.stages.records import record_of
from pairsmith.storage.dataset import Dataset
from tests.conftest import ROOT
from tests.runs import read, run

DEMO = ROOT / "recipes" / "demo.yaml"
FEWEST, MOST = 40, 60  # prompts


def test_half_of_the_prompts_say_what_its_check_looks_at() -> None:
    prompts, refused = read(ROOT / "recipes" / "prompts" / "demo.jsonl")
    assert not refused
    assert FEWEST <= len(prompts) <= MOST
    recipe = load_recipe(DEMO)
    assert recipe.rating is not None
    (check,) = recipe.rating.checks
    assert isinstance(check, IfEval)
    require([check])
    checkable = [prompt for prompt in prompts if prompt["source"] == "checkable"]
    assert 2 * len(checkable) == len(prompts)
    extras = {prompt["prompt_id"]: json.loads(prompt["extras"] or "{}") for prompt in prompts}
    assert {name for name, found in extras.items() if found} == {prompt["prompt_id"] for prompt in checkable}
    named = {one["id"] for found in extras.values() for one in found.get("instructions", ())}
    assert named == {*(check.instructions or ())}
    for prompt in checkable:
        assert judge_text(check, "A text", [], None, extras[prompt["prompt_id"]]).error is None, prompt["messages"]


def by_rater(row: Mapping[str, Any], name: str) -> list[Any]:
    """The scores that a rater gave the two sides of a pair."""
    return [one["score"] for side in ("chosen", "rejected") for one in row[f"{side}_ratings"] if one["judge"] == name]


def test_pairs_are_made_by_checks_where_there_are_some_and_by_the_judge_elsewhere(tmp_path: Path) -> None:
    recipe = load_recipe(DEMO, [f"workspace={tmp_path}", "prompts.limit=24"])
    recipe = Recipe.model_validate(json.loads(recipe.model_dump_json().replace('"transformers"', '"echo"')))
    run(recipe)
    pairs = Dataset(tmp_path / "demo").pairs()
    assert {*pairs["signal"]} == {"checked", "judged"}
    least = recipe.pairing.signals[1].min_difference
    assert least is not None
    for _, row in pairs.iterrows():
        checked, judged = by_rater(row, CHECKS), by_rater(row, "qwen-judge")
        if row["signal"] == "checked":
            assert checked[0] > checked[1]
        else:
            assert checked == [None, None]
            assert judged[0] - judged[1] >= least
    store, trust = open_store(recipe), Trust()
    for shard in store.shards():
        record = record_of(store, shard)
        assert record is not None
        trust.merge(Trust.from_json(record["trust"]))
    agree = int((pairs["signal"] == "checked").sum())
    assert pairs_by_checks(trust.sums) == {"agree": agree, "differ": 0, "equal": 0}
