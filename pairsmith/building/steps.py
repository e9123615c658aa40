"""One step on rows that a program has: generate, evolve, rate, pair. The same functions that a run's stages call.

Rows are a pandas frame, a `datasets.Dataset` or a list of dicts, and the like of it comes back. A prompt stands in a
column of a usual name (prompt, messages, question ...) or where `columns` says. Replies go through the ledger that the
recipe names, so a step done again asks nothing again. What is left out, as a row without a prompt, is logged and added
to `rejections` where such a list is given.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pairsmith.building.answers import (
    RATED,
    SCORED,
    Answers,
    answers_in,
    no_answers,
    ratings_in,
    shown,
    shown_rating,
)
from pairsmith.building.rows import FoundPrompts, Row, Rows, column_names, plain_rows, prompts_in
from pairsmith.building.runs import opened
from pairsmith.config import CHECKS, Recipe
from pairsmith.config.loading import as_recipe
from pairsmith.config.selecting import SIGNAL
from pairsmith.errors import ConfigError
from pairsmith.generation import evolution, pool
from pairsmith.judging import rating
from pairsmith.judging.checks import require
from pairsmith.judging.criteria_sifting import sifted
from pairsmith.judging.scoring import Scores, scores
from pairsmith.llms.registry import pinned
from pairsmith.pairing import survey
from pairsmith.pairing.survey import SurveyResult
from pairsmith.publishing.kept_columns import KEPT
from pairsmith.publishing.pair_rows import published_rows
from pairsmith.reporting.reason_words import reasons_text
from pairsmith.session import Session
from pairsmith.stages.criteria import criteria_of
from pairsmith.stages.pair import paired
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.datafiles import PREFERENCE, as_published
from pairsmith.storage.row_types import CriterionRow, RatingRow, rows_as
from pairsmith.storage.schemas import frame, rows, validated

log = logging.getLogger(__name__)
Settings = Recipe | str | Path | Mapping[str, Any]


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
    `prompts.sources.columns`. A prompt that stands in several rows is answered once. Raises ConfigError for a wrong
    column or recipe.
    """
    settings, table, given = _begin(data, recipe, "pool", columns, rejections)
    no_answers(table)
    _leave_out("rows have the prompt of an earlier row", given.repeated, rejections)
    if settings.pool.given:
        name = settings.pool.given.name
        raise ConfigError(f"generate: member {name} has backend given; its completions are rows already")
    made: list[Row] = []
    with opened(session) as one:
        for member in settings.pool.members:
            llm = recorded_model(settings, member, one)
            made += rows(
                pool.generate(frame("prompts", given.table), settings.pool, member, llm, one.tell, settings.pairing)
            )
    return table.like(*shown(table, made, lambda row: table.rows[given.first[row["prompt_id"]]]))


