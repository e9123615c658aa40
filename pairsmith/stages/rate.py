"""Rate: completions x one judge -> ratings (UltraFeedback), or completions -> results of the checks."""

from __future__ import annotations

from pairsmith.config import CHECKS, Judge, Rating, Recipe
from pairsmith.ids import fingerprint
from pairsmith.judging import rating
from pairsmith.judging.checks import check_hash
from pairsmith.judging.criteria_reading import reads_criteria
from pairsmith.judging.rating import rate
from pairsmith.llms.registry import identity_of
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.sources import given_completions
from pairsmith.stages.base import StageResult, answers_where, asked_table, model_fields, open_store, unasked_table
from pairsmith.stages.reached import stop_if_nobody_is_there
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.revisions import revisions_to
from pairsmith.storage.row_types import CriterionRow, rows_as
from pairsmith.storage.store import Store, Stored
from pairsmith.storage.tables import completion_refs, judge_ref, prompts_ref, written_ref


def rate_shard(recipe: Recipe, shard: str, judge_name: str, session: Session) -> StageResult:
    """Let one judge rate the completions of a shard, or take the ratings given with them, or run the checks."""
    settings = recipe.rating
    assert settings is not None
    store = open_store(recipe, session)
    source, completions = store.load(prompts_ref(shard)), store.load_all(completion_refs(recipe, shard))
    ref, share = judge_ref(shard, judge_name), Progress(rating.STAGE, len(source.data) / len(settings.raters))
    data = source.data, completions.data
    if judge_name == CHECKS:
        expected = checks_fingerprint(recipe, settings, source, completions)
        return unasked_table(store, ref, expected, CHECKS, share, session.tell, lambda: rating.check(*data, settings))
    judge = settings.judge(judge_name)
    written = criteria_for(recipe, store, shard, judge)
    expected = rating_fingerprint(recipe, settings, judge, source, completions, written)
    if judge.is_given:
        member = recipe.pool.given
        assert member is not None
        return unasked_table(
            store,
            ref,
            expected,
            judge.name,
            share,
            session.tell,
            lambda: given_completions.ratings_of(*data, settings, judge, member),
        )
    llm, families = recorded_model(recipe, judge, session), recipe.families
    judged = answers_where(completions.data, source.data, recipe.pairing.is_judged)
    items = rows_as(CriterionRow, written.data) if written else []
    result = asked_table(
        store,
        ref,
        expected,
        judge.name,
        llm,
        share,
        session.tell,
        lambda tell: rate(source.data, judged, settings, judge, llm, families, tell, items),
    )
    stop_if_nobody_is_there(recipe, store, rating.STAGE, judge.name, result.unreached, session)
    return result


def criteria_for(recipe: Recipe, store: Store, shard: str, judge: Judge) -> Stored | None:
    """The criteria that a judge reads of the answers of a shard; None where it reads none."""
    assert recipe.rating is not None
    return store.load(written_ref(shard)) if reads_criteria(recipe.rating, judge) else None


def rating_fingerprint(
    recipe: Recipe,
    settings: Rating,
    judge: Judge,
    source: Stored,
    completions: Stored,
    written: Stored | None,
) -> str:
    """The fingerprint of a judge's ratings of a shard; `written`: the criteria that it reads."""
    plan = settings.model_dump(mode="json", include={"aspects", "rubrics", "own_family"})
    others = [[other.family_name, other.is_given, settings.aspects_of(other)] for other in settings.judges]
    fields = model_fields(judge, identity_of(judge))
    steps = revisions_to(recipe, rating.STAGE)
    more = [*recipe.pairing.draws, *([["criteria", written.digest]] if written else [])]
    return fingerprint(steps, source.digest, completions.digest, plan, recipe.families, others, fields, *more)


def checks_fingerprint(recipe: Recipe, settings: Rating, source: Stored, completions: Stored) -> str:
    """The fingerprint of the results of a recipe's checks for a shard."""
    hashes = [check_hash(one) for one in settings.checks]
    return fingerprint(revisions_to(recipe, rating.STAGE), source.digest, completions.digest, hashes)
