"""The fingerprint of all that decides the outcome of every shard: the recipe, and the revisions of the steps."""

from __future__ import annotations

from dataclasses import asdict

from pairsmith.config import Recipe
from pairsmith.config.plugins import code_hashes
from pairsmith.ids import fingerprint
from pairsmith.judging.checks import check_hash
from pairsmith.llms.local.encoder import encoder_identity
from pairsmith.llms.registry import identity_of
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.stages.base import model_fields
from pairsmith.storage.revisions import revisions_to


def shard_fingerprint(shard: str, plan: str) -> str:
    """The fingerprint of a shard's outcome: of its prompts, which its name identifies, and of `plan_fingerprint`."""
    return fingerprint(shard, plan)


def plan_fingerprint(recipe: Recipe, step: str = PAIR) -> str:
    """The fingerprint of what decides the outcome of all shards in `step`, survey or pair."""
    models = [[model_fields(spec, identity_of(spec)), getattr(spec, "samples", None)] for spec in recipe.specs]
    settings = recipe.model_dump(mode="json", include={"pool": {"draw", "seed"}, "pairing": True})
    sentences = recipe.pairing.similarity and asdict(encoder_identity(recipe.pairing.similarity))
    evolved = recipe.evolution and recipe.evolution.model_dump(mode="json", exclude={"evolver"})
    rated = recipe.rating and [
        recipe.rating.model_dump(mode="json", exclude={"judges"}),
        [check_hash(one) for one in recipe.rating.checks],
        [(judge.weight, judge.scale) for judge in recipe.rating.judges],
        recipe.families_with_judges,
    ]
    steps = revisions_to(recipe, step)
    return fingerprint(steps, models, settings, sentences, evolved, rated, *code_hashes(recipe))
