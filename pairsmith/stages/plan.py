"""The fingerprint of all that decides the outcome of every shard: the recipe, the code and the templates."""

from __future__ import annotations

from dataclasses import asdict

from pairsmith.config import Recipe
from pairsmith.config.generating import principle_texts
from pairsmith.config.plugins import code_hashes
from pairsmith.generation import evolution, pool
from pairsmith.ids import fingerprint, source_hash
from pairsmith.judging import guard, scoring
from pairsmith.judging.checks import check_hash
from pairsmith.llms.local import encoder
from pairsmith.llms.local.encoder import encoder_identity
from pairsmith.llms.registry import identity_of
from pairsmith.pairing import candidates, own_strategy, select, strategies, survey
from pairsmith.publishing import exports, publish
from pairsmith.reporting import agreement, charts, markdown, page, summary, summary_tables
from pairsmith.sources import given_completions
from pairsmith.stages.base import model_fields
from pairsmith.stages.rate import RATING_CODE
from pairsmith.storage import datafiles
from pairsmith.text.templating import template_hash


def shard_fingerprint(shard: str, plan: str) -> str:
    """The fingerprint of a shard's outcome: of its prompts, which its name identifies, and of `plan_fingerprint`."""
    return fingerprint(shard, plan)


def plan_fingerprint(recipe: Recipe) -> str:
    """The fingerprint of what decides the outcome of all shards: the recipe, the code and the templates."""
    pairing = (survey, candidates, strategies, own_strategy, select)
    steps = (pool, given_completions, evolution, *RATING_CODE, scoring, guard, *pairing)
    code = source_hash(*steps, publish, exports, datafiles, summary, summary_tables, page, markdown, charts, agreement)
    templates = [template_hash(wing) for wing in ("pairsmith.generation", "pairsmith.judging")]
    templates += [fingerprint(principle_texts())]
    models = [[model_fields(spec, identity_of(spec)), getattr(spec, "samples", None)] for spec in recipe.specs]
    settings = recipe.model_dump(mode="json", include={"pool": {"draw", "seed"}, "pairing": True})
    sentences = recipe.pairing.similarity and [
        asdict(encoder_identity(recipe.pairing.similarity)),
        source_hash(encoder),
    ]
    evolved = recipe.evolution and recipe.evolution.model_dump(mode="json", exclude={"evolver"})
    rated = recipe.rating and [
        recipe.rating.model_dump(mode="json", exclude={"judges"}),
        [check_hash(one) for one in recipe.rating.checks],
        [(judge.weight, judge.scale) for judge in recipe.rating.judges],
        recipe.families_with_judges,
    ]
    return fingerprint(code, templates, models, settings, sentences, evolved, rated, *code_hashes(recipe))
