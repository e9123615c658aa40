"""Gold rated by a judge in one form: through the same functions as a data set's answers, and through the ledger."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pairsmith.config import Judge, Pairing, Rating, Recipe
from pairsmith.ids import completion_id
from pairsmith.judging.criteria_reading import reads_criteria
from pairsmith.judging.criteria_sifting import sifted
from pairsmith.judging.rating import rate
from pairsmith.judging.scoring import scores
from pairsmith.ledger.ledger import open_ledger
from pairsmith.progress import Progress, Tell, nobody
from pairsmith.session import Session
from pairsmith.stages.criteria import criteria_of
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.row_types import CriterionRow, RatingRow, rows_as
from pairsmith.storage.schemas import frame
from pairsmith.worth.accuracy import Accuracy, Outcome, measured
from pairsmith.worth.gold import GoldPair

WRITER = "gold"  # the member under whose name gold answers are rated
Sides = tuple[float | None, float | None]  # the scores of a and b; None where unknown


@dataclass(frozen=True)
class Tested:
    """What a judge in one form made of all pairs, in their order.

    `own`: the recipe's judge; `form`: as it was asked. `calls`: those that the ledger could not answer. `seconds`: for
    each pair, where enough was asked to tell. `cost`: for each pair, also for what the ledger knew; None without a
    price. `problem`: the commonest reason for nulls.
    """

    own: Judge
    form: Judge
    sides: tuple[Sides, ...]
    outcomes: tuple[Outcome, ...]
    calls: int = 0
    seconds: float | None = None
    cost: float | None = None
    problem: str | None = None
    accuracy: Accuracy = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accuracy", measured(self.outcomes))

    @property
    def is_own(self) -> bool:
        """Whether it was asked as the recipe asks it."""
        return self.form == self.own.model_copy(update={"critique": False})


def tested(recipe: Recipe, judge: Judge, form: Judge, pairs: Sequence[GoldPair], session: Session) -> Tested:
    """Let a judge rate both answers of all pairs. Replies that the ledger has are not asked for again."""
    assert recipe.rating is not None
    alone, clock = rating_by(recipe.rating, form), _Clock(session.tell)
    llm = recorded_model(recipe, form, session)
    tables, asked = tables_of(pairs), [llm]
    items, author = frame("criteria", []), None
    if reads_criteria(alone, form):
        items, author = criteria_of(recipe, *tables, session, nobody)
        asked += [author] if author else []
    rated = rate(*tables, alone, form, llm, None, clock.tell, rows_as(CriterionRow, items))
    made = rows_as(RatingRow, sifted(rated, items, recipe.criteria)[0])
    sides, outcomes = outcomes_of(made, pairs, recipe.pairing, alone)
    is_priced = form.price and (author is None or (recipe.criteria and recipe.criteria.author.price))  # type: ignore[union-attr]
    used = set[str]().union(*(one.used for one in asked))
    cost = open_ledger(recipe.ledger_url, session).spending.cost_of(used) if is_priced else None
    each = clock.seconds_a_reply
    return Tested(
        own=judge,
        form=form,
        sides=sides,
        outcomes=outcomes,
        calls=sum(one.calls for one in asked),
        seconds=None if each is None else each * len(llm.used) / len(pairs),
        cost=None if cost is None else cost / len(pairs),
        problem=_commonest(made),
    )


class _Clock:
    """Passes progress on, and tells seconds a reply from the second lot of replies on: the first holds what the ledger
    knew, or waits for weights to be loaded."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._seen = tell, list[tuple[float, int]]()

    def tell(self, event: Progress) -> None:
        if event.replies:
            self._seen.append((time.monotonic(), event.replies))
        self._tell(event)

    @property
    def seconds_a_reply(self) -> float | None:
        later = sum(count for _, count in self._seen[1:])
        return (self._seen[-1][0] - self._seen[0][0]) / later if later else None


