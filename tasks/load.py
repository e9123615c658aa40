"""Load: sources -> prompts in shards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task

from pairsmith import stages
from pairsmith.config import Recipe
from tasks.options import STAGE


@task(name="load", task_run_name="load prompts", **STAGE)
def load_prompts(recipe: Recipe, full: bool = False) -> dict[str, Any]:
    """`full`: whatever is remembered of the sources is forgotten first."""
    if full:
        stages.forget_sources(recipe)
    return asdict(stages.load(recipe))
