"""Rate: completions x one judge -> ratings (UltraFeedback)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith import stages
from pairsmith.config import CHECKS, Recipe
from tasks.endpoints import at_endpoint
from tasks.options import STAGE


@task(name="rate", task_run_name="rate by {judge} {shard}", **STAGE)
def rate_completions(recipe: Recipe, shard: str, judge: str) -> dict[str, Any]:
    assert recipe.rating is not None
    with nullcontext() if judge == CHECKS else at_endpoint(recipe.rating.judge(judge)):
        return asdict(stages.rate_shard(recipe, shard, judge))