def rating_by(rating: Rating, judge: Judge) -> Rating:
    """The rating section in which this judge alone rates."""
    alone = {"judges": (judge,), "checks": (), "aspects": rating.aspects_of(judge)}
    return rating.model_copy(update=alone | {"aggregation": "mean", "calibration": None})


def tables_of(pairs: Iterable[GoldPair]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of prompts and completions of gold: each pair is a prompt of its own, so that two answers are compared
    with each other alone."""
    prompts, completions = list[dict[str, Any]](), list[dict[str, Any]]()
    for pair in pairs:
        messages = json.dumps(list(pair.messages), ensure_ascii=False)
        prompt = {"prompt_id": pair.pair_id, "messages": messages, "system_prompt": pair.system_prompt}
        prompts.append(prompt | {"source": WRITER, "reference": pair.reference, "extras": None})
        for name, text in zip(answer_ids(pair), (pair.a, pair.b), strict=True):
            row = {"completion_id": name, "prompt_id": pair.pair_id, "member": WRITER, "model": "", "text": text}
            completions.append(
                row | {"n_tokens": 0, "sample": 0, "seed": 0, "evolution": 0, "request": "", "error": None}
            )
    return frame("prompts", prompts), frame("completions", completions)


def answer_ids(pair: GoldPair) -> tuple[str, str]:
    """The completion ids under which the answers of a pair are rated."""
    first, second = (completion_id(pair.pair_id, WRITER, 0, 0, None, text) for text in (pair.a, pair.b))
    return first, second


def outcomes_of(
    made: Sequence[RatingRow], pairs: Sequence[GoldPair], pairing: Pairing, alone: Rating
) -> tuple[tuple[Sides, ...], tuple[Outcome, ...]]:
    """The scores of both answers of each pair, and what follows from them, of the ratings of one judge."""
    totals, views = scores(made, pairing, alone), _views(made)
    sides, outcomes = list[Sides](), list[Outcome]()
    for pair in pairs:
        one, other = ((totals[name].total if name in totals else None) for name in answer_ids(pair))
        sides.append((one, other))
        flipped, first = _by_place(views[pair.pair_id], answer_ids(pair)[0])
        margin = None if one is None or other is None else one - other
        outcomes.append(Outcome(pair.better == "a", margin, len(pair.a) - len(pair.b), flipped, first))
    return tuple(sides), tuple(outcomes)


View = Mapping[int, tuple[str, float]]  # position -> the text there and its score


def _views(made: Iterable[RatingRow]) -> dict[str, list[View]]:
    """prompt_id -> each time that both texts of a pair were seen side by side."""
    found: dict[tuple[str, str, int], dict[int, tuple[str, float]]] = defaultdict(dict)
    for row in made:
        position = row.get("position")
        if row["score"] is not None and position is not None:
            found[row["prompt_id"], row["aspect"], row["order"]][position] = row["completion_id"], row["score"]
    views = defaultdict[str, list[View]](list)
    for (prompt, _, _), view in found.items():
        if len(view) == 2:
            views[prompt].append(view)
    return views


def _by_place(views: Sequence[View], a: str) -> tuple[bool | None, float | None]:
    """Whether a swap of the sides changed which answer was preferred, and how often the first was.

    None where the pair was not seen both ways round, or no preference was given.
    """
    margins: dict[bool, float] = defaultdict(float)  # whether a was first -> its score minus the other's
    firsts = []
    for view in views:
        (_, (first, score)), (_, (_, other)) = sorted(view.items())
        margins[first == a] += (score - other) if first == a else (other - score)
        firsts += [float(score > other)] if score != other else []
    flipped = margins[True] * margins[False] < 0 if len(margins) == 2 else None
    return flipped, sum(firsts) / len(firsts) if firsts else None


def _commonest(made: Iterable[RatingRow]) -> str | None:
    problems = Counter(row["error"] for row in made if row["error"] is not None)
    return problems.most_common(1)[0][0] if problems else None
