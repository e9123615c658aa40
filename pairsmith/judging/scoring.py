"""Ratings -> scores: the ratings of several judges in several aspects become one score for each completion.

First, the verdicts of pairwise judges become scores on their aspect's scale (see `pairwise.settled`). Every rating is
converted to the scale 1 to 5 (unchanged if that is its aspect's scale). Then the orders of a listwise judge are
averaged, then the judges are aggregated, then the aspects. With a calibration, each judge's aspects become one, then
the judges are added up by their weights and offsets: such scores are log odds. A reward model's scores are converted
linearly by the judge's `scale`, also beyond its ends; without a `scale` they are unchanged.
"""

from __future__ import annotations

import math
import numbers
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pairsmith.config import Pairing, Rating
from pairsmith.config.plugins import failed, load_plugin
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.judging.pairwise import settled
from pairsmith.judging.readouts import NOT_APPLICABLE
from pairsmith.storage.row_types import RatingRow

OVERALL = "overall"
LOW, HIGH = 1.0, 5.0
_TRIMMED_FROM = 3  # judges; with fewer, `trimmed` leaves none out


@dataclass(frozen=True)
class Scores:
    """A completion's scores from all judges together: in total and by aspect; null where unknown.

    They are on the scale 1 to 5, in the units of a reward model that is the only judge, z-scores, or by a calibration:
    log odds, so that a difference d says that people would call the text better with probability 1 / (1 + exp(-d)).
    """

    total: float | None = None
    aspects: Mapping[str, float | None] = field(default_factory=dict)


Aggregate = Callable[[Sequence[float], Sequence[float]], float | None]
ByJudge = dict[str, float | None]  # judge -> its score for one completion in one aspect; null where it gave none


def scores(ratings: Sequence[RatingRow], pairing: Pairing, rating: Rating | None = None) -> dict[str, Scores]:
    """completion_id -> its scores. Critiques do not count.

    An aspect that a judge called not applicable is left out. An aspect that a judge failed to rate makes the score
    null, since a mean over fewer aspects cannot be compared with others.
    """
    ratings = settled(ratings, rating)
    judged, prompts = _by_judge(ratings, rating), {row["completion_id"]: row["prompt_id"] for row in ratings}
    if rating and rating.aggregation == "z-scored":
        judged = _z_scored(judged, prompts)
    if rating and rating.calibrated:
        counts = rating.calibrated.decides
        if unknown := sorted({row["judge"] for row in ratings if row["aspect"] not in gates_of(rating)} - {*counts}):
            raise ConfigError(f"rating.calibration: it knows nothing of {unknown}, of whom there are ratings")
        return {completion: _calibrated(aspects, counts, pairing) for completion, aspects in judged.items()}
    weights = {judge.name: judge.weight for judge in rating.judges} if rating else {}
    how = aggregation_of(rating.aggregation if rating else "mean")
    table = {}
    for completion, aspects in judged.items():
        found = {aspect: _aggregated(judges, weights, how) for aspect, judges in sorted(aspects.items()) if judges}
        table[completion] = Scores(_total(found, pairing), found)
    return table


def mean(scores: Sequence[float], weights: Sequence[float]) -> float:
    """The mean, weighted by the judges' weights."""
    return sum(score * weight for score, weight in zip(scores, weights, strict=True)) / sum(weights)


def median(scores: Sequence[float], weights: Sequence[float]) -> float:
    """The median; weights are ignored."""
    return statistics.median(scores)


def trimmed(scores: Sequence[float], weights: Sequence[float]) -> float:
    """The mean without the lowest and the highest score, if there are at least three."""
    within = slice(1, -1) if len(scores) >= _TRIMMED_FROM else slice(None)
    return mean(scores[within], weights[within])


# Each takes the scores that a text got in one aspect, lowest first, and the weights of the judges that gave them.
AGGREGATIONS: dict[str, Aggregate] = {
    "mean": mean,
    "median": median,
    "trimmed": trimmed,
    "z-scored": mean,  # `scores` has converted each judge's scores to z-scores before
}


