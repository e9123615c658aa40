"""Run a recipe: load, all stages of each shard, a version. Prefect's flows differ only in who does the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from pairsmith.config import Recipe
from pairsmith.config.loading import as_recipe
from pairsmith.errors import ConfigError, PairsmithError, RunError
from pairsmith.generation.evolution import STAGE as EVOLVE
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.criteria import STAGE as CRITERIA
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.earlier import tell_of_unadopted
from pairsmith.llms.endpoint.batch_gathering import desks_of
from pairsmith.llms.endpoint.hosts import tell_of_other_hosts
from pairsmith.llms.registry import pinned
from pairsmith.memory import frugal_memory
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.planning.preflight import require_all
from pairsmith.progress import Progress
from pairsmith.publishing.publish import Published
from pairsmith.reporting.failures import failure_table
from pairsmith.reporting.reason_words import reasons_text
from pairsmith.reporting.summary_tables import funnel_table
from pairsmith.session import Session
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import ASKS_NOTHING, StageResult, open_store, stages_of
from pairsmith.stages.criteria import write_shard
from pairsmith.stages.evolve import evolve_shard
from pairsmith.stages.freshness import lacking, unfinished
from pairsmith.stages.generate import generate_shard
from pairsmith.stages.load import forget_sources, load
from pairsmith.stages.pair import pair_shard
from pairsmith.stages.publish import gate_table, publish_run, push
from pairsmith.stages.rate import rate_shard
from pairsmith.stages.survey import merge_surveys, survey_shard
from pairsmith.stages.wiring import is_in_batches
from pairsmith.storage.fence import Fence, fence_key
from pairsmith.storage.store import Store

COUNTED = ("calls", "prompt_tokens", "tokens", "cost", "retries", "failed", "refused")
Row = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What one member, evolver or judge does to a shard, or all of them together."""

    stage: str
    who: str = "all"


Waves = Sequence[Sequence[Step]]  # the steps of a shard; each wave waits for those before it


@dataclass(frozen=True)
class Release:
    """A version that was published, and what a person wants to know of it at once; `failures`: who failed and why."""

    published: Published
    funnel: list[Row]
    passed_over: str
    gates: list[Row]
    failures: list[Row]


@dataclass(frozen=True)
class Outcome:
    """What a run did. `usage`: what it asked of whom; `lacking`: what a stage that ran alone could not be done for.

    `release` is null where completions were only rated.
    """

    loaded: Loaded
    usage: list[Row]
    lacking: str | None
    release: Release | None


class Workers(Protocol):
    """Who does the work of a run: threads of this process, or Prefect's tasks."""

    def load(self, full: bool) -> Loaded:
        """Lay the prompts out in shards; `full`: read all sources afresh."""

    def working(self, prompts: int) -> AbstractContextManager[None]:
        """Around the work on shards, of so many prompts."""

    def find_lacking(self, shards: Sequence[str], stage: str) -> Mapping[str, list[str]]:
        """What is lacking for a stage that runs alone, by shard."""

    def work_on(self, shards: Iterable[str], waves: Waves) -> tuple[list[StageResult], list[BaseException]]:
        """Do all steps of some shards, and begin none after a failure; returns what was done and what failed."""

    def merge_surveys(self, shards: Mapping[str, int]) -> list[str]:
        """Tell every shard what all together say; returns those whose pairs are to be selected."""

    def publish(self, loaded: Loaded, as_preview: bool) -> Release:
        """Publish the next version, or the preview."""


def waves_of(recipe: Recipe, only: str | None = None) -> Waves:
    """The steps of each shard of a recipe. `only` rating, or pairing, for which nobody is asked.

    With a survey, pairs wait for all shards and are no part of them.
    """
    waves: list[list[Step]] = []
    if only is None:
        waves.append([Step(GENERATE, member.name) for member in recipe.pool.members])
        if recipe.evolution:
            waves.append([Step(EVOLVE, recipe.evolution.evolver.name)])
    if recipe.criteria and only != PAIR:
        waves.append([Step(CRITERIA)])
    if recipe.rating:
        raters = recipe.rating.unasked if only == PAIR else recipe.rating.raters
        waves.append([Step(RATE, rater) for rater in raters])
    if only != RATE:
        waves.append([Step(SURVEY if recipe.needs_survey else PAIR)])
    return waves


