"""Generate: prompts x one member -> completions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith import stages
from pairsmith.config import Recipe
from tasks.endpoints import at_endpoint
from tasks.options import STAGE


@task(name="generate", task_run_name="generate {member} {shard}", **STAGE)
def generate_completions(recipe: Recipe, shard: str, member: str) -> dict[str, Any]:
    with at_endpoint(recipe.pool.member(member)):
        return asdict(stages.generate_shard(recipe, shard, member))
