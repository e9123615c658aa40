"""The main flow: a recipe -> a preference data set.

One task run per stage and shard (and member or judge). Several shards are under way at a time, so a shard can be
rated while the next is generated. When a task fails for good, the shards under way are finished before the flow
fails; a run after that repeats nothing that was done.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, cast

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote
from pydantic import Field

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith.judging.rating import STAGE as RATING
from pairsmith.ledger.replies import open_ledger
from pairsmith.memory import frugal_memory
from pairsmith.pairing.select import STAGE as PAIRING
from pairsmith.progress import Progress, emit
from pairsmith.stages.base import ASKS_NOTHING, open_store, stages_of
from pairsmith.stages.freshness import unfinished
from pairsmith.storage.versions import State
from pairsmith_flows import approval
from pairsmith_flows.artifacts import progress_artifacts
from pairsmith_flows.service.allowed_code import check_code
from pairsmith_flows.service.server import warn_of_open_server
from pairsmith_flows.service.stale import let_go, take_over
from pairsmith_tasks.evolve import evolve_completions
from pairsmith_tasks.generate import generate_completions
from pairsmith_tasks.load import load_prompts
from pairsmith_tasks.look import find_lacking
from pairsmith_tasks.pair import select_pairs
from pairsmith_tasks.publish import artifact_key, publish_dataset, push_dataset
from pairsmith_tasks.rate import rate_completions
from pairsmith_tasks.survey import merge_shard_surveys, survey_completions

Futures = list[PrefectFuture[dict[str, Any]]]
COUNTED = ("calls", "prompt_tokens", "tokens", "cost", "failed")
Usage = dict[tuple[str, str], dict[str, float]]  # (stage, who) -> what was asked in this run


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
    found = approval.answer()
    if found is None:
        return None
    result = approval.carry_out(recipe, *found)
    if recipe.publishing.hub and result["state"] == State.RELEASED:
        result["hub"] = push_dataset(recipe, result)
    return result


def ask_about(recipe: Recipe, result: dict[str, Any], days: float) -> dict[str, Any]:
    """Suspend the run where its version waits for a person; without a deployment, only say so."""
    if result["state"] == State.CANDIDATE:
        approval.ask(recipe, result, days)
    return result


def run_recipe(recipe: Recipe, only: str | None = None, full: bool = False) -> dict[str, Any]:
    """All stages of a recipe, or `only` that of rating or pairing, within a flow run; `full`: all sources afresh."""
    check_code(recipe)
    log = get_run_logger()
    if warning := warn_of_open_server():
        log.warning(warning)
    ledger, dataset = open_ledger(recipe.ledger_url), open_store(recipe)
    with frugal_memory(), dataset.lock(), ledger.lock(dataset.root):
        take_over(recipe)
        loaded = load_prompts(recipe, full)
        prompts = sum(loaded["shards"].values())
        log.info(
            "%d prompts in %d shards (%d new), %d rows rejected",
            prompts, len(loaded["shards"]), loaded["new"], loaded["rejected"],
        )  # fmt: skip
        for stage in stages_of(recipe):
            emit(Progress(stage, total=prompts))
        usage: Usage = {}
        with progress_artifacts(recipe.name, stages_of(recipe), prompts):
            shards = unfinished(recipe, loaded["shards"])
            lacking = find_lacking(recipe, shards, only) if only else {}
            if lacking and (only == PAIRING or len(lacking) == len(loaded["shards"])):
                raise RunError(f"nothing was done: {told_lacking(lacking, loaded['shards'])}")
            ready = [shard for shard in shards if shard not in lacking]
            failures = work_on(ready, partial(submit_shard, recipe, only=only), recipe, usage)
            if recipe.needs_survey and only != RATING and not failures:
                shards = merge_shard_surveys(recipe, loaded["shards"])
                failures = work_on(shards, partial(submit_pairing, recipe), recipe, usage)
        if failures:
            kind = ConfigError if any(isinstance(failure, ConfigError) for failure in failures) else RunError
            raise kind(f"{len(failures)} task runs failed; what was done is kept. First: {failures[0]}")
        if only == RATING:
            left = told_lacking(lacking, loaded["shards"]) if lacking else None
            return {"prompts": prompts, "loaded": loaded, "usage": asked_table(recipe, usage), "lacking": left}
        published = publish_dataset(recipe, loaded)
        let_go(recipe, asks=published["state"] == State.CANDIDATE)
    if published["new"]:
        approval.announce(dataset, published["state"], published["version"], told_of(published))
    if recipe.publishing.hub:
        published["hub"] = push_dataset(recipe, published)
    table = asked_table(recipe, usage)
    log.info(
        "%s %s, %s, in %s",
        "new:" if published["new"] else "unchanged:",
        published["version"],
        published["state"],
        published["folder"],
    )
    return published | {"prompts": prompts, "loaded": loaded, "usage": table}


def told_of(published: dict[str, Any]) -> dict[str, Any]:
    """What an event says about a version: numbers and places."""
    return {name: published[name] for name in ("version", "pairs", "digest", "folder", "latest")}


def asked_table(recipe: Recipe, usage: Usage) -> list[dict[str, Any]]:
    """What a run asked of models, also as an artifact."""
    table: list[dict[str, Any]] = [{"stage": stage, "who": who, **counts} for (stage, who), counts in usage.items()]
    create_table_artifact(table, key=artifact_key(recipe.name, "usage"), description="What this run asked of models")
    if failed := sum(row["failed"] for row in table):
        get_run_logger().warning("%d requests failed and are asked again on the next run", failed)
    return table


def told_lacking(lacking: dict[str, list[str]], shards: dict[str, int]) -> str:
    """What is not there, for how many prompts, and which command makes it."""
    prompts: Counter[str] = Counter()
    for shard, absent in lacking.items():
        prompts.update(dict.fromkeys(absent, shards[shard]))
    told = "; ".join(f"{count} of {sum(shards.values())} prompts have no {what}" for what, count in prompts.items())
    command = "rate" if all(what.startswith("ratings") for what in prompts) else "run"
    return f"{told}. `pairsmith {command}` with this recipe makes them"


def work_on(
    shards: Iterable[str], submit: Callable[[str], Futures], recipe: Recipe, usage: Usage
) -> list[BaseException]:
    """Submit some shards, several at a time, and none after a failure; returns what failed."""
    failures: list[BaseException] = []
    under_way: deque[Futures] = deque()
    for shard in shards:
        if failures:
            break
        under_way.append(submit(shard))
        if len(under_way) == recipe.shards_in_flight:
            failures += finish(under_way.popleft(), usage)
    while under_way:
        failures += finish(under_way.popleft(), usage)
    return failures


def submit_shard(recipe: Recipe, shard: str, only: str | None = None) -> Futures:
    """Submit all stages of a shard, each waiting for those before it. For pairing `only`, none of those that ask.

    With a survey, pairs wait for all shards.
    """
    futures: Futures = []
    whole = untracked(recipe)
    if only is None:
        futures += [generate_completions.submit(whole, shard, member.name) for member in recipe.pool.members]
        if recipe.evolution:
            futures += [evolve_completions.submit(whole, shard, return_state=False, wait_for=list(futures))]
    if recipe.rating:
        before = list(futures)
        futures += [
            rate_completions.submit(whole, shard, rater, return_state=False, wait_for=before)
            for rater in (recipe.rating.unasked if only == PAIRING else recipe.rating.raters)
        ]
    if only == RATING:
        return futures
    last = survey_completions if recipe.needs_survey else select_pairs
    return [*futures, last.submit(whole, shard, return_state=False, wait_for=list(futures))]


def submit_pairing(recipe: Recipe, shard: str) -> Futures:
    return [select_pairs.submit(untracked(recipe), shard)]


def untracked(recipe: Recipe) -> Recipe:
    """The recipe as a parameter in which Prefect does not look for what tasks returned.

    It looks by the address in memory, and so finds tasks that have nothing to do with it.
    """
    return cast("Recipe", quote(recipe))


def finish(futures: Futures, usage: Usage) -> list[BaseException]:
    """Wait for a shard, add to `usage` what its models were asked; returns what failed."""
    failures: list[BaseException] = []
    for future in futures:
        future.wait()
        if future.state.is_completed():
            done = future.result()
            if done["stage"] not in ASKS_NOTHING:
                counts = usage.setdefault((done["stage"], done["who"]), dict.fromkeys(COUNTED, 0))
                for name in COUNTED:
                    counts[name] += done[name]
        elif not future.state.is_pending():  # pending: never ran, since one before it failed
            failures.append(cast("BaseException", future.result(raise_on_failure=False)))
    return failures
