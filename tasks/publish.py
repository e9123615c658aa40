"""Publish: pairs -> the next version of the data set, its card and report; artifacts for the Prefect UI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from pairsmith import stages
from pairsmith.config import Recipe
from pairsmith.publishing import Published
from pairsmith.report import render_markdown
from pairsmith.sharding import Loaded
from tasks.options import STAGE


@task(name="publish", task_run_name="publish", **STAGE)
def publish_dataset(recipe: Recipe, loaded: dict[str, Any]) -> dict[str, Any]:
    published, summary = stages.publish_run(recipe, Loaded(**loaded))
    key = artifact_key(recipe.name)
    create_table_artifact(summary.lost(), key=f"{key}-funnel", description="Prompts that came through each stage")
    create_markdown_artifact(render_markdown(recipe, summary), key=f"{key}-summary")
    if Path(published.folder).exists():
        create_link_artifact(
            Path(published.folder, "report.html").absolute().as_uri(),
            f"report of {published.version}",
            key=f"{key}-report",
        )
    return asdict(published) | {"funnel": summary.lost()}


@task(name="push to hub", task_run_name="push to hub", **STAGE)
def push_dataset(recipe: Recipe, published: dict[str, Any]) -> str | None:
    fields = Published.__dataclass_fields__
    return stages.push(recipe, Published(**{name: published[name] for name in fields}))


def artifact_key(name: str) -> str:
    """A recipe's name in the form that Prefect takes for artifact keys: lower case, digits, dashes."""
    return name.replace(".", "-").replace("_", "-")
