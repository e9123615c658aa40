"""The main flow: a recipe -> a preference data set. `task_runs` submits the work; `building.runs` decides its order."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from pairsmith.building.runs import Release, run
from pairsmith.config import Recipe
from pairsmith.judging.rating import STAGE as RATING
from pairsmith.pairing.select import STAGE as PAIRING
from pairsmith.stages.base import open_store
from pairsmith.storage.versions import State
from pairsmith_flows import approval
from pairsmith_flows.service.allowed_code import check_code
from pairsmith_flows.service.server import warn_of_open_server
from pairsmith_flows.task_runs import TaskRuns
from pairsmith_tasks.publish import artifact_key, push_dataset
from pairsmith_tasks.sessions import run_session


def run_name() -> str:
    """Recipe and time, as a person looks for a run; one that is resumed keeps its name."""
    recipe = flow_run.parameters.get("recipe") or {}
    name = recipe.get("name") if isinstance(recipe, dict) else recipe.name
    if re.fullmatch(rf"{re.escape(str(name))} \d{{4}}-\d\d-\d\d [\d:]+", str(flow_run.name)):
        return str(flow_run.name)
    return f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


# What both flows have in common. Tasks wait for each other in the runner's threads; how many batches run at a time is
# for the models to decide. No result is kept, but Prefect always writes the error of a flow run that failed: as JSON
# here, where it would choose a pickle.
FLOW: dict[str, Any] = {
    "flow_run_name": run_name,
    "task_runner": ThreadPoolTaskRunner(max_workers=256),
    "persist_result": False,
    "result_serializer": "json",
}


Days = Annotated[float, Field(gt=0, le=365)]
APPROVAL_DAYS = 7.0


@flow(name="build preference dataset", **FLOW)
def build_preference_dataset(recipe: Recipe, approval_days: Days = APPROVAL_DAYS) -> dict[str, Any]:
    """Build the data set that `recipe` describes and publish its next version.

    Returns counts, the version and where it stands. Raises RunError when a stage failed for good.

    Args:
        recipe: Everything that decides what a run does.
        approval_days: Days that the run waits for a person, where a version needs approval.
    """
    return decided(recipe) or ask_about(recipe, run_recipe(recipe), approval_days)


@flow(name="rate preference dataset", **FLOW)
def rate_preference_dataset(recipe: Recipe) -> dict[str, Any]:
    """Let the judges of `recipe` rate what completions there are, and generate none.

    Returns counts, and under `lacking` what has no completions yet. Raises RunError where nothing has.
    """
    return run_recipe(recipe, RATING)


@flow(name="pair preference dataset", **FLOW)
def pair_preference_dataset(recipe: Recipe) -> dict[str, Any]:
    """Select pairs from what completions and ratings there are, and publish the next version of the data set.

    No task that could ask a model is ever submitted. Raises RunError that says what is lacking.
    """
    return ask_about(recipe, run_recipe(recipe, PAIRING), APPROVAL_DAYS)


def decided(recipe: Recipe) -> dict[str, Any] | None:
    """Carry out what a person answered to this run's question; None where it has asked none yet."""
    found = approval.answer_given()
    if found is None:
        return None
    result = approval.carry_out(recipe, *found)
    if recipe.publishing.hub and result["state"] == State.RELEASED:
        result["hub"] = push_dataset(recipe, result)
    return result


def ask_about(recipe: Recipe, result: dict[str, Any], days: float) -> dict[str, Any]:
    """Suspend the run where its version waits for a person; without a deployment, only say so."""
    if result["state"] == State.CANDIDATE:
        approval.ask_person(recipe, result, days)
    return result


def run_recipe(recipe: Recipe, only: str | None = None, full: bool = False) -> dict[str, Any]:
    """All stages of a recipe, or `only` that of rating or pairing, within a flow run; `full`: all sources afresh."""
    check_code(recipe)
    log = get_run_logger()
    if warning := warn_of_open_server():
        log.warning(warning)
    with run_session() as session:
        outcome = run(recipe, TaskRuns(recipe, session), session, only, full)
        found: dict[str, Any] = {
            "prompts": outcome.loaded.accepted,
            "loaded": asdict(outcome.loaded),
            "usage": show_usage(recipe, outcome.usage),
        }
        if outcome.release is None:
            return found | {"lacking": outcome.lacking}
        return found | announced(recipe, outcome.release)


def announced(recipe: Recipe, release: Release) -> dict[str, Any]:
    """Tell of a version in the log, as an event and on the Hub; returns what a flow run says of it."""
    published = release.published
    found: dict[str, Any] = asdict(published) | {
        "funnel": release.funnel, "passed_over": release.passed_over, "gates": release.gates
    }  # fmt: skip
    if published.new:
        numbers = {name: found[name] for name in ("version", "pairs", "digest", "folder", "latest")}
        approval.announce(open_store(recipe), published.state, published.version, numbers)
    if recipe.publishing.hub:
        found["hub"] = push_dataset(recipe, found)
    news = "new:" if published.new else "unchanged:"
    get_run_logger().info("%s %s, %s, in %s", news, published.version, published.state, published.folder)
    return found


def show_usage(recipe: Recipe, usage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a run asked of models, also as an artifact."""
    create_table_artifact(usage, key=artifact_key(recipe.name, "usage"), description="What this run asked of models")
    if failed := sum(row["failed"] for row in usage):
        get_run_logger().warning("%d requests failed and are asked again on the next run", failed)
    return usage