def aggregation_of(name: str) -> Aggregate:
    """The aggregation that a recipe names: a built-in one or the user's own."""
    return AGGREGATIONS[name] if name in AGGREGATIONS else _checked(name, load_plugin(name))


def _checked(name: str, aggregate: Aggregate) -> Aggregate:
    """Wrap a user's own aggregation: raises ConfigError where it fails or returns neither a finite number nor None."""

    def checked(scores: Sequence[float], weights: Sequence[float]) -> float | None:
        try:
            found: object = aggregate(tuple(scores), tuple(weights))
            score = float(found) if isinstance(found, numbers.Real) else math.nan
        except PairsmithError:
            raise
        except (Exception, SystemExit) as error:
            raise failed(name, error) from error
        if found is None:
            return None
        if not math.isfinite(score):
            raise ConfigError(f"{name} returned {found!r:.100}, which is neither a finite number nor None")
        return score

    return checked


def log_length(text: str) -> float:
    """The natural log of a text's number of characters, because what counts for judges is the ratio of two lengths."""
    return math.log(max(1, len(text)))


def gates_of(rating: Rating | None) -> set[str]:
    """Names of the checks that are gates: a text that fails one is barred, and gates are no part of a score."""
    return {check.name for check in rating.checks if check.gate} if rating else set()


def stopped(ratings: Iterable[RatingRow], rating: Rating | None) -> dict[str, str]:
    """completion_id -> the first gate that it failed (by name), for completions that failed one."""
    gates, found = gates_of(rating), dict[str, str]()
    for row in sorted(ratings, key=lambda row: str(row["aspect"])):
        if row["aspect"] in gates and row["rating"] != 1 and row["error"] != NOT_APPLICABLE:
            found.setdefault(row["completion_id"], row["aspect"])
    return found


def in_conflict(chosen: Scores, rejected: Scores) -> bool:
    """Whether overall and the mean of the other aspects put two completions in opposite orders."""
    sides = [(_mean_of_others(one.aspects), one.aspects.get(OVERALL)) for one in (chosen, rejected)]
    (others, overall), (their_others, their_overall) = sides
    if None in (others, overall, their_others, their_overall):
        return False
    return (others - their_others) * (overall - their_overall) < 0  # type: ignore[operator]


def _by_judge(ratings: Iterable[RatingRow], rating: Rating | None) -> dict[str, dict[str, ByJudge]]:
    """completion_id -> aspect -> judge -> score. The score is the mean over the judge's orders."""
    found: dict[tuple[str, str, str], list[float | None]] = defaultdict(list)
    table: dict[str, dict[str, ByJudge]] = defaultdict(dict)
    gates = gates_of(rating)
    judges = rating.judges if rating else ()
    rewards = {judge.name: judge.scale or (LOW, HIGH) for judge in judges if judge.has_own_units}
    for row in ratings:
        if row["aspect"] == "critique" or row["aspect"] in gates:
            continue
        table[row["completion_id"]].setdefault(row["aspect"], {})
        if row["error"] != NOT_APPLICABLE:
            scale = rewards.get(row["judge"]) or (rating.scale_of(row["aspect"]) if rating else (LOW, HIGH))
            on_scale = None if row["score"] is None else moved(row["score"], scale, (LOW, HIGH))
            found[row["completion_id"], row["aspect"], row["judge"]].append(on_scale)
    for (completion, aspect, judge), values in found.items():
        known = sorted(value for value in values if value is not None)
        table[completion][aspect][judge] = sum(known) / len(known) if known else None
    return table


def moved(score: float, scale: tuple[float, float], to: tuple[float, float]) -> float:
    """Convert a score linearly from one scale to another. A score beyond the ends of the one stays beyond the other's.

    >>> moved(0.0, (-10, 10), (1, 5)), moved(20.0, (-10, 10), (1, 5)), moved(0.1, (1, 5), (1, 5))
    (3.0, 7.0, 0.1)
    """
    if scale == to:
        return score
    return to[0] + (score - scale[0]) * (to[1] - to[0]) / (scale[1] - scale[0])


