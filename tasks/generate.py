"""Generate: prompts x one member -> completions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.generate import generate_shard
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="generate", task_run_name="generate {member} {shard}", **STAGE)
def generate_completions(recipe: Recipe, shard: str, member: str) -> dict[str, Any]:
    session = task_session()
    with at_endpoint(recipe.pool.member(member), session):
        return asdict(generate_shard(recipe, shard, member, session))
