"""Rate: completions x one judge -> ratings (UltraFeedback)."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.config import CHECKS
from pairsmith.stages.rate import rate_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.working import worked


@task(name="rate", task_run_name="rate by {judge} {shard}", **STAGE)
def rate_completions(recipe: str, shard: str, judge: str, processes: int = 1) -> dict[str, Any]:
    known = recipe_of(recipe)
    assert known.rating is not None
    spec = None if judge == CHECKS else known.rating.judge(judge)
    return worked(lambda session: rate_shard(known, shard, judge, session), spec, processes)