def run(
    recipe: Recipe,
    workers: Workers,
    session: Session,
    only: str | None = None,
    full: bool = False,
    as_preview: bool = False,
) -> Outcome:
    """All stages of a recipe, or `only` rating or pairing of what is there, with its data set held for this run.

    `full`: all sources are read afresh; `as_preview`: what comes of it is the preview, and no version. Raises RunError
    where a stage failed for good, or where nothing can be done since completions or ratings are lacking.
    """
    require_all(recipe, asks=only is None)
    store, ledger = open_store(recipe, session), open_ledger(recipe.ledger_url, session)
    with frugal_memory(), store.lock(), ledger.lock(store.files) as fence, fenced(store, fence, session):
        tell_of_unadopted(recipe, ledger)
        tell_of_other_hosts(recipe.specs, ledger)
        loaded = workers.load(full)
        for stage in stages_of(recipe):
            session.tell(Progress(stage, total=loaded.accepted))
        with workers.working(loaded.accepted):
            left = unfinished(recipe, loaded.shards, session, with_uses=only is None)
            absent = workers.find_lacking(left, only) if only else {}
            told = lacking_text(absent, loaded.shards) if absent else None
            if absent and (only == PAIR or len(absent) == len(loaded.shards)):
                raise RunError(f"nothing was done: {told}")
            ready = [shard for shard in left if shard not in absent]
            going_on = takewhile(lambda _: not fence.is_lost, ready)
            done, failures = worked(recipe, workers, going_on, only, loaded, session)
        fence.stop_if_lost()
        stop_at(failures)
        release = None if only == RATE else workers.publish(loaded, as_preview)
        return Outcome(loaded, usage_of(done), told, release)


@contextmanager
def fenced(store: Store, fence: Fence, session: Session) -> Iterator[None]:
    """Stop the steps of this process, at their next reply, when another run has taken over; let publishing ask too."""
    with session.having(fence_key(store.root), fence), session.listening(fence.stop_if_lost):
        yield


def stop_at(failures: Sequence[BaseException]) -> None:
    """End a run of which a step failed for good."""
    if failures:
        kind = ConfigError if any(isinstance(failure, ConfigError) for failure in failures) else RunError
        first, *others = dict.fromkeys(map(_told, failures))
        more = f" ({len(others)} other failures)" if others else ""
        raise kind(f"the run stopped; what was answered is kept, and the next run goes on from it: {first}{more}")


def _told(failure: BaseException) -> str:
    """An error as a person reads it; one that is none of ours is called by its kind."""
    return str(failure) if isinstance(failure, PairsmithError) else f"{type(failure).__name__}: {failure}"


def worked(
    recipe: Recipe, workers: Workers, shards: Iterable[str], only: str | None, loaded: Loaded, session: Session
) -> tuple[list[StageResult], list[BaseException]]:
    """All steps of some shards, and with a survey the pairs of every shard for which it has news."""
    waves = waves_of(recipe, only)
    if any(is_in_batches(spec) for spec in recipe.specs):
        done, failures = _in_batches(recipe, workers, list(shards), waves, session)
    else:
        done, failures = workers.work_on(shards, waves)
    if recipe.needs_survey and only != RATE and not failures:
        more, failures = workers.work_on(workers.merge_surveys(loaded.shards), [[Step(PAIR)]])
        done += more
    return done, failures


def _in_batches(
    recipe: Recipe, workers: Workers, shards: list[str], waves: Waves, session: Session
) -> tuple[list[StageResult], list[BaseException]]:
    """All steps of some shards, a wave after the other for all of them: their requests are submitted together.

    A step whose requests are in batches ends at once, and is done again when they are answered. Where that takes
    longer than the deadline of an endpoint, its rows are left to a later run.
    """
    desks, done, failures = desks_of(session), list[StageResult](), list[BaseException]()
    seconds = max(spec.endpoint.deadline for spec in recipe.specs if spec.endpoint)
    for wave in waves:
        with desks.gathering():
            todo: list[tuple[list[str], Sequence[Step]]] = [(shards, wave)]
            while todo and not failures:
                awaited: dict[Step, list[str]] = {}
                for some, steps in todo:
                    results, failed = workers.work_on(some, [steps])
                    done += results
                    failures += failed
                    for one in results:
                        if one.awaited:
                            awaited.setdefault(Step(one.stage, one.who), []).append(one.shard)
                todo = [(some, [step]) for step, some in awaited.items()]
                if todo and not failures:
                    desks.settle(seconds)
        if failures:
            break
    return done, failures


def usage_of(done: Iterable[StageResult]) -> list[Row]:
    """What was asked of each member, evolver and judge."""
    counted: dict[tuple[str, str], Counter[str]] = {}
    for result in done:
        if result.stage not in ASKS_NOTHING:
            counts = counted.setdefault((result.stage, result.who), Counter())
            counts.update({name: getattr(result, name) for name in COUNTED})
    return [
        {"stage": stage, "who": who, **{name: counts[name] for name in COUNTED}}
        for (stage, who), counts in counted.items()
    ]


