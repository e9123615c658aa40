"""Criteria: prompts and their answers -> yes/no questions for each prompt."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.stages.criteria import write_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.working import worked


@task(name="criteria", task_run_name="criteria {shard}", **STAGE)
def write_criteria(recipe: str, shard: str, processes: int = 1) -> dict[str, Any]:
    known = recipe_of(recipe)
    assert known.criteria is not None
    return worked(lambda session: write_shard(known, shard, session), known.criteria.author, processes)
