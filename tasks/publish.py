"""Publish: pairs -> the next version of the data set, its card and report; artifacts for the Prefect UI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from pairsmith.config import Recipe
from pairsmith.publishing.publish import Published
from pairsmith.reporting.page import render_markdown
from pairsmith.reporting.samples import render_samples, some_pairs
from pairsmith.reporting.summary_tables import funnel_table, reasons_text
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import open_store
from pairsmith.stages.publish import gate_table, publish_run, push
from pairsmith.storage import versions
from pairsmith_tasks.options import STAGE

SAMPLES = 3  # pairs in an artifact


@task(name="publish", task_run_name="publish", **STAGE)
def publish_dataset(recipe: Recipe, loaded: dict[str, Any]) -> dict[str, Any]:
    known = Loaded(**loaded)
    published, summary = publish_run(recipe, known)
    gates = gate_table(recipe, known)
    show_version(recipe, published, gates)
    table = funnel_table(summary)
    create_table_artifact(table, key=artifact_key(recipe.name, "funnel"), description="Prompts by stage")
    create_markdown_artifact(
        render_markdown(recipe, summary),
        key=artifact_key(recipe.name, "summary"),
        description="What came of the prompts",
    )
    found = {"funnel": table, "passed_over": reasons_text(summary.completion_reasons), "gates": gates}
    return asdict(published) | found


@task(name="push to hub", task_run_name="push to hub", **STAGE)
def push_dataset(recipe: Recipe, published: dict[str, Any]) -> str | None:
    fields = Published.__dataclass_fields__
    return push(recipe, Published(**{name: published[name] for name in fields}))


def show_version(recipe: Recipe, published: Published, gates: list[dict[str, Any]]) -> None:
    """Artifacts of a version: where it and its report are, its gates, and some of its pairs."""
    store, told = open_store(recipe), f"{published.version} ({published.state})"
    create_table_artifact(gates, key=artifact_key(recipe.name, "gates"), description=f"Quality gates of {told}")
    for what, name in (("dataset", ""), ("report", "report.html")):
        place = f"{published.folder}/{name}".rstrip("/")
        link = Path(place).absolute().as_uri() if store.is_local else place
        create_link_artifact(
            link, link_text=place, key=artifact_key(recipe.name, what), description=f"{what} of {told}"
        )
    if version := versions.version_at(store, published.version):
        create_markdown_artifact(
            render_samples(some_pairs(store, version, SAMPLES)),
            key=artifact_key(recipe.name, "samples"),
            description=f"Some pairs of {told}",
        )


def artifact_key(name: str, what: str) -> str:
    """A key for something about a recipe in the form that Prefect takes: lower case, digits, dashes."""
    return f"{name.replace('.', '-').replace('_', '-')}-{what}"
