"""What a run would do and cost, without doing it: calls, how many the ledger knows, and tokens at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairsmith import evolution, generation, rating
from pairsmith.config import ModelSpec, Recipe
from pairsmith.ledger import open_ledger
from pairsmith.llms.base import open_llm
from pairsmith.prompts import read_prompts
from pairsmith.sharding import no_prompts


@dataclass(frozen=True)
class PlanLine:
    """One line of a plan. `calls` and `max_tokens` are upper bounds; `known` is exact where it is given."""

    stage: str
    who: str
    model: str
    calls: int
    known: int | None
    max_tokens: int


@dataclass(frozen=True)
class Plan:
    accepted: int
    rejected: list[dict[str, Any]]
    lines: list[PlanLine]


def plan_run(recipe: Recipe) -> Plan:
    """Read the prompts and count the requests of every stage. Writes nothing and loads no model."""
    read = list(read_prompts(recipe.prompts))
    prompts = [row for row in read if "reason" not in row]
    rejected = [row for row in read if "reason" in row]
    if not prompts:
        raise no_prompts(rejected)
    lines = [_pool_line(recipe, member, prompts) for member in recipe.pool.members]
    answers = {
        member.name: sum(member.name in generation.drawn(recipe.pool, p["prompt_id"]) for p in prompts) * member.samples
        for member in recipe.pool.members
    }
    candidates = sum(answers.values())
    if recipe.evolution:
        settings = recipe.evolution
        parents = sum(n for name, n in answers.items() if not settings.of or name in settings.of)
        calls = parents * settings.rounds
        candidates += parents if settings.keep == "last" else calls
        lines.append(_line(evolution.STAGE, settings.evolver.name, settings.evolver, calls, settings.evolver.sampling))
    for judge in recipe.rating.judges if recipe.rating else ():
        assert recipe.rating is not None
        each = len(prompts) if judge.protocol == "listwise" else candidates
        calls = each * len(recipe.rating.aspects) + (candidates if judge.critique else 0)
        lines.append(_line(rating.STAGE, judge.name, judge, calls, judge.sampling))
    return Plan(len(prompts), rejected, lines)


def _line(stage: str, who: str, spec: ModelSpec, calls: int, sampling: Any, known: int | None = None) -> PlanLine:
    return PlanLine(stage, who, spec.model, calls, known, (calls - (known or 0)) * sampling.max_tokens)


def _pool_line(recipe: Recipe, member: Any, prompts: Sequence[dict[str, Any]]) -> PlanLine:
    identity = open_llm(member).identity
    keys = {item.request.key(identity) for item in generation.plan(prompts, recipe.pool, member)}
    known = len(open_ledger(recipe.ledger_url).get(keys)) if _has_ledger(recipe) else 0
    return _line(generation.STAGE, member.name, member, len(keys), member.sampling, known)


def _has_ledger(recipe: Recipe) -> bool:
    """A dry run makes no file: a SQLite ledger that is not there yet knows nothing."""
    _, is_sqlite, path = recipe.ledger_url.partition("sqlite:///")
    return not is_sqlite or Path(path).exists()
