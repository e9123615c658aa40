"""Criteria: prompts and their answers -> yes/no questions for each prompt."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.criteria import write_shard
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="criteria", task_run_name="criteria {shard}", **STAGE)
def write_criteria(recipe: Recipe, shard: str) -> dict[str, Any]:
    assert recipe.criteria is not None
    session, author = task_session(), recipe.criteria.author
    with at_endpoint(author, session) if author else nullcontext():
        return asdict(write_shard(recipe, shard, session))
