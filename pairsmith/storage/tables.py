"""The names of a recipe's tables and files in the store, and the tables of one shard together."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from pairsmith.config import Recipe
from pairsmith.storage.schemas import frame
from pairsmith.storage.store import TableRef

LOAD_REJECTIONS = TableRef("rejections", "load")
SHARD_INDEX = TableRef("index", "load")  # which shard holds which prompt


def prompts_ref(shard: str) -> TableRef:
    return TableRef("prompts", shard)


def notes_ref(part: str) -> TableRef:
    """What was read from a source file."""
    return TableRef("notes", "load", part)


def pool_ref(shard: str, member: str) -> TableRef:
    return TableRef("completions", shard, f"pool-{member}")


def evolution_ref(shard: str) -> TableRef:
    return TableRef("completions", shard, "evolution")


def judge_ref(shard: str, judge: str) -> TableRef:
    return TableRef("ratings", shard, f"judge-{judge}")


def written_ref(shard: str) -> TableRef:
    """The criteria as they were written, before judges read them."""
    return TableRef("criteria", shard, "written")


def criteria_ref(shard: str) -> TableRef:
    """The criteria with those dropped that judges' readings tell against."""
    return TableRef("criteria", shard)


def pairs_ref(shard: str) -> TableRef:
    return TableRef("pairs", shard)


def rejections_ref(shard: str) -> TableRef:
    return TableRef("rejections", shard)


def pool_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    return [pool_ref(shard, member.name) for member in recipe.pool.members]


def completion_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    """The pool's completions, then the evolved ones."""
    return pool_refs(recipe, shard) + ([evolution_ref(shard)] if recipe.evolution else [])


def rating_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    return [judge_ref(shard, name) for name in (recipe.rating.raters if recipe.rating else ())]


def criteria_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    return [written_ref(shard)] if recipe.criteria else []


@dataclass(frozen=True)
class ShardTables:
    """All tables of one shard. `verdicts`: the rows of comparisons, which in `ratings` have become scores."""

    prompts: pd.DataFrame
    completions: pd.DataFrame
    ratings: pd.DataFrame
    pairs: pd.DataFrame
    rejections: pd.DataFrame
    verdicts: pd.DataFrame = field(default_factory=lambda: frame("ratings", []))
    criteria: pd.DataFrame = field(default_factory=lambda: frame("criteria", []))


def published_ref(shard: str) -> TableRef:
    return TableRef("published", shard)


def record_name(shard: str) -> str:
    """The file that records the outcome of a shard."""
    return f"tables/{shard}/shard.json"


def survey_name(shard: str) -> str:
    """The file with what a shard contributes to the survey of the whole data set, made before pairs are selected."""
    return f"tables/{shard}/survey.json"


def facts_name(shard: str) -> str:
    """The file with the merged survey of the whole data set, as a shard's pairing uses it."""
    return f"tables/{shard}/facts.json"


def rated_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    """Every table of a shard from which its pairs are selected."""
    tables = [*completion_refs(recipe, shard), *criteria_refs(recipe, shard), *rating_refs(recipe, shard)]
    return [prompts_ref(shard), *tables]


def made_refs(recipe: Recipe, shard: str) -> list[TableRef]:
    """The tables that pairing a shard makes."""
    sifted = [criteria_ref(shard)] if recipe.criteria else []
    return [pairs_ref(shard), rejections_ref(shard), published_ref(shard), *sifted]
