"""Criteria: prompts and their answers -> yes/no questions for each prompt, by an author or from a file."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from pairsmith.config import Criteria, Recipe
from pairsmith.ids import fingerprint
from pairsmith.judging import criteria
from pairsmith.judging.criteria_file import BY_HAND, ByPrompt, digest_of_file, read_criteria, rows_by_hand
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import identity_of
from pairsmith.progress import Progress, Tell
from pairsmith.protocol import LLM
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, answers_where, asked_table, model_fields, open_store, unasked_table
from pairsmith.stages.load import load
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.revisions import revisions_to
from pairsmith.storage.row_types import CriterionRow, rows_as
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import Stored
from pairsmith.storage.tables import completion_refs, criteria_ref, prompts_ref, written_ref


def write_shard(recipe: Recipe, shard: str, session: Session) -> StageResult:
    """Have criteria written for the prompts of a shard that are judged, or take those of the recipe's file."""
    settings = recipe.criteria
    assert settings is not None
    store, author = open_store(recipe, session), settings.author
    source, completions = store.load(prompts_ref(shard)), store.load_all(completion_refs(recipe, shard))
    named = in_file(settings, session)
    ref, expected = written_ref(shard), criteria_fingerprint(recipe, settings, source, completions, named)
    whole, tell = Progress(criteria.STAGE, len(source.data)), session.tell
    judged = answers_where(completions.data, source.data, recipe.pairing.is_judged)
    write = partial(_written, recipe, settings, named, source.data, judged)
    if author is None:
        return unasked_table(store, ref, expected, BY_HAND, whole, tell, lambda: write(None, tell))
    llm = recorded_model(recipe, author, session)
    return asked_table(store, ref, expected, author.name, llm, whole, tell, partial(write, llm))


def criteria_of(
    recipe: Recipe, prompts: pd.DataFrame, completions: pd.DataFrame, session: Session, tell: Tell
) -> tuple[pd.DataFrame, Recorded | None]:
    """The criteria for prompts that stand in no shard, such as a program's own, and the author if it was asked."""
    settings = recipe.criteria
    if settings is None:
        return frame("criteria", []), None
    llm = recorded_model(recipe, settings.author, session) if settings.author else None
    return _written(recipe, settings, in_file(settings, session), prompts, completions, llm, tell), llm


def _written(
    recipe: Recipe,
    settings: Criteria,
    named: ByPrompt,
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    llm: LLM | None,
    tell: Tell,
) -> pd.DataFrame:
    """The criteria of a file and, by the author where there is one, those of the prompts that it does not name."""
    found = rows_by_hand(named, prompts["prompt_id"], settings.per_prompt)
    if not (settings.author and llm):
        return frame("criteria", found)
    others = completions[~completions["prompt_id"].isin([*named])]
    written = criteria.write(prompts, others, settings, settings.author, llm, recipe.pairing.member_order, tell)
    return frame("criteria", [*found, *rows(written)])


def criteria_fingerprint(
    recipe: Recipe, settings: Criteria, source: Stored, completions: Stored, named: ByPrompt
) -> str:
    """The fingerprint of the criteria for the prompts of a shard; `named`: what the recipe's file has of any."""
    plan = [settings.per_prompt, settings.strongest_first or recipe.pairing.member_order]
    by_hand = [
        [name, one.question, one.weight, one.check, one.error]
        for name in source.data["prompt_id"]
        for one in named.get(name, ())
    ]
    author: list[Any] = model_fields(settings.author, identity_of(settings.author)) if settings.author else []
    steps, draws = revisions_to(recipe, criteria.STAGE), recipe.pairing.draws
    return fingerprint(steps, source.digest, completions.digest, plan, author, by_hand, *draws)


def in_file(settings: Criteria, session: Session) -> ByPrompt:
    """The criteria of a recipe's file, read once as long as it holds the same; none where it names no file."""
    if (path := settings.file) is None:
        return {}
    return session.keep(("criteria", path, digest_of_file(path)), lambda: read_criteria(path))


def stored_criteria(recipe: Recipe, session: Session) -> tuple[list[CriterionRow], int]:
    """The criteria of a recipe's prompts as its last run left them, by prompt, and how many prompts it has none of yet.

    Raises RunError where a run works on the data set.
    """
    store, found, absent = open_store(recipe, session), list[CriterionRow](), 0
    with store.lock():
        for shard, size in load(recipe, session).shards.items():
            if store.exists(criteria_ref(shard).path):
                found += rows_as(CriterionRow, store.load(criteria_ref(shard)).data)
            else:
                absent += size
    return sorted(found, key=lambda row: (row["prompt_id"], row["item"])), absent
