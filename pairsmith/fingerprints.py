"""Of all that decides what is in a table: its inputs, the part of the recipe, the code and the templates.

A table that has the fingerprint that it would get today is not made again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pairsmith import (
    agreement,
    charts,
    datafiles,
    evolution,
    generation,
    given,
    guard,
    pairing,
    publishing,
    rating,
    readouts,
    report,
    scoring,
    survey,
    templating,
    wrapping,
)
from pairsmith.checks import check_hash
from pairsmith.config import Config, Evolution, Judge, Member, Rating, Recipe
from pairsmith.ids import fingerprint, source_hash
from pairsmith.llms import encoder
from pairsmith.llms.base import Identity, open_llm
from pairsmith.llms.encoder import Encoder
from pairsmith.store import Stored

# Of a model's fields, those that change no answer of its own, or are told by its identity.
_ELSEWHERE = {"local", "endpoint", "price", "weight", "scale", "family", "backend", "model", "revision"}
INCOMPLETE = "incomplete"  # how the fingerprint of a table begins that is to be tried again


def of_generation(recipe: Recipe, member: Member, source: Stored) -> str:
    """Of a member's completions of the prompts of a shard."""
    pool, code = recipe.pool, [source_hash(given if member.is_given else generation)]
    drawn_from = [pool.draw, pool.seed, [other.name for other in pool.asked]] if pool.draw else None
    code += [templating.template_hash("principles")] if member.principles else []
    return fingerprint(code, source.digest, _dump(member, open_llm(member).identity), drawn_from)


def of_evolution(settings: Evolution, source: Stored, parents: Stored) -> str:
    """Of what is made of `parents`, the pool's completions."""
    code = [source_hash(evolution), templating.template_hash("evolve")]
    plan = settings.model_dump(mode="json", exclude={"evolver"})
    evolver = _dump(settings.evolver, open_llm(settings.evolver).identity)
    return fingerprint(code, source.digest, parents.digest, plan, evolver)


def of_rating(recipe: Recipe, settings: Rating, judge: Judge, source: Stored, completions: Stored) -> str:
    """Of a judge's ratings."""
    code = [
        source_hash(rating, readouts, wrapping, *([given] if judge.is_given else [])),
        templating.template_hash("judge"),
    ]
    plan = settings.model_dump(mode="json", include={"aspects", "rubrics", "own_family"})
    others = [[other.family_name, other.is_given, settings.aspects_of(other)] for other in settings.judges]
    dumped = _dump(judge, open_llm(judge).identity)
    return fingerprint(code, source.digest, completions.digest, plan, recipe.families, others, dumped)


def of_checks(settings: Rating, source: Stored, completions: Stored) -> str:
    """Of what the checks of a recipe say of completions."""
    hashes = [check_hash(one) for one in settings.checks]
    return fingerprint(source_hash(rating), source.digest, completions.digest, hashes)


def of_shard(shard: str, plan: str) -> str:
    """Of all that decides what comes of a shard: its prompts, which its name tells, and what `of_plan` gives."""
    return fingerprint(shard, plan)


def of_plan(recipe: Recipe) -> str:
    """Of what decides the outcome for all shards alike: the recipe, code and templates."""
    judged = (rating, readouts, wrapping, scoring)
    steps = (generation, given, evolution, *judged, survey, guard, pairing)
    code = source_hash(*steps, publishing, datafiles, report, charts, agreement)
    templates = [templating.template_hash(prefix) for prefix in ("principles", "evolve", "judge")]
    models = [[_dump(spec, open_llm(spec).identity), getattr(spec, "samples", None)] for spec in recipe.specs]
    plan = recipe.model_dump(mode="json", include={"pool": {"draw", "seed"}, "pairing": True})
    sentences = recipe.pairing.similarity and [
        asdict(Encoder(recipe.pairing.similarity).identity),
        source_hash(encoder),
    ]
    evolution_plan = recipe.evolution and recipe.evolution.model_dump(mode="json", exclude={"evolver"})
    rated = recipe.rating and [
        recipe.rating.model_dump(mode="json", exclude={"judges"}),
        [check_hash(one) for one in recipe.rating.checks],
        [(judge.weight, judge.scale) for judge in recipe.rating.judges],
        recipe.families_with_judges,
    ]
    return fingerprint(code, templates, models, plan, sentences, evolution_plan, rated)


def _dump(config: Config, identity: Identity) -> Any:
    """A member, evolver or judge as far as it can change an answer."""
    return [
        asdict(identity),
        config.model_dump(mode="json", exclude=_ELSEWHERE),
    ]