def _aggregated(judges: ByJudge, weights: Mapping[str, float], how: Aggregate) -> float | None:
    """One score from those of several judges; null where one of them failed to rate."""
    if None in judges.values():
        return None
    pairs = sorted((float(score or 0.0), weights.get(judge, 1.0)) for judge, score in judges.items())
    return how([score for score, _ in pairs], [weight for _, weight in pairs])


def _calibrated(aspects: Mapping[str, ByJudge], counts: Mapping[str, tuple[float, float]], pairing: Pairing) -> Scores:
    """The scores by weights and offsets: judge -> (weight, offset). A judge of weight 0 counts nothing, not its nulls.

    A judge without a score in any aspect that counts adds 0, as if it had called the text average.
    """
    found = {
        aspect: _sum_of({judge: score for judge, score in judges.items() if counts[judge][0]}, counts)
        for aspect, judges in sorted(aspects.items())
        if any(counts[judge][0] for judge in judges)
    }
    own: dict[str, dict[str, float | None]] = defaultdict(dict)
    for aspect, judges in aspects.items():
        for judge, score in judges.items():
            if counts[judge][0] and _counts(aspect, pairing):
                own[judge][aspect] = score
    totals = {judge: _total(scored, pairing) for judge, scored in own.items()}
    return Scores(_sum_of(totals, counts) if totals else None, found)


def _sum_of(judges: ByJudge, counts: Mapping[str, tuple[float, float]]) -> float | None:
    if None in judges.values():
        return None
    return sum(counts[judge][0] * ((score or 0.0) - counts[judge][1]) for judge, score in sorted(judges.items()))


def _counts(aspect: str, pairing: Pairing) -> bool:
    """Whether an aspect is part of the total score."""
    if pairing.conflicts == "prefer-overall":
        return aspect == OVERALL
    is_counted = pairing.conflicts != "prefer-aspects" or aspect != OVERALL
    return is_counted and pairing.aspect_weights.get(aspect, 1.0) > 0


def _z_scored(judged: dict[str, dict[str, ByJudge]], prompts: Mapping[str, str]) -> dict[str, dict[str, ByJudge]]:
    """Replace scores by z-scores: the distance from the judge's mean over the prompt's texts, in standard deviations.

    It is 0 where all of them are equal.
    """
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for completion, aspects in judged.items():
        for aspect, judges in aspects.items():
            for judge, score in judges.items():
                if score is not None:
                    groups[prompts[completion], aspect, judge].append(score)
    spread = {key: (statistics.fmean(sorted(g)), statistics.pstdev(sorted(g))) for key, g in groups.items()}

    def standard(score: float | None, key: tuple[str, str, str]) -> float | None:
        if score is None:
            return None
        mean, deviation = spread[key]
        return (score - mean) / deviation if deviation > 0 else 0.0

    return {
        completion: {
            aspect: {judge: standard(score, (prompts[completion], aspect, judge)) for judge, score in judges.items()}
            for aspect, judges in aspects.items()
        }
        for completion, aspects in judged.items()
    }


def _total(aspects: Mapping[str, float | None], pairing: Pairing) -> float | None:
    if pairing.conflicts == "prefer-overall":
        return aspects.get(OVERALL)
    chosen = {aspect: score for aspect, score in aspects.items() if _counts(aspect, pairing)}
    counted = [(score, float(pairing.aspect_weights.get(aspect, 1.0))) for aspect, score in chosen.items()]
    if not counted or any(score is None for score, _ in counted):
        return None
    return sum((score or 0.0) * weight for score, weight in counted) / sum(weight for _, weight in counted)


def _mean_of_others(aspects: Mapping[str, float | None]) -> float | None:
    others = [score for aspect, score in aspects.items() if aspect != OVERALL]
    if not others or None in others:
        return None
    return sum(score or 0.0 for score in others) / len(others)
