"""What a run would do and cost, without doing it: its calls, those that the ledger knows, and tokens and cost at most.

Prompt tokens are estimated at four characters each. Answers have max_tokens at most, and likely as many tokens as those
of the same model in the ledger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pairsmith.config import Judge, Member, ModelSpec, Rating, Recipe
from pairsmith.generation import evolution
from pairsmith.generation import pool as generation
from pairsmith.judging import criteria, rating
from pairsmith.judging.asking import JudgeRequest, judge_requests, rated_by
from pairsmith.judging.criteria_reading import item_requests, reads_criteria
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.registry import identity_of, role_of
from pairsmith.planning.preflight import require_all
from pairsmith.sources import given_completions
from pairsmith.sources.http import fetched
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.sharding import no_prompts
from pairsmith.sources.unread import Unread
from pairsmith.storage.row_types import CompletionRow, PromptRow

CHARS_A_TOKEN = 4
EVOLVING, AUTHORING, JUDGING, ITEM = 150, 700, 300, 200  # tokens of our own prompt text in a request
# Tokens of an answer, where the ledger has none of the model; and the stage at which each is asked.
USUAL = {"member": 250, "evolver": 300, "author": 400, "judge": 100}
STAGES = {"member": generation.STAGE, "evolver": evolution.STAGE, "author": criteria.STAGE, "judge": rating.STAGE}
Size = Callable[[ModelSpec], int]  # tokens of one answer
Known = tuple[int, int, int]  # calls, tokens of their prompts, calls whose replies the ledger has


@dataclass(frozen=True)
class PlanLine:
    """One line of a plan. `calls`, `max_tokens` and `cost` are upper bounds; `known` is exact, or None if not counted.

    `prompt_tokens` is an estimate; `cost` is None where the model has no price. `likely_tokens` and `likely_cost`: what
    it comes to with answers as long as the ledger knows of this model, see `typical`.
    """

    stage: str
    who: str
    model: str
    calls: int
    known: int | None
    prompt_tokens: int
    max_tokens: int
    cost: float | None
    likely_tokens: int = 0
    likely_cost: float | None = None


@dataclass(frozen=True)
class Plan:
    accepted: int
    rejected: list[dict[str, Any]]
    lines: list[PlanLine]
    unread: list[str]  # a sentence for each source with columns that are filled and not read

    @property
    def usual(self) -> dict[str, int]:
        """USUAL, of those that this plan asks."""
        asked = {line.stage for line in self.lines}
        return {role: tokens for role, tokens in USUAL.items() if STAGES[role] in asked}


@dataclass(frozen=True)
class _Shape:
    """What is done with a prompt. `answers`: how many of whom it has or will have, given ones too; `is_evolved`:
    whether rewrites of them can be paired; `is_judged`: whether judges rate them."""

    answers: tuple[tuple[str, int], ...]
    is_evolved: bool
    is_judged: bool

    def of(self, members: Collection[str]) -> int:
        """How many answers are by these; of all where there are none."""
        return sum(count for name, count in self.answers if not members or name in members)


@dataclass(frozen=True)
class _Counts:
    """`known`: for each member, see `_known`; `shapes`: of how many prompts; `question` and `longest`: tokens of a
    prompt, and of the longest given answer."""

    known: list[Known]
    shapes: Mapping[_Shape, int]
    question: int
    longest: int


def plan_run(recipe: Recipe) -> Plan:
    """Read the prompts and count the requests of every stage. Writes nothing and loads no model."""
    require_all(recipe)
    unread = Unread()
    with fetched(recipe.prompts) as bodies:
        read = list(read_prompts(recipe.prompts, bodies, unread=unread))
    prompts = cast(list[PromptRow], [row for row in read if "reason" not in row])
    rejected = [row for row in read if "reason" in row]
    if not prompts:
        raise no_prompts(rejected)
    with closing(Ledger(recipe.ledger_url)) if has_ledger(recipe) else nullcontext() as ledger:
        counts = _counts(recipe, prompts, ledger)
        most = _lines(recipe, counts, lambda spec: spec.sampling.max_tokens, reasks=True)
        likely = _lines(recipe, counts, lambda spec: typical(spec, ledger), reasks=False)
    lines = [
        replace(one, likely_tokens=other.max_tokens, likely_cost=other.cost)
        for one, other in zip(most, likely, strict=True)
    ]
    return Plan(len(prompts), rejected, lines, unread.told())


def foreseen(
    prompts: Sequence[PromptRow], completions: Sequence[CompletionRow], settings: Rating, judge: Judge
) -> list[JudgeRequest]:
    """What a judge is asked about completions, as far as that is known before it is asked: of criteria, which nobody
    has written yet, as many as there can be."""
    asked = list(judge_requests(prompts, completions, settings, judge))
    if reads_criteria(settings, judge):
        groups = rated_by(completions, settings, judge)
        asked += item_requests(prompts, groups, criteria.stand_ins(prompts, settings.criteria), judge)
    return asked


def typical(spec: ModelSpec, ledger: Ledger | None) -> int:
    """Tokens of an answer: as many as the ledger's of this model in this role have on average, else what is usual."""
    role = role_of(spec)
    known = ledger.spending.typical_tokens(spec.backend, spec.model, role) if ledger else None
    if known is None and isinstance(spec, Judge) and spec.readout == "logprobs":
        known = 1
    return min(spec.sampling.max_tokens, round(known) if known is not None else USUAL[role])


