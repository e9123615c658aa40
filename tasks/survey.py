"""Survey: statistics of each shard, merged to those of the whole data set, which the pairing of each shard uses."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.survey import merge_surveys, survey_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.sessions import task_session
from pairsmith_tasks.working import worked


@task(name="survey", task_run_name="survey {shard}", **STAGE)
def survey_completions(recipe: str, shard: str) -> dict[str, Any]:
    return worked(lambda session: survey_shard(recipe_of(recipe), shard, session))


@task(name="merge surveys", task_run_name="merge surveys", **STAGE)
def merge_shard_surveys(recipe: Recipe, shards: dict[str, int]) -> list[str]:
    """The shards whose pairs must be selected, since something is new in them or in the whole data set."""
    return merge_surveys(recipe, shards, task_session())
