"""What calibrating would ask, without asking it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairsmith.config import Author, Judge, Recipe
from pairsmith.judging.criteria import author_requests
from pairsmith.judging.criteria_reading import reads_criteria
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.registry import identity_of
from pairsmith.planning.dry_run import CHARS_A_TOKEN, foreseen, has_ledger, typical
from pairsmith.protocol import Request
from pairsmith.storage.row_types import CompletionRow, PromptRow, rows_as
from pairsmith.worth.calibration import asked_by
from pairsmith.worth.gold import Gold, GoldPair
from pairsmith.worth.rated_gold import rating_by, tables_of


@dataclass(frozen=True)
class PlannedForm:
    """A judge in one form, or the author of criteria: how many requests, how many of the replies the ledger has, and
    what the others come to.

    `prompt_tokens`: an estimate; `tokens` and `cost`: likely, without requests asked again; `cost` is None without a
    price.
    """

    form: Judge | Author
    calls: int
    known: int
    prompt_tokens: int
    tokens: int
    cost: float | None


@dataclass(frozen=True)
class Planned:
    gold: Gold
    pairs: int
    forms: tuple[PlannedForm, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def plan_calibration(
    recipe: Recipe | str | Path | Mapping[str, Any], gold: Gold | str | Path, n: int | None = None, as_is: bool = False
) -> Planned:
    """Count the requests of `calibrate`. Writes nothing and loads no model; raises as that does."""
    asked = asked_by(recipe, gold, n, as_is)
    with closing(Ledger(asked.recipe.ledger_url)) if has_ledger(asked.recipe) else nullcontext() as ledger:
        forms = tuple(_planned(asked.recipe, form, asked.pairs, ledger) for _, form in asked.forms)
        rating, author = asked.recipe.rating, asked.recipe.criteria and asked.recipe.criteria.author
        if rating and author and any(reads_criteria(rating_by(rating, form), form) for _, form in asked.forms):
            forms = (_planned_author(asked.recipe, author, asked.pairs, ledger), *forms)
    return Planned(asked.gold, len(asked.pairs), forms, asked.left_out)


def _planned(recipe: Recipe, form: Judge, pairs: tuple[GoldPair, ...], ledger: Ledger | None) -> PlannedForm:
    assert recipe.rating is not None
    prompts, completions = tables_of(pairs)
    identity, rows = identity_of(form), (rows_as(PromptRow, prompts), rows_as(CompletionRow, completions))
    alone = rating_by(recipe.rating, form)
    asked = {item.request.key(identity): item.request for item in foreseen(*rows, alone, form)}
    return _counted(form, asked, 0 if form.is_reward else typical(form, ledger), ledger)


def _planned_author(recipe: Recipe, author: Author, pairs: tuple[GoldPair, ...], ledger: Ledger | None) -> PlannedForm:
    assert recipe.criteria is not None
    prompts, completions = tables_of(pairs)
    rows = rows_as(PromptRow, prompts), rows_as(CompletionRow, completions)
    made, identity = author_requests(*rows, recipe.criteria, author), identity_of(author)
    asked = {one.request.key(identity): one.request for one in made}
    return _counted(author, asked, typical(author, ledger), ledger)


def _counted(form: Judge | Author, asked: Mapping[str, Request], each: int, ledger: Ledger | None) -> PlannedForm:
    """`asked`: key -> request; `each`: tokens of an answer."""
    known = set(ledger.replies.get(asked)) if ledger else set()
    new = [request for key, request in asked.items() if key not in known]
    prompt_tokens = sum(len(one["content"]) for request in new for one in request.messages) // CHARS_A_TOKEN
    tokens = sum(min(each, request.sampling.max_tokens) for request in new)
    cost = form.price.of(prompt_tokens, tokens) if form.price else None
    return PlannedForm(form, len(asked), len(known), prompt_tokens, tokens, cost)
