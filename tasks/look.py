"""Look: what models must still make before a stage can run on its own."""

from __future__ import annotations

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.freshness import lacking
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="look", task_run_name="look for what is lacking", **STAGE)
def find_lacking(recipe: Recipe, shards: list[str], stage: str) -> dict[str, list[str]]:
    found = {shard: lacking(recipe, shard, stage, task_session()) for shard in shards}
    return {shard: absent for shard, absent in found.items() if absent}
