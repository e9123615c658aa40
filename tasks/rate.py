"""Rate: completions x one judge -> ratings (UltraFeedback)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import CHECKS, Recipe
from pairsmith.stages.rate import rate_shard
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="rate", task_run_name="rate by {judge} {shard}", **STAGE)
def rate_completions(recipe: Recipe, shard: str, judge: str) -> dict[str, Any]:
    assert recipe.rating is not None
    session = task_session()
    with nullcontext() if judge == CHECKS else at_endpoint(recipe.rating.judge(judge), session):
        return asdict(rate_shard(recipe, shard, judge, session))
