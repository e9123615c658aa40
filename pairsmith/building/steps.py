"""One step on rows that a program has: generate, evolve, rate, pair. The same functions that a run's stages call.

Rows are a pandas frame, a `datasets.Dataset` or a list of dicts, and the like of it comes back. A prompt stands in a
column of a usual name (prompt, messages, question ...) or where `columns` says. Replies go through the ledger that the
recipe names, so a step done again asks nothing again. What is left out, as a row without a prompt, is logged and added
to `rejections` where such a list is given.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pairsmith.building.rows import FoundPrompts, Like, Row, completions_in, plain_rows, prompts_in, shown_completions
from pairsmith.building.runs import opened
from pairsmith.config import CHECKS, Columns, Recipe
from pairsmith.config.loading import load_recipe, parse_recipe
from pairsmith.errors import ConfigError
from pairsmith.generation import evolution, pool
from pairsmith.judging import rating
from pairsmith.judging.scoring import scores
from pairsmith.pairing import survey
from pairsmith.pairing.survey import SurveyResult
from pairsmith.publishing.publish import published_rows
from pairsmith.session import Session
from pairsmith.stages.pair import paired
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.datafiles import PREFERENCE
from pairsmith.storage.row_types import RatingRow, rows_as
from pairsmith.storage.schemas import TABLES, frame, rows

log = logging.getLogger(__name__)
Settings = Recipe | str | Path | Mapping[str, Any]
SCORED = "score"  # the column of a number that stands for ratings
RATED = "ratings"  # the column of a completion's ratings, each a dict
_OF_ROW = ("completion_id", "prompt_id")  # what a rating has from the row that it is in
# What a recipe must have that the step at hand does not use.
_UNUSED_MODEL = {"name": "unused", "backend": "echo", "model": "unused"}
_UNUSED = {
    "name": "library",
    "prompts": {"sources": [{"path": "rows"}]},
    "pool": {"members": [_UNUSED_MODEL]},
    "rating": {"judges": [_UNUSED_MODEL]},
}


def generate(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Let the pool's members answer prompts: a row for each completion, with the columns of its prompt's row.

    `recipe`: a recipe, its file, or a mapping with the section `pool`. `columns`: where a prompt stands, as in
    `prompts.sources.columns`. Raises ConfigError for a wrong column or recipe.
    """
    settings, found, like, given = _begin(data, recipe, "pool", columns, rejections)
    made: list[Row] = []
    with opened(session) as one:
        for member in settings.pool.members:
            if member.is_given:
                raise ConfigError(f"generate: member {member.name} has backend given; its completions are rows already")
            llm = recorded_model(settings, member, one)
            made += rows(pool.generate(frame("prompts", given.table), settings.pool, member, llm, one.tell))
    return like(*shown_completions(made, found, given))


