"""Decide: a person's decision about a version that waits -> its state, and the version that `latest` leads to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from prefect import task

from pairsmith.config import Recipe
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session

DECIDE = {"release": versions.release, "reject": versions.reject}


@task(name="decide", task_run_name="{decision} {version}", **STAGE)
def decide_version(
    recipe: Recipe, version: str, decision: Literal["release", "reject"], by: str, reason: str
) -> dict[str, Any]:
    return asdict(DECIDE[decision](open_store(recipe, task_session()), version, by=by, reason=reason))
