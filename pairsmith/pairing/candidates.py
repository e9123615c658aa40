"""The completions that can be part of a pair, and what is known about them: scores, gates, flags, length."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rapidfuzz import fuzz

from pairsmith.config import LengthGap, Pairing, Rating
from pairsmith.judging.scoring import Scores, log_length, scores, stopped
from pairsmith.pairing.agreeing import Rater, raters_of, usual_difference
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as
from pairsmith.storage.schemas import Reason

TOTAL = ""  # stands for the total score where others are listed by the name of their aspect
DIGITS = 4  # of a cosine; rounding differs between machines by far less
SLOPE_STEP = 1e-4  # slopes are rounded to multiples of this; in points per unit of log length

Similarity = Callable[[str, str], float]  # of two texts, 0 to 1
Length = Callable[[LengthGap, str], int]  # of a text, as `max_length_difference` counts it


def in_characters(gap: LengthGap, text: str) -> int:
    """The length of a text where no tokenizer is named."""
    return len(text)


def by_characters(one: str, other: str) -> float:
    """Indel similarity: the share of characters that are kept when one text is turned into the other."""
    return fuzz.ratio(one, other) / 100


def cosine(one: str, other: str) -> float:
    """The cosine of two packed vectors (float32, base64), rounded to `DIGITS`; a negative one counts as 0."""
    vectors = (np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64) for text in (one, other))
    product = math.fsum(a * b for a, b in zip(*(vector.tolist() for vector in vectors), strict=True))
    return min(1.0, max(0.0, round(product, DIGITS)))


@dataclass(frozen=True)
class Evidence:
    """What is known about completions when pairs are selected, by completion_id.

    `stopped_by`: the gate that a completion did not pass. `flags`: what the guard found in it. `slopes`: points per
    unit of log length, for the total score (`TOTAL`) and by aspect. `needs_scores`: whether a completion without a
    score is left out. `min_difference`: where the recipe names none. `raters`: those that must agree, by
    name. `screened`: why a completion or a whole prompt, by its id, is not to be published.
    """

    scores: Mapping[str, Scores] = field(default_factory=dict)
    stopped_by: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    slopes: Mapping[str, float] = field(default_factory=dict)
    similarity: Similarity = by_characters
    length: Length = in_characters
    needs_scores: bool = True
    min_difference: float = 0.0
    raters: Mapping[str, Rater] = field(default_factory=dict)
    screened: Mapping[str, str] = field(default_factory=dict)


def evidence_of(ratings: pd.DataFrame, pairing: Pairing, rating: Rating | None = None) -> Evidence:
    """The evidence from ratings: scores and gates. `rating`: the scales, and how several judges' scores become one."""
    rated = rows_as(RatingRow, ratings)
    return Evidence(
        scores(rated, pairing, rating),
        stopped(rated, rating),
        min_difference=usual_difference(rating),
        raters=raters_of(rated, pairing, rating),
    )


@dataclass(frozen=True)
class Candidate:
    """A completion that may be chosen or rejected.

    `root`: the original completion that it was evolved from, or itself. `worth`: how many points of its score are due
    to its length; they are subtracted if the recipe has length control. `flagged`: it must not be chosen.
    """

    row: CompletionRow
    scores: Scores
    root: str
    worth: float = 0.0
    flagged: bool = False

    @property
    def id(self) -> str:
        return self.row["completion_id"]

    @property
    def score(self) -> float | None:
        return self.scores.total

    @property
    def controlled(self) -> float | None:
        """The score that counts in pairing: the score minus the worth of the length."""
        return None if self.score is None else self.score - self.worth

    def margin_over(self, other: Candidate) -> float | None:
        """By how much the controlled score is above another candidate's; null if one of them has none."""
        if self.controlled is None or other.controlled is None:
            return None
        return self.controlled - other.controlled


def candidates_of(
    completions: Sequence[CompletionRow], pairing: Pairing, evidence: Evidence
) -> tuple[list[Candidate], dict[str, tuple[Reason, str]]]:
    """The candidates among one prompt's completions, and for each other completion the reason and a detail."""
    candidates, barred = [], {}
    parents = {row["completion_id"]: row["parent_id"] for row in completions}
    for row in sorted(completions, key=lambda row: row["completion_id"]):
        name = row["completion_id"]
        flags = evidence.flags.get(name) if pairing.guard.on_flag != "report" else None
        if found := _barred(row, pairing, evidence, flags):
            barred[name] = found
        else:
            worth = worth_of_length(row["text"], evidence.slopes.get(TOTAL))
            scored = evidence.scores.get(name, Scores())
            candidates.append(Candidate(row, scored, _root(name, parents), worth, bool(flags)))
    return candidates, barred


def worth_of_length(text: str, slope: float | None) -> float:
    """How many points of a text's score are due to its length."""
    return slope * log_length(text) if slope else 0.0


def unusable(row: CompletionRow, pairing: Pairing) -> Reason | None:
    """Why a completion can be no candidate, whatever its ratings are; None if it can."""
    if row["error"]:
        return Reason(row["error"].split(":")[0])
    if not row["text"].strip():
        return Reason.EMPTY
    if row["finish_reason"] == "length" and not pairing.allow_truncated:
        return Reason.TRUNCATED
    return None


def _barred(row: CompletionRow, pairing: Pairing, evidence: Evidence, flags: str | None) -> tuple[Reason, str] | None:
    """Why a completion is no candidate, and a detail; None if it is one."""
    name, reason = row["completion_id"], unusable(row, pairing)
    gate = evidence.stopped_by.get(name)
    if not reason and evidence.needs_scores and evidence.scores.get(name, Scores()).total is None:
        reason = Reason.UNRATED
    if reason or gate:
        return reason or Reason.CHECK_FAILED, row["error"] or gate or ""
    if name in evidence.screened:
        return Reason.SCREENED, evidence.screened[name]
    return (Reason.FLAGGED, flags) if flags and pairing.guard.on_flag == "drop" else None


def _root(completion_id: str, parents: Mapping[str, str | None]) -> str:
    while parent := parents.get(completion_id):
        completion_id = parent
    return completion_id
