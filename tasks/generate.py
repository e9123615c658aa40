"""Generate: prompts x one member -> completions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.generate import generate_shard
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.options import STAGE


@task(name="generate", task_run_name="generate {member} {shard}", **STAGE)
def generate_completions(recipe: Recipe, shard: str, member: str) -> dict[str, Any]:
    with at_endpoint(recipe.pool.member(member)):
        return asdict(generate_shard(recipe, shard, member))
