"""Finds the shards and tables of a recipe that need no more work, and what is lacking for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pairsmith.config import Recipe
from pairsmith.generation import evolution, pool
from pairsmith.judging import criteria, rating
from pairsmith.judging.criteria_file import BY_HAND
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.pruning import place_of, table_of
from pairsmith.pairing import select
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.base import INCOMPLETE, open_store, stages_of
from pairsmith.stages.criteria import criteria_fingerprint, in_file
from pairsmith.stages.evolve import evolution_fingerprint
from pairsmith.stages.generate import generate_shard, generation_fingerprint
from pairsmith.stages.plan import plan_fingerprint, shard_fingerprint
from pairsmith.stages.rate import criteria_for, rating_fingerprint
from pairsmith.stages.records import is_sound, record_of, survey_of
from pairsmith.storage.store import Store, TableRef
from pairsmith.storage.tables import (
    completion_refs,
    evolution_ref,
    judge_ref,
    pairs_ref,
    pool_ref,
    pool_refs,
    prompts_ref,
    written_ref,
)


def lacking(recipe: Recipe, shard: str, stage: str, session: Session) -> list[str]:
    """What models must still make before `stage` (rate or pair) can run for a shard. No model is asked.

    Given completions, which need no model, are stored on the way.
    """
    store, settings = open_store(recipe, session), recipe.rating
    source = store.load(prompts_ref(shard))
    found, share = [], len(source.data) / len(recipe.pool.members)
    for member in recipe.pool.members:
        if member.is_given:
            generate_shard(recipe, shard, member.name, session)
        else:
            fingerprint = generation_fingerprint(recipe, member, source)
            found += _absent(store, pool_ref(shard, member.name), fingerprint, member.name)
            session.tell(Progress(pool.STAGE, share))
    if recipe.evolution and not found:
        fingerprint = evolution_fingerprint(recipe, recipe.evolution, source, store.load_all(pool_refs(recipe, shard)))
        found += _absent(store, evolution_ref(shard), fingerprint, recipe.evolution.evolver.name)
        session.tell(Progress(evolution.STAGE, len(source.data)))
    if stage == select.STAGE and recipe.criteria and not found:
        completions, named = store.load_all(completion_refs(recipe, shard)), in_file(recipe.criteria, session)
        fingerprint = criteria_fingerprint(recipe, recipe.criteria, source, completions, named)
        author = recipe.criteria.author
        found += _absent(store, written_ref(shard), fingerprint, author.name if author else BY_HAND)
        session.tell(Progress(criteria.STAGE, len(source.data)))
    if stage == select.STAGE and settings and not found:
        completions = store.load_all(completion_refs(recipe, shard))
        for judge in settings.judges:
            if not judge.is_given:
                written = criteria_for(recipe, store, shard, judge)
                fingerprint = rating_fingerprint(recipe, settings, judge, source, completions, written)
                found += _absent(store, judge_ref(shard, judge.name), fingerprint, judge.name)
                session.tell(Progress(rating.STAGE, len(source.data) / len(settings.raters)))
    return found


def _absent(store: Store, ref: TableRef, fingerprint: str, who: str) -> list[str]:
    """A description of the table where it is absent or made by another recipe; else nothing.

    An incomplete table, whose failed rows are to be asked for again, counts as there.
    """
    if store.fresh(ref, fingerprint) or store.fresh(ref, f"{INCOMPLETE} {fingerprint}"):
        return []
    why = " as this recipe makes them" if store.exists(ref.path) else ""
    return [f"{ref.table} by {who}{why}"]


def uses_of(recipe: Recipe, store: Store, shards: Iterable[str]) -> set[tuple[str, str]]:
    """Shard and part, as `ledger.uses` has them, of all tables of some shards for which models are asked."""
    refs = [pool_ref("", member.name) for member in recipe.pool.asked]
    refs += [evolution_ref("")] if recipe.evolution else []
    refs += [written_ref("")] if recipe.criteria and recipe.criteria.author else []
    refs += [judge_ref("", judge.name) for judge in recipe.rating.judges if not judge.is_given] if recipe.rating else []
    refs += [pairs_ref("")] if recipe.pairing.similarity else []
    return {(shard, table_of(store, recipe.name, ref).part) for shard in shards for ref in refs}


def unfinished(recipe: Recipe, shards: Mapping[str, int], session: Session, with_uses: bool = True) -> list[str]:
    """The shards whose tables are not all there, undamaged and made by this recipe; progress counts the others as done.

    `with_uses`: those too of which the ledger has not noted all replies in use, as a run of all stages does.

    Where the recipe needs a survey, only tables up to the ratings are checked; `merge_surveys` checks the pairs.
    """
    read, step = (survey_of, SURVEY) if recipe.needs_survey else (record_of, select.STAGE)
    store, plan, left = open_store(recipe, session), plan_fingerprint(recipe, step), []
    noted = open_ledger(recipe.ledger_url, session).uses.noted(place_of(store)).keys()
    done = [stage for stage in stages_of(recipe) if stage != select.STAGE or not recipe.needs_survey]
    for shard, size in shards.items():
        record = read(store, shard)
        is_noted = not with_uses or noted >= uses_of(recipe, store, [shard])
        if record and is_noted and is_sound(store, record, shard_fingerprint(shard, plan)):
            for stage in done:
                session.tell(Progress(stage, size))
        else:
            left.append(shard)
    return left