def _counts(recipe: Recipe, prompts: Sequence[PromptRow], ledger: Ledger | None) -> _Counts:
    """What is counted in the prompts, however long the answers to them are."""
    brought = [[item for item in given_completions.carried(p) if "error" not in item] for p in prompts]
    return _Counts(
        known=[_known(recipe, member, prompts, ledger) for member in recipe.pool.members],
        shapes=Counter(_shape(recipe, p, items) for p, items in zip(prompts, brought, strict=True)),
        question=sum(len(p["messages"]) // CHARS_A_TOKEN for p in prompts) // len(prompts),
        longest=max((len(item["text"]) // CHARS_A_TOKEN for items in brought for item in items), default=0),
    )


def _shape(recipe: Recipe, prompt: PromptRow, brought: Sequence[Mapping[str, Any]]) -> _Shape:
    unlabelled = recipe.pool.given.name if recipe.pool.given else ""
    answers = Counter(str(item.get("member", unlabelled)) for item in brought)
    for name in generation.answering(recipe.pool, recipe.pairing, prompt):
        answers[name] += recipe.pool.member(name).samples
    place, evolver = (prompt["prompt_id"], prompt["source"]), recipe.evolution.evolver.name if recipe.evolution else ""
    may_evolve = recipe.evolution is not None and recipe.pairing.can_pair(evolver, *place)
    return _Shape(tuple(sorted(answers.items())), may_evolve, recipe.pairing.is_judged(*place))


def _lines(recipe: Recipe, counts: _Counts, size: Size, reasks: bool) -> list[PlanLine]:
    """The lines of all who are asked, with answers of `size`; `reasks`: all who may be asked again are."""
    members = zip(recipe.pool.members, counts.known, strict=True)
    lines = [_pool_line(member, *asked, size) for member, asked in members]
    question, groups = counts.question, {shape: shape.of(()) for shape in counts.shapes}
    answer = max([counts.longest, *map(size, recipe.pool.asked)])
    if settings := recipe.evolution:
        parents = {shape: shape.of(settings.of) if shape.is_evolved else 0 for shape in counts.shapes}
        calls = settings.rounds * sum(parents[shape] * many for shape, many in counts.shapes.items())
        groups = {s: n + parents[s] * (1 if settings.keep == "last" else settings.rounds) for s, n in groups.items()}
        answer, evolver = max(answer, size(settings.evolver)), settings.evolver
        tokens = calls * (question + answer + EVOLVING)
        lines.append(_line(evolution.STAGE, evolver.name, evolver, calls, tokens, size(evolver)))
    judged = {shape: many for shape, many in counts.shapes.items() if shape.is_judged}
    prompts, candidates = sum(judged.values()), sum(groups[shape] * many for shape, many in judged.items())
    if recipe.criteria and (author := recipe.criteria.author):
        calls = sum(many for shape, many in judged.items() if groups[shape] > 1) * (1 + author.reasks * reasks)
        tokens = calls * (question + 2 * answer + AUTHORING)
        lines.append(_line(criteria.STAGE, author.name, author, calls, tokens, size(author)))
    if recipe.rating:
        pool = set(recipe.families.values())
        for judge in recipe.rating.judges:
            left_out = recipe.rating.own_family == "auto" and not recipe.rating.rates(judge, judge.family_name, pool)
            twos = sum(_comparisons(judge, shape, groups[shape]) * many for shape, many in judged.items())
            rated = (0, 0, 0) if left_out else (prompts, candidates, twos)
            times = 1 + judge.reasks * reasks
            lines.append(_judge_line(recipe.rating, judge, *rated, question, answer, times, size))
    return lines


def _judge_line(
    settings: Rating,
    judge: Judge,
    prompts: int,
    candidates: int,
    comparisons: int,
    question: int,
    answer: int,
    times: int,
    size: Size,
) -> PlanLine:
    """The line of a judge; `question` and `answer`: tokens of a prompt, and of a completion; `times`: it is asked."""
    if judge.is_given:
        return _given_line(rating.STAGE, judge)
    if judge.is_reward:
        calls, texts = (2 * comparisons, 4 * comparisons) if judge.is_pairwise else (candidates, candidates)
        return _line(rating.STAGE, judge.name, judge, calls, calls * question + texts * answer, 0)
    n_aspects, reads = len(settings.aspects_of(judge)), reads_criteria(settings, judge)
    critiques = candidates if judge.critique else 0
    each, texts = {
        "listwise": (prompts * judge.orders, candidates * judge.orders),
        "pointwise": (candidates, candidates),
        "pairwise": (2 * comparisons, 4 * comparisons),
    }[judge.protocol]  # calls for an aspect, and how many texts they show
    n_aspects -= reads
    calls, shown = each * n_aspects + critiques, (texts * n_aspects + critiques) * answer
    items = candidates * settings.criteria.per_prompt if settings.criteria and reads else 0
    if judge.readout != "logprobs":
        calls, shown, items = calls * times, shown * times, items * times  # where nothing could be read
    prompt_tokens = calls * (question + JUDGING) + shown + items * (question + ITEM + answer)
    of_item = 1 if judge.readout == "logprobs" else size(judge)
    each = math.ceil((calls * size(judge) + items * of_item) / (calls + items)) if calls + items else 0
    return _line(rating.STAGE, judge.name, judge, calls + items, prompt_tokens, each)


def _comparisons(judge: Judge, shape: _Shape, texts: int) -> int:
    """How many comparisons a pairwise judge makes of a prompt's texts in an aspect, at most."""
    if not judge.is_pairwise:
        return 0
    if judge.against is not None:
        theirs = shape.of([judge.against])
        return theirs * (texts - theirs)
    every = math.comb(texts, 2)
    return every if judge.comparisons == "all" else min(every, judge.rounds * (texts // 2))


def _line(
    stage: str, who: str, spec: ModelSpec, calls: int, prompt_tokens: int, each: int, known: int | None = None
) -> PlanLine:
    """A line; `each`: the tokens that a call generates."""
    new = calls - (known or 0)
    prompt_tokens = prompt_tokens * new // calls if calls else 0
    cost = spec.price.of(prompt_tokens, new * each) if spec.price else None
    return PlanLine(stage, who, spec.model, calls, known, prompt_tokens, new * each, cost)


def _given_line(stage: str, spec: Member | Judge) -> PlanLine:
    return PlanLine(stage, spec.name, spec.backend, 0, 0, 0, 0, None)


def _known(recipe: Recipe, member: Member, prompts: Sequence[PromptRow], ledger: Ledger | None) -> Known:
    """The requests to a member, the tokens of their prompts, and how many of the replies the ledger has."""
    if member.is_given:
        return 0, 0, 0
    identity = identity_of(member)
    requests = {
        item.request.key(identity): item.request
        for item in generation.completion_requests(prompts, recipe.pool, member, recipe.pairing)
    }
    chars = sum(len(message["content"]) for request in requests.values() for message in request.messages)
    return len(requests), chars // CHARS_A_TOKEN, len(ledger.replies.get(requests)) if ledger else 0


def _pool_line(member: Member, calls: int, prompt_tokens: int, known: int, size: Size) -> PlanLine:
    if member.is_given:
        return _given_line(generation.STAGE, member)
    return _line(generation.STAGE, member.name, member, calls, prompt_tokens, size(member), known)


def has_ledger(recipe: Recipe) -> bool:
    """Whether there is a ledger to ask. A dry run must not create a SQLite file, and an absent one knows nothing."""
    _, is_sqlite, path = recipe.ledger_url.partition("sqlite:///")
    return not is_sqlite or Path(path).exists()