def evolve(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Let a model rewrite completions to be better: all rows that came, and a row for each rewrite.

    Rows have a prompt and the column `completion`, and may have those that `generate` gives. `recipe`: a recipe, its
    file, or a mapping with the section `evolution`.
    """
    settings, found, like, given = _begin(data, recipe, "evolution", columns, rejections)
    assert settings.evolution is not None
    completions = completions_in(found, given, "evolve")
    with opened(session) as one:
        llm = recorded_model(settings, settings.evolution.evolver, one)
        tables = frame("prompts", given.table), frame("completions", completions)
        made = rows(evolution.evolve(*tables, settings.evolution, llm, one.tell))
    return like(*shown_completions([*completions, *made], found, given))


def rate(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Let judges and checks rate completions: the rows of `generate`, with their `ratings` and the `score` of all.

    A rating has judge, aspect, rating, score, rationale, reply and error. `recipe`: a recipe, its file, or a mapping
    with the section `rating`.
    """
    settings, found, like, given = _begin(data, recipe, "rating", columns, rejections)
    judging = settings.rating
    assert judging is not None
    completions = completions_in(found, given, "rate")
    tables = frame("prompts", given.table), frame("completions", completions)
    made: list[RatingRow] = []
    with opened(session) as one:
        for name in judging.raters:
            if name == CHECKS:
                made += rows_as(RatingRow, rating.check(*tables, judging))
                continue
            judge = judging.judge(name)
            if judge.is_given:
                raise ConfigError(f"rate: judge {name} has backend given; its ratings are in the rows already")
            llm = recorded_model(settings, judge, one)
            made += rows_as(RatingRow, rating.rate(*tables, judging, judge, llm, settings.families, one.tell))
    totals, of_completion = scores(made, settings.pairing, judging), defaultdict[str, list[Row]](list)
    for row in made:
        kept = {name: value for name, value in row.items() if name not in _OF_ROW}
        of_completion[row["completion_id"]].append(kept)
    shown, names = shown_completions(completions, found, given)
    for line in shown:
        name = line["completion_id"]
        line |= {RATED: of_completion[name], SCORED: totals[name].total if name in totals else None}
    return like(shown, [*(name for name in names if name not in (RATED, SCORED)), RATED, SCORED])


def pair(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Select pairs: a row for each, as in a published version: prompt, chosen, rejected, scores, ratings, members.

    Rows are those that `rate` gives, or have a prompt, `completion` and a number in `score`. `recipe`: a recipe, its
    file, or a mapping with the section `pairing`. Why a prompt has no pair is logged, and added to `rejections`.
    """
    settings, found, like, given = _begin(data, recipe, "pairing", columns, rejections)
    completions = completions_in(found, given, "pair")
    ratings = _ratings_in(found, given, completions, settings)
    tables = frame("prompts", given.table), frame("completions", completions), frame("ratings", ratings)
    with opened(session) as one:
        made, _ = paired(settings, *tables, _survey_of(tables[1], tables[2], settings), one)
    left = rows(made.rejections)
    _note("prompts have no pair", [row for row in left if row["completion_id"] is None])
    if rejections is not None:
        rejections += left
    return like(published_rows(made), PREFERENCE.names)


def _begin(
    data: Any, recipe: Settings, section: str, columns: Mapping[str, str] | None, rejections: list[Row] | None
) -> tuple[Recipe, list[Row], Like, FoundPrompts]:
    """The recipe, the rows, what makes the like of them, and the prompts in them."""
    settings = _settings(recipe, section)
    found, like = plain_rows(data)
    given = prompts_in(found, Columns.model_validate(dict(columns or {})))
    _note("rows have no usable prompt", given.rejections)
    if rejections is not None:
        rejections += given.rejections
    return settings, found, like, given


def _settings(recipe: Settings, section: str) -> Recipe:
    """A recipe that has a section; of a mapping, what a step does not use is filled in."""
    if isinstance(recipe, Mapping):
        if section not in recipe and section != "pairing":
            raise ConfigError(f"the recipe has no section {section}; it has {', '.join(recipe) or 'none'}")
        return parse_recipe({**_UNUSED, **recipe}, base=Path.cwd())
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if getattr(settings, section) is None:
        raise ConfigError(f"recipe {settings.name} has no section {section}")
    return settings


def _note(what: str, left: Sequence[Row]) -> None:
    """Say what was left out and why."""
    if left:
        reasons = Counter(str(row["reason"]) for row in left)
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        log.warning("%d %s: %s; such as %s", len(left), what, counted, left[0]["detail"])


def _ratings_in(found: Sequence[Row], given: FoundPrompts, completions: Iterable[Row], settings: Recipe) -> list[Row]:
    """Rows of the ratings table, of what stands in the columns `ratings` and `score`."""
    if settings.needs_scores and found and not any(RATED in row or SCORED in row for row in found):
        there = ", ".join(map(str, found[0]))
        raise ConfigError(f"pair needs the column {RATED}, as `rate` gives it, or {SCORED}; the rows have {there}")
    unknown = dict.fromkeys(TABLES["ratings"].columns)
    ids = {(row["prompt_id"], row["member"], row["text"]): row["completion_id"] for row in completions}
    made: list[Row] = []
    for row, prompt_id in zip(found, given.ids, strict=True):
        if prompt_id is None:
            continue
        who, text = str(row.get("member") or "given"), row.get("completion") or ""
        place = {"completion_id": row.get("completion_id") or ids[prompt_id, who, text], "prompt_id": prompt_id}
        made += [unknown | said | place for said in _said_of(row)]
    return made


def _said_of(row: Row) -> list[Row]:
    """The ratings of a row; a number alone stands for one of a judge of whom no more is known."""
    if row.get(RATED):
        ratings: list[Row] = row[RATED]
        return ratings
    if row.get(SCORED) is None:
        return []
    said = {"judge": "given", "aspect": "overall", "protocol": "reward", "order": 0, "score": float(row[SCORED])}
    return [said | {"reply": "", "request": ""}]


def _survey_of(completions: pd.DataFrame, ratings: pd.DataFrame, settings: Recipe) -> SurveyResult:
    """What the rows as a whole tell of each completion, as far as the recipe needs it."""
    if not settings.needs_survey:
        return SurveyResult()
    found = survey.survey(completions, ratings, settings.pairing, settings.rating)
    least = settings.pairing.guard.repeated
    repeated = frozenset(text for text, count in found.texts.items() if least is not None and count >= least)
    return SurveyResult(found.slopes(), repeated)
