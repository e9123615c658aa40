"""The main flows: a recipe -> a preference data set. `task_runs` submits the work; `building.runs` orders it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.runtime import deployment, flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from pairsmith.building.runs import Release, run
from pairsmith.config import Recipe
from pairsmith.errors import ManyFailed
from pairsmith.judging.rating import STAGE as RATING
from pairsmith.llms.registry import pinned
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
    """The name of a flow run, which never changes: in a deployment the one that the run was made with, which a person
    may have typed; from the command line the recipe's name and the time. Tags name the data set in both."""
    if deployment.id is not None:
        return str(flow_run.name)
    recipe = flow_run.parameters["recipe"]
    name = recipe["name"] if isinstance(recipe, dict) else recipe.name
    return f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


# The options of all flows. Tasks wait for each other in the runner's threads, and the models limit how many batches run
# at a time. No result is kept, but Prefect always stores the error of a failed flow run: here as JSON, by default as a
# pickle.
FLOW: dict[str, Any] = {
    "flow_run_name": run_name,
    "task_runner": ThreadPoolTaskRunner(max_workers=256),
    "persist_result": False,
    "result_serializer": "json",
}


Days = Annotated[float, Field(gt=0, le=365)]
APPROVAL_DAYS = 7.0


@flow(name="build preference dataset", **FLOW)
def build_preference_dataset(
    recipe: Recipe, approval_days: Days = APPROVAL_DAYS, as_preview: bool = False
) -> dict[str, Any]:
    """Build the data set that `recipe` describes and publish its next version.

    Returns counts, the version and its folder. Raises RunError when a stage failed for good, and ManyFailed, with what
    it would have returned, where a member, evolver or judge failed too often for the version to be released.

    Args:
        recipe: Everything that decides what a run does.
        approval_days: Days that the run waits for a person, where a version needs approval.
        as_preview: Make no version, but the folder `preview` beside the versions, in place of the one before.
    """
    return decided(recipe) or ask_about(recipe, run_recipe(recipe, as_preview=as_preview), approval_days)


@flow(name="rate preference dataset", **FLOW)
def rate_preference_dataset(recipe: Recipe) -> dict[str, Any]:
    """Let the judges of `recipe` rate the completions that exist, and generate none.

    Returns counts, and under `lacking` what has no completions yet. Raises RunError where there are none at all.
    """
    return run_recipe(recipe, RATING)


@flow(name="pair preference dataset", **FLOW)
def pair_preference_dataset(recipe: Recipe, as_preview: bool = False) -> dict[str, Any]:
    """Select pairs from the completions and ratings that exist, and publish the next version, or the preview.

    No task that asks a member, evolver or judge is submitted. Raises RunError that says what is lacking.
    """
    return ask_about(recipe, run_recipe(recipe, PAIRING, as_preview=as_preview), APPROVAL_DAYS)


def decided(recipe: Recipe) -> dict[str, Any] | None:
    """Carry out a person's answer to this run's question; None where the run has no answer yet."""
    found = approval.answer_given()
    if found is None:
        return None
    result = approval.carry_out(recipe, *found)
    if recipe.publishing.hub and result["state"] == State.RELEASED:
        result["hub"] = push_dataset(recipe, result)
    return result


def ask_about(recipe: Recipe, result: dict[str, Any], days: float) -> dict[str, Any]:
    """Suspend the run where its version waits for a person; without a deployment, only log that it waits.

    Raises ManyFailed, and asks nobody, where too many calls failed: a run is either suspended or failed, and one that
    should be mended and run again must not look as if it only waited.
    """
    if result["failure"]:
        if result["state"] == State.CANDIDATE:
            approval.drop_questions(open_store(recipe), but=result["version"])
        raise ManyFailed(result["failure"], result)
    if result["state"] == State.CANDIDATE:
        approval.ask_person(recipe, result, days)
    return result


def run_recipe(recipe: Recipe, only: str | None = None, full: bool = False, as_preview: bool = False) -> dict[str, Any]:
    """Run all stages of a recipe, or `only` rating or pairing, within a flow run.

    `full`: read all sources again; `as_preview`: publish the preview, and no version.
    """
    check_code(recipe)
    recipe, log = pinned(recipe), get_run_logger()
    if warning := warn_of_open_server():
        log.warning(warning)
    with run_session() as session:
        outcome = run(recipe, TaskRuns(recipe, session), session, only, full, as_preview)
        found: dict[str, Any] = {
            "prompts": outcome.loaded.accepted,
            "loaded": asdict(outcome.loaded),
            "usage": show_usage(recipe, outcome.usage),
        }
        if outcome.release is None:
            return found | {"lacking": outcome.lacking}
        return found | announced(recipe, outcome.release)


def announced(recipe: Recipe, release: Release) -> dict[str, Any]:
    """Announce a version in the log and as an event, and push it to the Hub; returns its part of the flow's result."""
    published = release.published
    found: dict[str, Any] = asdict(published) | {
        "reasons": list(published.reasons), "failing": list(published.failing),
        "funnel": release.funnel, "passed_over": release.passed_over, "gates": release.gates,
        "failures": release.failures, "failure": published.failure,
    }  # fmt: skip
    if published.state is State.PREVIEW:
        get_run_logger().info("preview, in %s", published.folder)
        return found
    if published.new:
        numbers = {name: found[name] for name in ("version", "pairs", "digest", "folder", "latest")}
        approval.announce(open_store(recipe), published.state, published.version, numbers)
    if recipe.publishing.hub:
        found["hub"] = push_dataset(recipe, found)
    news = "new:" if published.new else "unchanged:"
    get_run_logger().info("%s %s, %s, in %s", news, published.version, published.state, published.folder)
    return found


def show_usage(recipe: Recipe, usage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make an artifact of the calls to models; returns them."""
    create_table_artifact(usage, key=artifact_key(recipe.name, "usage"), description="What this run asked of models")
    if failed := sum(row["failed"] for row in usage):
        refused = sum(row["refused"] for row in usage)
        again = f"; {refused} of them were refused, and will be again unless something changes" if refused else ""
        get_run_logger().warning("%d requests failed and are asked again on the next run%s", failed, again)
    return usage
