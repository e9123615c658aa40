"""Evolve: completions -> better completions (EvolQuality)."""

from __future__ import annotations

from typing import Any

from prefect import task

from pairsmith.stages.evolve import evolve_shard
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.recipes import recipe_of
from pairsmith_tasks.working import worked


@task(name="evolve", task_run_name="evolve {shard}", **STAGE)
def evolve_completions(recipe: str, shard: str, processes: int = 1) -> dict[str, Any]:
    known = recipe_of(recipe)
    assert known.evolution is not None
    return worked(lambda session: evolve_shard(known, shard, session), known.evolution.evolver, processes)