def evolve(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Let a model rewrite completions to be better: all rows that came, and a row for each rewrite.

    Rows have a prompt and the column `completion`, and may have those that `generate` gives. A rewrite has the columns
    of the row that it was made of, but not its ratings and score. `recipe`: a recipe, its file, or a mapping with the
    section `evolution`.
    """
    settings, table, given = _begin(data, recipe, "evolution", columns, rejections)
    assert settings.evolution is not None
    found = _answers(table, given, "evolve", rejections)
    with opened(session) as one:
        llm = recorded_model(settings, settings.evolution.evolver, one)
        tables = frame("prompts", given.table), frame("completions", found.table)
        made = rows(evolution.evolve(*tables, settings.evolution, llm, one.tell))
    made = [row for row in made if row["completion_id"] not in found.made]  # rewrites that the rows had before
    brought = {name: table.rows[number] for name, number in found.origin.items()}
    for row in made:
        brought[row["completion_id"]] = brought[row["parent_id"]] | {RATED: None, SCORED: None}
    return table.like(*shown(table, [*found.table, *made], lambda row: brought[row["completion_id"]]))


def rate(
    data: Any,
    recipe: Settings,
    *,
    columns: Mapping[str, str] | None = None,
    rejections: list[Row] | None = None,
    session: Session | None = None,
) -> Any:
    """Let judges and checks rate completions: the rows of `generate`, with their `ratings` and the `score` of all.

    A rating has judge, aspect, rating, score, rationale, reply and error. Ratings and scores that the rows have are
    replaced. `recipe`: a recipe, its file, or a mapping with the section `rating`.
    """
    settings, table, given = _begin(data, recipe, "rating", columns, rejections)
    judging = settings.rating
    assert judging is not None
    if brought := [judge.name for judge in judging.judges if judge.is_given]:
        raise ConfigError(f"rate: judge {brought[0]} has backend given; its ratings are in the rows already")
    require(judging.checks)
    found = _answers(table, given, "rate", rejections)
    tables = frame("prompts", given.table), frame("completions", found.table)
    made: list[RatingRow] = []
    with opened(session) as one:
        written, _ = criteria_of(settings, *tables, one, one.tell)
        items = rows_as(CriterionRow, written)
        for name in judging.raters:
            if name == CHECKS:
                made += rows_as(RatingRow, rating.check(*tables, judging))
                continue
            judge = judging.judge(name)
            llm = recorded_model(settings, judge, one)
            made += rows_as(RatingRow, rating.rate(*tables, judging, judge, llm, settings.families, one.tell, items))
    made = rows_as(RatingRow, sifted(frame("ratings", made), written, settings.criteria)[0])
    totals, of_completion = scores(made, settings.pairing, judging), defaultdict[str, list[Row]](list)
    for row in made:
        of_completion[row["completion_id"]].append(shown_rating(row))
    rated = [
        row | {RATED: of_completion[row["completion_id"]], SCORED: totals.get(row["completion_id"], Scores()).total}
        for row in found.table
    ]
    return table.like(
        *shown(table, rated, lambda row: table.rows[found.origin[row["completion_id"]]], more=(RATED, SCORED))
    )


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
    settings, table, given = _begin(data, recipe, "pairing", columns, rejections)
    found = _answers(table, given, "pair", rejections)
    ratings = validated("ratings", frame("ratings", ratings_in(table, found, settings.needs_scores)))
    tables = frame("prompts", given.table), frame("completions", found.table), ratings
    with opened(session) as one:
        made, *_ = paired(settings, *tables, _survey_of(tables[1], tables[2], settings), one)
    left = rows(made.rejections)
    _note("prompts have no pair", [row for row in left if row["completion_id"] is None])
    if rejections is not None:
        rejections += left
    own = [SIGNAL] if settings.pairing.signals else []
    pairs = [as_published(row | row.get(KEPT, {})) for row in published_rows(made)]
    return table.like(pairs, [*PREFERENCE.names, *own])


def _begin(
    data: Any, recipe: Settings, section: str, columns: Mapping[str, str] | None, rejections: list[Row] | None
) -> tuple[Recipe, Rows, FoundPrompts]:
    """The recipe, the rows, and the prompts in them."""
    settings = _settings(recipe, section)
    table = plain_rows(data)
    given = prompts_in(table, column_names(columns))
    _leave_out("rows have no usable prompt", given.rejections, rejections)
    return settings, table, given


def _answers(table: Rows, given: FoundPrompts, step: str, rejections: list[Row] | None) -> Answers:
    found = answers_in(table, given, step)
    _leave_out("rows have the completion of an earlier row", found.repeated, rejections)
    return found


def _settings(recipe: Settings, section: str) -> Recipe:
    """A recipe that has a section; of a mapping, what a step does not use is filled in."""
    if isinstance(recipe, Mapping):
        if recipe.get(section) is None and section != "pairing":
            raise ConfigError(f"the recipe has no section {section}; it has {', '.join(map(str, recipe)) or 'none'}")
        return pinned(as_recipe({**_not_used(recipe), **recipe}))
    settings = pinned(as_recipe(recipe))
    if getattr(settings, section) is None:
        raise ConfigError(f"recipe {settings.name} has no section {section}")
    return settings


def _not_used(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe must have beside the section of a step: members of the names in the mapping, and any models."""
    evolution, pairing = recipe.get("evolution"), recipe.get("pairing")
    parts = [pairing, *_of(pairing, "signals")]
    named = [*_of(evolution, "of"), *(name for part in parts for name in _of(part, "member_order"))] or ["unused"]
    rewritten = any(isinstance(part, Mapping) and part.get("strategy") == "evolved-vs-original" for part in parts)
    return {
        "name": "library",
        "prompts": {"sources": [{"path": "rows"}]},
        "pool": {"members": [{"name": name, **_unasked(name)} for name in dict.fromkeys(named)]},
        "rating": {"judges": [{"name": "unused", **_unasked("judge")}]},
        **({"evolution": {"evolver": _unasked("evolver")}} if rewritten else {}),
    }


def _unasked(name: Any) -> dict[str, Any]:
    """A model that a recipe must name and the step at hand does not ask."""
    return {"backend": "echo", "model": f"unused-{name}"}


def _of(section: Any, field: str) -> Sequence[Any]:
    found = section.get(field) if isinstance(section, Mapping) else None
    return found if isinstance(found, list | tuple) else ()


def _leave_out(what: str, left: Sequence[Row], rejections: list[Row] | None) -> None:
    """Say what was left out and why, in the log and in a program's list."""
    _note(what, left)
    if rejections is not None:
        rejections += left


def _note(what: str, left: Sequence[Row]) -> None:
    if left:
        reasons = Counter(str(row["reason"]) for row in left)
        log.warning("%d %s: %s; such as %s", len(left), what, reasons_text(reasons), left[0]["detail"])


def _survey_of(completions: pd.DataFrame, ratings: pd.DataFrame, settings: Recipe) -> SurveyResult:
    """What the rows as a whole tell of each completion, as far as the recipe needs it."""
    if not settings.needs_survey:
        return SurveyResult()
    found = survey.survey(completions, ratings, settings.pairing, settings.rating)
    least = settings.pairing.guard.repeated
    repeated = frozenset(text for text, count in found.texts.items() if least is not None and count >= least)
    return SurveyResult(found.slopes(), repeated)
