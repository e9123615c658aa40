"""Publish: pairs -> the next version of the data set, its card and report; artifacts for the Prefect UI."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from pairsmith.config import Recipe
from pairsmith.publishing.publish import Published
from pairsmith.reporting.failures import failure_table
from pairsmith.reporting.page import render_markdown
from pairsmith.reporting.reason_words import reasons_text
from pairsmith.reporting.samples import render_samples, some_pairs
from pairsmith.reporting.summary_tables import funnel_table
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import open_store
from pairsmith.stages.publish import gate_table, publish_run, push
from pairsmith.storage.previews import PREVIEW, version_or_preview
from pairsmith.storage.versions import State
from pairsmith_tasks import served_reports
from pairsmith_tasks.options import STAGE
from pairsmith_tasks.sessions import task_session

SAMPLES = 3  # pairs in an artifact


@task(name="publish", task_run_name="publish", **STAGE)
def publish_dataset(recipe: Recipe, loaded: dict[str, Any], as_preview: bool = False) -> dict[str, Any]:
    known = Loaded(**loaded)
    published, summary = publish_run(recipe, known, task_session(), as_preview)
    gates = gate_table(recipe, known, task_session())
    show_version(recipe, published, gates)
    table = funnel_table(summary)
    create_table_artifact(table, key=artifact_key(recipe.name, "funnel"), description="Prompts by stage")
    create_markdown_artifact(
        render_markdown(recipe, summary),
        key=artifact_key(recipe.name, "summary"),
        description="Outcome of the prompts",
    )
    found = {"funnel": table, "passed_over": reasons_text(summary.completion_reasons), "gates": gates}
    found["failures"] = failure_table(summary.failures, recipe)
    return asdict(published) | found | {name: list(getattr(published, name)) for name in ("reasons", "failing")}


@task(name="push to hub", task_run_name="push to hub", **STAGE)
def push_dataset(recipe: Recipe, published: dict[str, Any]) -> str | None:
    fields = Published.__dataclass_fields__
    return push(recipe, Published(**{name: published[name] for name in fields}), task_session())


def show_version(recipe: Recipe, published: Published, gates: list[dict[str, Any]]) -> None:
    """Make the artifacts of a version: links to it and its report, its gates, and some of its pairs."""
    store, is_preview = open_store(recipe, task_session()), published.state is State.PREVIEW
    title = "the preview" if is_preview else f"{published.version} ({published.state})"
    create_table_artifact(gates, key=artifact_key(recipe.name, "gates"), description=f"Quality gates of {title}")
    if version := version_or_preview(store, published.version):
        folder, served = PREVIEW if is_preview else f"versions/{version.name}", served_reports.note(store, version)
        for what, place in (("dataset", folder), ("report", version.place("report.html"))):
            create_link_artifact(
                (served if what == "report" else None) or store.files.link(place),
                link_text=store.url(place),
                key=artifact_key(recipe.name, what),
                description=f"{what} of {title}",
            )
        create_markdown_artifact(
            render_samples(some_pairs(store, version, SAMPLES)),
            key=artifact_key(recipe.name, "samples"),
            description=f"Some pairs of {title}",
        )


def artifact_key(name: str, what: str) -> str:
    """The key of an artifact about a recipe, in the form that Prefect accepts: lower case, digits, dashes."""
    return f"{name.replace('.', '-').replace('_', '-')}-{what}"
