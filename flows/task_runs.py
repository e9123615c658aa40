"""The work of a run as Prefect tasks: one task run per stage, shard, and member or judge.

Several shards are under way at a time, so one shard can be rated while the next is generated. When a task fails for
good, the shards under way are finished before the flow fails; the next run repeats nothing that was done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from functools import partial
from logging import Logger, LoggerAdapter
from typing import Any, cast

from prefect import Task, get_run_logger
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from pairsmith.building.runs import Release, Waves
from pairsmith.config import Recipe
from pairsmith.generation.evolution import STAGE as EVOLVE
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.criteria import STAGE as CRITERIA
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.publishing.publish import Published
from pairsmith.session import Session
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import StageResult, stages_of
from pairsmith.storage.versions import State
from pairsmith_flows.artifacts import progress_artifacts
from pairsmith_flows.service.stale import let_go, take_over
from pairsmith_tasks.criteria import write_criteria
from pairsmith_tasks.evolve import evolve_completions
from pairsmith_tasks.generate import generate_completions
from pairsmith_tasks.load import load_prompts
from pairsmith_tasks.look import find_lacking
from pairsmith_tasks.pair import select_pairs
from pairsmith_tasks.publish import publish_dataset
from pairsmith_tasks.rate import rate_completions
from pairsmith_tasks.survey import merge_shard_surveys, survey_completions

Futures = list[PrefectFuture[dict[str, Any]]]
_TASKS: dict[str, Task[..., Any]] = {
    GENERATE: generate_completions,
    EVOLVE: evolve_completions,
    CRITERIA: write_criteria,
    RATE: rate_completions,
    SURVEY: survey_completions,
    PAIR: select_pairs,
}
_ONE_AT_A_TIME = {GENERATE, RATE}  # their tasks take the name of one member or judge


class TaskRuns:
    """Does the work of a run within a flow, as Prefect tasks. See `building.runs.Workers`."""

    def __init__(self, recipe: Recipe, session: Session) -> None:
        self._recipe, self._session = recipe, session
        self._numbers: dict[str, int] = {}

    def load(self, full: bool) -> Loaded:
        take_over(self._recipe)
        loaded = Loaded(**load_prompts(self._recipe, full))
        self._numbers = {shard: number for number, shard in enumerate(loaded.shards, 1)}
        get_run_logger().info(
            "%d prompts in %d shards (%d new), %d rows rejected",
            loaded.accepted, len(loaded.shards), loaded.new, loaded.rejected,
        )  # fmt: skip
        return loaded

    def working(self, prompts: int) -> AbstractContextManager[None]:
        return progress_artifacts(self._recipe.name, stages_of(self._recipe), prompts, self._session)

    def find_lacking(self, shards: Sequence[str], stage: str) -> Mapping[str, list[str]]:
        return find_lacking(self._recipe, list(shards), stage)

    def work_on(self, shards: Iterable[str], waves: Waves) -> tuple[list[StageResult], list[BaseException]]:
        done: list[StageResult] = []
        failures: list[BaseException] = []
        under_way: deque[Futures] = deque()
        for shard in shards:
            if failures:
                break
            under_way.append(self._submitted(shard, waves))
            if len(under_way) == self._recipe.shards_in_flight:
                _finish(under_way.popleft(), done, failures)
        while under_way:
            _finish(under_way.popleft(), done, failures)
        return done, failures

    def _submitted(self, shard: str, waves: Waves) -> Futures:
        """The task runs of all steps of a shard, each wave waiting for those before it."""
        whole, futures, log = untracked(self._recipe), Futures(), get_run_logger()
        number = self._numbers.get(shard, shard)
        for wave in waves:
            before = list(futures)
            for step in wave:
                who = [step.who] if step.stage in _ONE_AT_A_TIME else []
                future = _TASKS[step.stage].submit(whole, shard, *who, wait_for=before)
                future.add_done_callback(partial(_say, log, f"{step.stage} shard {number}"))
                futures.append(future)
        return futures

    def merge_surveys(self, shards: Mapping[str, int]) -> list[str]:
        return merge_shard_surveys(self._recipe, dict(shards))

    def publish(self, loaded: Loaded, as_preview: bool) -> Release:
        found = publish_dataset(self._recipe, asdict(loaded), as_preview)
        let_go(self._recipe, asks=found["state"] == State.CANDIDATE and not found["failing"])
        published = Published(**{part.name: found[part.name] for part in fields(Published)})
        return Release(published, found["funnel"], found["passed_over"], found["gates"], found["failures"])


def untracked(recipe: Recipe) -> Recipe:
    """The recipe as a parameter that Prefect does not search for results of other tasks.

    Prefect recognises results by their address in memory, and so finds tasks that have nothing to do with the recipe.
    """
    return cast("Recipe", quote(recipe))


def _say(log: Logger | LoggerAdapter[Logger], what: str, future: PrefectFuture[dict[str, Any]]) -> None:
    """Log that a task is done, and with how many rows. Its failure, with its name, is logged by Prefect; one that never
    ran, since a task before it failed, has no result. The wait takes no time here; without it the future would ask the
    server for its state, who may not know it yet."""
    future.wait()
    if future.state.is_completed():
        log.info("%s", told(what, StageResult(**future.result())))


def told(what: str, result: StageResult) -> str:
    """A line about a task that is done, such as `generate shard 3 by smollm: 256 rows, 2 failed`."""
    by = "" if result.who == "all" else f" by {result.who}"
    if result.awaited:
        return f"{what}{by}: waits for the answers to its batches"
    refused = f", {result.refused:,} of them refused" if result.refused else ""
    failed = f", {result.failed:,} failed{refused}" if result.failed else ""
    return f"{what}{by}: {result.rows:,} rows{failed}"


def _finish(futures: Futures, done: list[StageResult], failures: list[BaseException]) -> None:
    """Wait for the tasks of a shard, and add their results and failures."""
    for future in futures:
        future.wait()
        if future.state.is_completed():
            done.append(StageResult(**future.result()))
        elif not future.state.is_pending():  # pending: it never ran, since a task before it failed
            failures.append(cast("BaseException", future.result(raise_on_failure=False)))
