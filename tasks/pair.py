"""Pair: completions and ratings -> pairs and rejections."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.pair import pair_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="pair", task_run_name="pair {shard}", **STAGE)
def select_pairs(recipe: Recipe, shard: str) -> dict[str, Any]:
    return asdict(pair_shard(recipe, shard, task_session()))
