"""Survey: statistics of each shard, merged to those of the whole data set, which the pairing of each shard uses."""

from __future__ import annotations

from collections.abc import Mapping

from pairsmith.config import Recipe
from pairsmith.judging.criteria_sifting import sifted
from pairsmith.pairing import survey, survey_merge
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, open_store
from pairsmith.stages.plan import plan_fingerprint, shard_fingerprint
from pairsmith.stages.records import file_digests, is_sound, judged_tables, mark_of, record_of
from pairsmith.storage.tables import rated_refs, survey_name


def survey_shard(recipe: Recipe, shard: str, session: Session) -> StageResult:
    """Record what a rated shard contributes to the survey of the whole data set. Never calls a model."""
    store = open_store(recipe, session)
    completions, readings, written = judged_tables(recipe, store, shard)
    ratings, _ = sifted(readings, written, recipe.criteria)
    record = {
        "mark": mark_of(recipe, store, shard, survey.STAGE),
        "files": file_digests(store, (ref.path for ref in rated_refs(recipe, shard))),
        **survey.survey(completions, ratings, recipe.pairing, recipe.rating).to_json(),
    }
    store.write_json(survey_name(shard), record)
    return StageResult(survey.STAGE, shard, "all", len(completions))


def merge_surveys(recipe: Recipe, shards: Mapping[str, int], session: Session) -> list[str]:
    """Merge the surveys of all shards and store the result for each; returns shards whose pairs do not use it yet."""
    store, plan, left = open_store(recipe, session), plan_fingerprint(recipe), []
    survey_merge.merge(store, shards, recipe.pairing.guard.repeated)
    for shard, size in shards.items():
        record, result = record_of(store, shard), survey_merge.read_result(store, shard)
        if record and record["facts"] == result.digest and is_sound(store, record, shard_fingerprint(shard, plan)):
            session.tell(Progress(PAIR, size))
        else:
            left.append(shard)
    return left
