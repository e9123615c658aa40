"""Pairwise judges: which texts of a prompt they compare, and what their verdicts come to as scores.

A comparison is asked in both orders. In the ratings table each order has a row for each side; its score is the
probability that this text is the better, and what the two rows lack to 1 is the probability of a tie. The mean of both
orders counts, which cancels what the place does. Why: Wang et al. 2023, https://arxiv.org/abs/2305.17926.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import pandas as pd

from pairsmith.config import Judge, Rating
from pairsmith.ids import draw
from pairsmith.judging.tournament import on_scale, paired_off, strengths
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as, unrated
from pairsmith.storage.schemas import Reason, frame

PAIRWISE, GIVEN = "pairwise", "given"  # protocols
ALONE = "nothing to compare it with"

Two = tuple[CompletionRow, CompletionRow]


def compared(group: Sequence[CompletionRow], judge: Judge, aspect: str, earlier: Sequence[RatingRow] = ()) -> list[Two]:
    """The comparisons of one prompt's texts in one aspect, each with the lower id first.

    `earlier`: what the judge said of them in the rounds before. Where one of these failed and is to be asked again,
    nothing more is drawn, since the draw would be another.
    """
    by_id = {row["completion_id"]: row for row in group}
    if judge.against is not None:
        theirs = {name for name, row in by_id.items() if row["member"] == judge.against}
        drawn = [two for two in combinations(sorted(by_id), 2) if len(theirs & set(two)) == 1]
    elif judge.comparisons == "all":
        drawn = list(combinations(sorted(by_id), 2))
    elif any((row["error"] or "").startswith(Reason.FAILED) for row in earlier):
        drawn = []
    else:
        won = won_in(earlier)
        points: dict[str, float] = defaultdict(float)
        for (one, other), probability in won.items():
            points[one] += probability
            points[other] += 1 - probability
        names = sorted(by_id, key=lambda name: draw("swiss", judge.seed, judge.name, aspect, name))
        met = [(row["completion_id"], against) for row in earlier if (against := row.get("against"))]
        drawn = paired_off(names, points, met)
    return [(by_id[min(two)], by_id[max(two)]) for two in sorted(map(sorted, drawn))]


def uncompared(
    group: Sequence[CompletionRow], judge: Judge, rating: Rating, made: Sequence[RatingRow]
) -> list[RatingRow]:
    """A row with an error for each text and aspect in which the judge compared it with none."""
    there = {(row["completion_id"], row["aspect"]) for row in made}
    return [
        unrated(row, judge.name, aspect, PAIRWISE, ALONE)
        for row in group
        for aspect in rating.aspects_of(judge)
        if (row["completion_id"], aspect) not in there
    ]


def won_in(verdicts: Iterable[RatingRow]) -> dict[tuple[str, str], float]:
    """Two texts, the lower id first -> probability that the first is better, from verdicts in one aspect.

    It is the mean over the orders of the probability that it is better and half of that of a tie, which is
    1/2 + the mean over all rows of the first's scores and the second's, these with a minus. Comparisons of which a
    verdict is null are left out; of given votes only the null ones are.
    """
    sides: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for row in verdicts:
        if other := row.get("against"):
            name, score = row["completion_id"], row["score"]
            if score is None and row["protocol"] == GIVEN:
                continue
            sides[min(name, other), max(name, other)].append(score if score is None or name < other else -score)
    return {
        two: 0.5 + math.fsum(part for part in parts if part is not None) / len(parts)
        for two, parts in sorted(sides.items())
        if None not in parts
    }


def settled(ratings: Sequence[RatingRow], rating: Rating | None = None) -> list[RatingRow]:
    """Ratings in which verdicts have become scores: one row for each judge, aspect and text that was compared.

    The score stands on the aspect's scale; it is null, with the reason, where no comparison of the text could be read.
    Other rows are unchanged, so a table that was settled stays what it is.
    """
    groups: dict[tuple[str, str, str], list[RatingRow]] = defaultdict(list)
    plain = list[RatingRow]()
    for row in ratings:
        if row.get("against"):
            groups[row["prompt_id"], row["judge"], row["aspect"]].append(row)
        else:
            plain.append(row)
    for (_, _, aspect), verdicts in sorted(groups.items()):
        found, scale = strengths(won_in(verdicts)), rating.scale_of(aspect) if rating else (1, 5)
        first = {row["completion_id"]: row for row in sorted(verdicts, key=_place, reverse=True)}
        for name, row in sorted(first.items()):
            score = on_scale(found[name], scale) if name in found else None
            errors = sorted({str(one["error"]) for one in verdicts if name == one["completion_id"] and one["error"]})
            settled_row = {**row, "order": 0, "position": None, "against": None, "rating": None, "score": score}
            reason = None if score is not None else (errors or ["no readable comparison"])[0]
            plain.append({**settled_row, "rationale": None, "reply": "", "request": "", "error": reason})  # type: ignore[typeddict-item]
    return plain


def divided(ratings: pd.DataFrame, rating: Rating | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A ratings table with scores in place of verdicts, and the verdicts by themselves."""
    if "against" not in ratings.columns:
        return ratings, ratings.iloc[:0]
    whole = settled(rows_as(RatingRow, ratings), rating)
    return frame("ratings", whole), ratings[ratings["against"].notna()].reset_index(drop=True)


def _place(row: RatingRow) -> tuple[str, int]:
    return str(row["against"]), row["order"]
