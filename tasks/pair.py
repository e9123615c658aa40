"""Pair: completions and ratings -> pairs and rejections."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.stages.pair import pair_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.working import worked


@task(name="pair", task_run_name="pair {shard}", **STAGE)
def select_pairs(recipe: str, shard: str) -> dict[str, Any]:
    return worked(lambda session: pair_shard(recipe_of(recipe), shard, session))
