"""Load: sources -> prompts in shards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.load import forget_sources
from pairsmith.stages.load import load as load_sources
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session


@task(name="load", task_run_name="load prompts", **STAGE)
def load_prompts(recipe: Recipe, full: bool = False) -> dict[str, Any]:
    """`full`: forget what earlier loads noted about the sources first."""
    if full:
        forget_sources(recipe, task_session())
    return asdict(load_sources(recipe, task_session()))
