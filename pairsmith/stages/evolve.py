"""Evolve: completions -> better completions (EvolQuality)."""

from __future__ import annotations

from functools import partial

from pairsmith.config import Evolution, Recipe
from pairsmith.generation import evolution
from pairsmith.generation.evolution import evolve
from pairsmith.ids import fingerprint
from pairsmith.llms.registry import identity_of
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, answers_where, asked_table, model_fields, open_store
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.revisions import revisions_to
from pairsmith.storage.store import Stored
from pairsmith.storage.tables import evolution_ref, pool_refs, prompts_ref


def evolve_shard(recipe: Recipe, shard: str, session: Session) -> StageResult:
    """Evolve the completions of a shard, all rounds."""
    settings = recipe.evolution
    assert settings is not None
    store, llm = open_store(recipe, session), recorded_model(recipe, settings.evolver, session)
    source, parents = store.load(prompts_ref(shard)), store.load_all(pool_refs(recipe, shard))
    may_pair = partial(recipe.pairing.can_pair, settings.evolver.name)
    answers = answers_where(parents.data, source.data, may_pair)
    return asked_table(
        store,
        evolution_ref(shard),
        evolution_fingerprint(recipe, settings, source, parents),
        settings.evolver.name,
        llm,
        Progress(evolution.STAGE, len(source.data)),
        session.tell,
        lambda tell: evolve(source.data, answers, settings, llm, tell),
    )


def evolution_fingerprint(recipe: Recipe, settings: Evolution, source: Stored, parents: Stored) -> str:
    """The fingerprint of the completions evolved from `parents`, the pool's completions."""
    plan = settings.model_dump(mode="json", exclude={"evolver"})
    draws = recipe.pairing.draws
    evolver = model_fields(settings.evolver, identity_of(settings.evolver))
    return fingerprint(revisions_to(recipe, evolution.STAGE), source.digest, parents.digest, plan, evolver, *draws)
