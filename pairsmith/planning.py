"""What a run would do and cost, without doing it: its calls, those that the ledger knows, and tokens and cost at most.

Prompt tokens are estimated at four characters each, generated tokens at max_tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pairsmith.config import Judge, Member, ModelSpec, Rating, Recipe
from pairsmith.generation import evolution
from pairsmith.generation import pool as generation
from pairsmith.judging import rating
from pairsmith.judging.checks import require
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import credentials
from pairsmith.llms.registry import identity_of
from pairsmith.sources import given_completions
from pairsmith.sources.http import fetched
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.sharding import no_prompts
from pairsmith.sources.unread import Unread
from pairsmith.storage.row_types import PromptRow

CHARS_A_TOKEN = 4
EVOLVING, JUDGING = 150, 300  # tokens of our own prompt text in a request


@dataclass(frozen=True)
class PlanLine:
    """One line of a plan. `calls`, `max_tokens` and `cost` are upper bounds; `known` is exact, or None if not counted.

    `prompt_tokens` is an estimate; `cost` is None where the model has no price.
    """

    stage: str
    who: str
    model: str
    calls: int
    known: int | None
    prompt_tokens: int
    max_tokens: int
    cost: float | None


@dataclass(frozen=True)
class Plan:
    accepted: int
    rejected: list[dict[str, Any]]
    lines: list[PlanLine]
    unread: list[str]  # a sentence for each source with columns that are filled and not read


def preflight(recipe: Recipe) -> None:
    """Raise ConfigError where something is absent that a run needs from outside, before anything is asked."""
    require(recipe.checks)
    credentials.require(recipe.specs)


def plan_run(recipe: Recipe) -> Plan:
    """Read the prompts and count the requests of every stage. Writes nothing and loads no model."""
    preflight(recipe)
    unread = Unread()
    with fetched(recipe.prompts) as bodies:
        read = list(read_prompts(recipe.prompts, bodies, unread=unread))
    prompts = cast(list[PromptRow], [row for row in read if "reason" not in row])
    rejected = [row for row in read if "reason" in row]
    if not prompts:
        raise no_prompts(rejected)
    with closing(Ledger(recipe.ledger_url)) if _has_ledger(recipe) else nullcontext() as ledger:
        lines = [_pool_line(recipe, member, prompts, ledger) for member in recipe.pool.members]
    answers = {
        member.name: sum(member.name in generation.drawn(recipe.pool, p["prompt_id"]) for p in prompts) * member.samples
        for member in recipe.pool.asked
    }
    brought = [item for p in prompts for item in given_completions.carried(p) if "error" not in item]
    unlabelled = recipe.pool.given.name if recipe.pool.given else ""
    labels = Counter(str(item.get("member", unlabelled)) for item in brought)
    answers |= {label: answers.get(label, 0) + count for label, count in labels.items()}
    candidates = sum(answers.values())
    question = sum(len(p["messages"]) // CHARS_A_TOKEN for p in prompts) // len(prompts)
    longest = max((len(item["text"]) // CHARS_A_TOKEN for item in brought), default=0)
    answer = max([longest, *(member.sampling.max_tokens for member in recipe.pool.asked)])
    if recipe.evolution:
        settings = recipe.evolution
        parents = sum(n for name, n in answers.items() if not settings.of or name in settings.of)
        calls = parents * settings.rounds
        candidates += parents if settings.keep == "last" else calls
        answer = max(answer, settings.evolver.sampling.max_tokens)
        evolver = settings.evolver
        lines.append(_line(evolution.STAGE, evolver.name, evolver, calls, calls * (question + answer + EVOLVING)))
    if recipe.rating:
        pool = set(recipe.families.values())
        for judge in recipe.rating.judges:
            left_out = recipe.rating.own_family == "auto" and not recipe.rating.rates(judge, judge.family_name, pool)
            rated = (0, 0) if left_out else (len(prompts), candidates)
            lines.append(_judge_line(recipe.rating, judge, *rated, question, answer))
    return Plan(len(prompts), rejected, lines, unread.told())


def _judge_line(settings: Rating, judge: Judge, prompts: int, candidates: int, question: int, answer: int) -> PlanLine:
    """The line of a judge; `question` and `answer`: tokens of a prompt, and of a completion."""
    if judge.is_given:
        return _given_line(rating.STAGE, judge)
    if judge.is_reward:
        return _line(rating.STAGE, judge.name, judge, candidates, candidates * (question + answer), each=0)
    n_aspects = len(settings.aspects_of(judge))
    critiques = candidates if judge.critique else 0
    calls = (prompts * judge.orders if judge.protocol == "listwise" else candidates) * n_aspects + critiques
    shown = (candidates * n_aspects * judge.orders + critiques) * answer  # each text once per aspect and order
    if judge.readout != "logprobs":
        calls, shown = calls * (1 + judge.reasks), shown * (1 + judge.reasks)  # where nothing could be read
    return _line(rating.STAGE, judge.name, judge, calls, calls * (question + JUDGING) + shown)


def _line(
    stage: str,
    who: str,
    spec: ModelSpec,
    calls: int,
    prompt_tokens: int,
    known: int | None = None,
    each: int | None = None,
) -> PlanLine:
    """A line; `each`: the most tokens that a call generates, where its sampling does not say so."""
    new = calls - (known or 0)
    prompt_tokens = prompt_tokens * new // calls if calls else 0
    most = new * (spec.sampling.max_tokens if each is None else each)
    cost = spec.price.of(prompt_tokens, most) if spec.price else None
    return PlanLine(stage, who, spec.model, calls, known, prompt_tokens, most, cost)


def _given_line(stage: str, spec: Member | Judge) -> PlanLine:
    return PlanLine(stage, spec.name, spec.backend, 0, 0, 0, 0, None)


def _pool_line(recipe: Recipe, member: Member, prompts: Sequence[PromptRow], ledger: Ledger | None) -> PlanLine:
    if member.is_given:
        return _given_line(generation.STAGE, member)
    identity = identity_of(member)
    requests = {
        item.request.key(identity): item.request
        for item in generation.completion_requests(prompts, recipe.pool, member)
    }
    known = len(ledger.replies.get(requests)) if ledger else 0
    chars = sum(len(message["content"]) for request in requests.values() for message in request.messages)
    return _line(generation.STAGE, member.name, member, len(requests), chars // CHARS_A_TOKEN, known)


def _has_ledger(recipe: Recipe) -> bool:
    """Whether there is a ledger to ask. A dry run must not create a SQLite file, and an absent one knows nothing."""
    _, is_sqlite, path = recipe.ledger_url.partition("sqlite:///")
    return not is_sqlite or Path(path).exists()
