"""Raters that must agree: the scores that each judge whom `pairing.agree` names, or the checks, give by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pairsmith.config import Pairing, Rating
from pairsmith.judging.scoring import OVERALL, gates_of, scores
from pairsmith.storage.row_types import RatingRow

# Scores on the scale 1 to 5 that differ by less say nothing, where they are continuous: a judge would have moved 1 % of
# its probability from one digit to the next, and a reward model would call the better text that with 50.25 % (by
# Bradley-Terry), while rounding in half precision alone moves a score by about as much.
LEAST_DIFFERENCE = 0.01
EPSILON = 1e-9  # scores closer than this are a tie


@dataclass(frozen=True)
class Rater:
    """A judge or the checks. `totals`: completion_id -> score, null where it gave none; `least`: nearer ones tie."""

    name: str
    totals: Mapping[str, float | None] = field(default_factory=dict)
    least: float = 0.0


def usual_difference(rating: Rating | None) -> float:
    """The `min_difference` of a recipe that names none: `LEAST_DIFFERENCE` if scores are continuous, else 0."""
    return LEAST_DIFFERENCE if rating and rating.is_continuous else 0.0


def raters_of(ratings: Sequence[RatingRow], pairing: Pairing, rating: Rating | None) -> dict[str, Rater]:
    """The raters whom a recipe names in `agree`, by name."""
    named = {name for _, part in pairing.parts for name in part.agree}
    return {name: rater_of(name, ratings, pairing, rating) for name in sorted(named)} if rating else {}


def higher(one: float, other: float) -> int:
    """1 where the first score is the higher, -1 where the second is, 0 for a tie."""
    return 0 if abs(one - other) <= EPSILON else 1 if one > other else -1


def dissent(raters: Sequence[Rater], chosen: str, rejected: str) -> str | None:
    """Who does not score the completion `chosen` higher than the other one, and how it scores them; None if all do."""
    for rater in raters:
        high, low = rater.totals.get(chosen), rater.totals.get(rejected)
        if high is None or low is None:
            return f"{rater.name} gave no score"
        if high - low <= EPSILON or high - low < rater.least - EPSILON:
            return f"{rater.name} gave {high:.4g} and {low:.4g}"
    return None


def rater_of(name: str, ratings: Sequence[RatingRow], pairing: Pairing, rating: Rating) -> Rater:
    """A judge, or the checks, with the scores that it gives by itself."""
    uncounted = {"critique", *gates_of(rating)}
    rows = [row for row in ratings if row["judge"] == name and row["aspect"] not in uncounted]
    alone = rating.model_copy(update={"judges": tuple(judge for judge in rating.judges if judge.name == name)})
    found = scores(rows, _as_it_rates(pairing, {row["aspect"] for row in rows}), alone)
    least = usual_difference(alone) if alone.judges else 0.0
    return Rater(name, {completion: score.total for completion, score in found.items()}, least)


def _as_it_rates(pairing: Pairing, aspects: set[str]) -> Pairing:
    """The pairing with the rules that make sense for one rater: no preference for aspects that it does not rate, and no
    weights where they are all 0, as those of a rater are that has a say in nothing but whether it agrees."""
    preferred = {"prefer-overall": {OVERALL} & aspects, "prefer-aspects": aspects - {OVERALL}}
    weights = pairing.aspect_weights if any(pairing.aspect_weights.get(one, 1.0) for one in aspects) else {}
    conflicts = pairing.conflicts if preferred.get(pairing.conflicts) else "ignore"
    return pairing.model_copy(update={"conflicts": conflicts, "aspect_weights": weights})
