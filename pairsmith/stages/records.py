"""The record of a shard: the recipe and files that its pairs were made from, and its counts for the whole data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from pairsmith.config import Recipe
from pairsmith.stages import base, plan
from pairsmith.storage import schemas
from pairsmith.storage.store import Store
from pairsmith.storage.tables import completion_refs, criteria_refs, rating_refs, record_name, survey_name, written_ref


def record_of(store: Store, shard: str) -> dict[str, Any] | None:
    """The record made when the pairs of a shard were selected; None where there is none, or it is damaged.

    It has `kinds`, the types of kept columns, where the shard's rows have any.
    """
    return _read(store, record_name(shard), {"mark", "files", "facts", "content", "summary", "trust"})


def survey_of(store: Store, shard: str) -> dict[str, Any] | None:
    """The record made when a shard was surveyed; None where there is none, or it is damaged."""
    return _read(store, survey_name(shard), {"mark", "files", "sums", "texts"})


def is_sound(store: Store, record: dict[str, Any], mark: str) -> bool:
    """Whether a record was made with the fingerprint `mark`, and its files are unchanged since."""
    return record["mark"] == mark and all(store.file_digest(name) == known for name, known in record["files"].items())


def file_digests(store: Store, names: Iterable[str]) -> dict[str, str]:
    return {name: store.file_digest(name) for name in names}


def mark_of(recipe: Recipe, store: Store, shard: str, step: str) -> str:
    """The fingerprint for what `step` records of a shard; `INCOMPLETE`, which never matches, where a table is that."""
    refs = (*completion_refs(recipe, shard), *criteria_refs(recipe, shard), *rating_refs(recipe, shard))
    complete = not any(store.load(ref).fingerprint.startswith(base.INCOMPLETE) for ref in refs)
    return plan.shard_fingerprint(shard, plan.plan_fingerprint(recipe, step)) if complete else base.INCOMPLETE


def judged_tables(recipe: Recipe, store: Store, shard: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The completions, ratings and criteria of a shard, as they were made."""
    ratings = store.load_all(rating_refs(recipe, shard)).data if recipe.rating else schemas.frame("ratings", [])
    written = store.load(written_ref(shard)).data if recipe.criteria else schemas.frame("criteria", [])
    return store.load_all(completion_refs(recipe, shard)).data, ratings, written


def _read(store: Store, name: str, keys: set[str]) -> dict[str, Any] | None:
    record = store.known_json(name)
    return record if isinstance(record, dict) and {*record} - {"kinds"} == keys else None
