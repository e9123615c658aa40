"""Evolve: completions -> better completions (EvolQuality)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.evolve import evolve_shard
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="evolve", task_run_name="evolve {shard}", **STAGE)
def evolve_completions(recipe: Recipe, shard: str) -> dict[str, Any]:
    assert recipe.evolution is not None
    session = task_session()
    with at_endpoint(recipe.evolution.evolver, session):
        return asdict(evolve_shard(recipe, shard, session))