def lacking_text(absent: Mapping[str, Sequence[str]], shards: Mapping[str, int]) -> str:
    """What is not there, for how many prompts, and which command makes it."""
    prompts: Counter[str] = Counter()
    for shard, names in absent.items():
        prompts.update(dict.fromkeys(names, shards[shard]))
    found = "; ".join(f"{count} of {sum(shards.values())} prompts have no {what}" for what, count in prompts.items())
    command = "rate" if all(what.startswith("ratings") for what in prompts) else "run"
    return f"{found}. `pairsmith {command}` with this recipe makes them"


class Threads:
    """The work of a run in threads of this process: several shards at a time, and the steps of a wave side by side."""

    def __init__(self, recipe: Recipe, session: Session) -> None:
        self._recipe, self._session = recipe, session
        self._steps: dict[str, Callable[[str, str], StageResult]] = {
            GENERATE: lambda shard, who: generate_shard(recipe, shard, who, session),
            EVOLVE: lambda shard, _: evolve_shard(recipe, shard, session),
            CRITERIA: lambda shard, _: write_shard(recipe, shard, session),
            RATE: lambda shard, who: rate_shard(recipe, shard, who, session),
            SURVEY: lambda shard, _: survey_shard(recipe, shard, session),
            PAIR: lambda shard, _: pair_shard(recipe, shard, session),
        }

    def load(self, full: bool) -> Loaded:
        if full:
            forget_sources(self._recipe, self._session)
        return load(self._recipe, self._session)

    def working(self, prompts: int) -> AbstractContextManager[None]:
        return nullcontext()

    def find_lacking(self, shards: Sequence[str], stage: str) -> Mapping[str, list[str]]:
        found = {shard: lacking(self._recipe, shard, stage, self._session) for shard in shards}
        return {shard: absent for shard, absent in found.items() if absent}

    def work_on(self, shards: Iterable[str], waves: Waves) -> tuple[list[StageResult], list[BaseException]]:
        done: list[StageResult] = []
        failures: list[BaseException] = []
        left, under_way = iter(shards), set[Future[list[StageResult]]]()
        at_a_time, widest = self._recipe.shards_in_flight, max(map(len, waves))
        with ThreadPoolExecutor(at_a_time) as by_shard, ThreadPoolExecutor(at_a_time * widest) as by_step:
            while True:
                while not failures and len(under_way) < at_a_time and (shard := next(left, None)) is not None:
                    under_way.add(by_shard.submit(self._through, shard, waves, by_step))
                if not under_way:
                    return done, failures
                ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ended:
                    error = future.exception()
                    failures += [error] if error else []
                    done += [] if error else future.result()

    def _through(self, shard: str, waves: Waves, pool: ThreadPoolExecutor) -> list[StageResult]:
        """All steps of one shard. Those beside one that fails come to their end."""
        done: list[StageResult] = []
        for wave in waves:
            futures = [pool.submit(self._steps[step.stage], shard, step.who) for step in wave]
            wait(futures)
            done += [future.result() for future in futures]
        return done

    def merge_surveys(self, shards: Mapping[str, int]) -> list[str]:
        return merge_surveys(self._recipe, shards, self._session)

    def publish(self, loaded: Loaded, as_preview: bool) -> Release:
        published, summary = publish_run(self._recipe, loaded, self._session, as_preview)
        gates, passed_over = gate_table(self._recipe, loaded, self._session), reasons_text(summary.completion_reasons)
        failures = failure_table(summary.failures, self._recipe)
        return Release(published, funnel_table(summary), passed_over, gates, failures)


@contextmanager
def opened(session: Session | None) -> Iterator[Session]:
    """The session that was given, left open; or one of its own that ends with the block."""
    with nullcontext(session) if session else Session() as one:
        yield one


def build(
    recipe: Recipe | str | Path | Mapping[str, Any], session: Session | None = None, full: bool = False
) -> Outcome:
    """Run a recipe, its file or a mapping in this process, without Prefect, and publish its next version.

    What was made before is not made again, and no reply is asked for twice. `session` keeps weights and connections
    for what comes after; without one they are let go at the end. `full`: all sources are read afresh. Raises
    ConfigError for a wrong recipe, DataError for input that cannot be used, RunError where a stage failed for good.
    """
    settings = pinned(as_recipe(recipe))
    with opened(session) as one:
        outcome = run(settings, Threads(settings, one), one, full=full)
        if settings.publishing.hub and outcome.release:
            push(settings, outcome.release.published, one)
        return outcome
