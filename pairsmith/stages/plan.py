"""The fingerprint of all that decides the outcome of every shard: the recipe, and the revisions of the steps."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pairsmith.config import Recipe
from pairsmith.config.plugins import code_hashes
from pairsmith.ids import fingerprint
from pairsmith.judging.checks import check_hash
from pairsmith.judging.criteria_file import digest_of_file
from pairsmith.llms.local.encoder import encoder_identity
from pairsmith.llms.local.token_counts import tokenizer_identities
from pairsmith.llms.registry import identity_of
from pairsmith.pairing.agreeing import usual_difference
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.publishing import findings
from pairsmith.stages.base import model_fields
from pairsmith.storage.revisions import revisions_to


def shard_fingerprint(shard: str, plan: str) -> str:
    """The fingerprint of a shard's outcome: of its prompts, which its name identifies, and of `plan_fingerprint`."""
    return fingerprint(shard, plan)


def plan_fingerprint(recipe: Recipe, step: str = PAIR) -> str:
    """The fingerprint of what decides the outcome of all shards in `step`, survey or pair."""
    models = [[model_fields(spec, identity_of(spec)), getattr(spec, "samples", None)] for spec in recipe.specs]
    settings = recipe.model_dump(mode="json", include={"pool": {"draw", "always", "seed"}, "pairing": True})
    sentences = recipe.pairing.similarity and asdict(encoder_identity(recipe.pairing.similarity))
    evolved = recipe.evolution and recipe.evolution.model_dump(mode="json", exclude={"evolver"})
    rated = recipe.rating and [
        recipe.rating.model_dump(
            mode="json", exclude={"judges": True, "calibration": True, "criteria": {"author", "file"}}
        ),
        [check_hash(one) for one in recipe.rating.checks],
        [(judge.weight, judge.scale) for judge in recipe.rating.judges],
        recipe.families_with_judges,
        *([recipe.rating.calibrated.decides] if recipe.rating.calibrated else []),
        *([digest_of_file(recipe.criteria.file)] if recipe.criteria and recipe.criteria.file else []),
    ]
    steps, screen = revisions_to(recipe, step), recipe.publishing.screen if step == PAIR else None
    screened = [findings.identity(screen)] if screen else []
    return fingerprint(
        steps, models, settings, sentences, evolved, rated, *code_hashes(recipe), *screened, *_bounds(recipe, step)
    )


def _bounds(recipe: Recipe, step: str) -> list[Any]:
    """What two texts of a pair must differ by, and in what they may not, as far as the recipe does not say it itself.

    Empty where it says nothing of it, so that such recipes keep their fingerprints.
    """
    if step != PAIR:
        return []
    named = recipe.pairing.min_difference
    least = usual_difference(recipe.rating) if named is None else named
    tokenizers = tokenizer_identities(recipe.pairing)
    return [*([["min_difference", least]] if least else []), *([["tokenizers", tokenizers]] if tokenizers else [])]
