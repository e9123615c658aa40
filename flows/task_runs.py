"""The work of a run as Prefect tasks: one task run per stage, shard, and member or judge.

Tasks run in threads of this process, or by an engine in others: between them and the run pass texts, names and what the
tasks return. Several shards are under way at a time, so one can be rated while the next is generated. When a task fails
for good, the shards under way are finished before the flow fails; the next run repeats nothing that was done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, fields
from functools import partial
from logging import Logger, LoggerAdapter
from typing import Any
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectFuture

from pairsmith.building.runs import Release, Waves
from pairsmith.building.unreported import unreported
from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith.generation.evolution import STAGE as EVOLVE
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.criteria import STAGE as CRITERIA
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.spending import Asked
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.publishing.publish import Published
from pairsmith.session import Session
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import ASKS_NOTHING, StageResult, open_store, stages_of
from pairsmith.stages.reached import stop_if_nobody_is_there
from pairsmith.storage.versions import State
from pairsmith_flows.artifacts import progress_artifacts
from pairsmith_flows.engines.sharing import processes_at_work
from pairsmith_flows.service.stale import let_go, take_over
from pairsmith_tasks.criteria import write_criteria
from pairsmith_tasks.evolve import evolve_completions
from pairsmith_tasks.generate import generate_completions
from pairsmith_tasks.load import load_prompts
from pairsmith_tasks.look import find_lacking
from pairsmith_tasks.pair import select_pairs
from pairsmith_tasks.publish import publish_dataset
from pairsmith_tasks.rate import rate_completions
from pairsmith_tasks.recipes import text_of
from pairsmith_tasks.survey import merge_shard_surveys, survey_completions
from pairsmith_tasks.working import taken_apart

Futures = list[PrefectFuture[dict[str, Any]]]
Log = Logger | LoggerAdapter[Logger]
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
        self._recipe, self._session, self._text = recipe, session, text_of(recipe)
        self._numbers: dict[str, int] = {}
        self._done: list[StageResult] = []
        self._asked_before: Mapping[str, Asked] = {}
        self._told, self._telling = set[UUID](), threading.Lock()  # task runs of which the session has heard

    def load(self, full: bool) -> Loaded:
        take_over(self._recipe)
        self._asked_before = self._asked()
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
                self._finish(under_way.popleft(), done, failures)
        while under_way:
            self._finish(under_way.popleft(), done, failures)
        return done + self._unreported(done), failures

    def _unreported(self, done: list[StageResult]) -> list[StageResult]:
        """What tasks of other processes asked beside what they returned."""
        self._done += done
        if processes_at_work() is None:
            return []
        found = unreported(self._recipe, self._done, self._asked_before, self._asked())
        self._done += found
        return found

    def _asked(self) -> Mapping[str, Asked]:
        """What the ledger has of the data set's requests; of interest where their processes may be killed alone."""
        if processes_at_work() is None:
            return {}
        return open_ledger(self._recipe.ledger_url, self._session).spending.asked(self._recipe.name)

    def _submitted(self, shard: str, waves: Waves) -> Futures:
        """The task runs of all steps of a shard, each wave waiting for those before it."""
        futures, log, number = Futures(), get_run_logger(), self._numbers.get(shard, shard)
        sharing: dict[str, int] = {"processes": processes_at_work() or 1}
        for wave in waves:
            before = list(futures)
            for step in wave:
                who = [step.who] if step.stage in _ONE_AT_A_TIME else []
                more = {} if step.stage in ASKS_NOTHING else sharing
                future = _TASKS[step.stage].submit(self._text, shard, *who, **more, wait_for=before)
                future.add_done_callback(partial(self._say, log, f"{step.stage} shard {number}"))
                futures.append(future)
        return futures

    def _say(self, log: Log, what: str, future: PrefectFuture[dict[str, Any]]) -> None:
        """Log that a task is done, and with how many rows. Its failure, with its name, is logged by Prefect."""
        found = _outcome(future)
        if isinstance(found, Mapping):
            log.info("%s", told(what, self._heard(future, found)))

    def _heard(self, future: PrefectFuture[dict[str, Any]], found: Mapping[str, Any]) -> StageResult:
        """What a task returned; what it told in another process is told here, once."""
        result, progress = taken_apart(found)
        with self._telling:
            is_news = bool(progress) and future.task_run_id not in self._told
            self._told.update({future.task_run_id} if is_news else ())
        with suppress(RunError):  # from a listener that saw the run's hold lost; the run looks for itself
            for event in progress if is_news else ():
                self._session.tell(event)
        return result

    def _finish(self, futures: Futures, done: list[StageResult], failures: list[BaseException]) -> None:
        """Wait for the tasks of a shard, and add their results and failures."""
        for future in futures:
            found = _outcome(future)
            if isinstance(found, BaseException):
                failures.append(found)
            elif found is not None:
                done.append(self._heard(future, found))
                failures += self._nobody_there(done[-1])

    def _nobody_there(self, result: StageResult) -> list[BaseException]:
        """The failure of a run in which nobody is left to answer, which a task of another process cannot know."""
        if not result.unreached:
            return []
        store, found = open_store(self._recipe, self._session), (result.stage, result.who, result.unreached)
        try:
            stop_if_nobody_is_there(self._recipe, store, *found, self._session)
        except ConfigError as error:
            return [error]
        return []

    def merge_surveys(self, shards: Mapping[str, int]) -> list[str]:
        return merge_shard_surveys(self._recipe, dict(shards))

    def publish(self, loaded: Loaded, as_preview: bool) -> Release:
        found = publish_dataset(self._recipe, asdict(loaded), as_preview)
        let_go(self._recipe, asks=found["state"] == State.CANDIDATE and not found["failing"])
        published = Published(**{part.name: found[part.name] for part in fields(Published)})
        return Release(published, found["funnel"], found["passed_over"], found["gates"], found["failures"])


def _outcome(future: PrefectFuture[dict[str, Any]]) -> Any:
    """What a task returned or failed with, once it has ended; None where it never ran, since one before it failed.

    No server is asked for its state, who may not know it yet.
    """
    try:
        return future.result(raise_on_failure=False)
    except UnfinishedRun:
        return None
    except Exception as error:  # the engine's own: it ended without a state
        return RunError(f"the engine gave a task up ({type(error).__name__}: {error}); run again to go on")


def told(what: str, result: StageResult) -> str:
    """A line about a task that is done, such as `generate shard 3 by smollm: 256 rows, 2 failed`."""
    by = "" if result.who == "all" else f" by {result.who}"
    if result.awaited:
        return f"{what}{by}: waits for the answers to its batches"
    refused = f", {result.refused:,} of them refused" if result.refused else ""
    failed = f", {result.failed:,} failed{refused}" if result.failed else ""
    return f"{what}{by}: {result.rows:,} rows{failed}"
