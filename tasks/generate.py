"""Generate: prompts x one member -> completions."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.stages.generate import generate_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.working import worked


@task(name="generate", task_run_name="generate {member} {shard}", **STAGE)
def generate_completions(recipe: str, shard: str, member: str, processes: int = 1) -> dict[str, Any]:
    known = recipe_of(recipe)
    spec = known.pool.member(member)
    return worked(lambda session: generate_shard(known, shard, member, session), spec, processes)
