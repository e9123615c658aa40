"""The completions that a pair can be made of, and what is known of them: scores, gates, flags, length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from rapidfuzz import fuzz

from pairsmith.config import Pairing, Rating
from pairsmith.judging.scoring import Scores, log_length, scores, stopped
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as
from pairsmith.storage.schemas import Reason

TOTAL = ""  # beside the names of aspects, that of the score in all
SLOPE_STEP = 1e-4  # of what length is worth, in points for each unit of log length

Similarity = Callable[[str, str], float]  # of two texts, 0 to 1


def by_characters(one: str, other: str) -> float:
    """Indel similarity: the share of characters that stay when one text is turned into the other."""
    return fuzz.ratio(one, other) / 100


@dataclass(frozen=True)
class Evidence:
    """What is known of completions when pairs are selected, by completion_id.

    `stopped_by`: the gate that a completion did not pass. `flags`: what the guard found in it. `slopes`: what log
    length is worth, in all (`TOTAL`) and by aspect. `needs_scores`: whether a completion without a score is left out.
    """

    scores: Mapping[str, Scores] = field(default_factory=dict)
    stopped_by: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    slopes: Mapping[str, float] = field(default_factory=dict)
    similarity: Similarity = by_characters
    needs_scores: bool = True


def evidence_of(ratings: pd.DataFrame, pairing: Pairing, rating: Rating | None = None) -> Evidence:
    """What ratings tell of completions. `rating`: the scales, and how the scores of several judges become one."""
    rated = rows_as(RatingRow, ratings)
    return Evidence(scores(rated, pairing, rating), stopped(rated, rating))


@dataclass(frozen=True)
class Candidate:
    """A completion that may be chosen or rejected. `root`: the completion that it was evolved from, or itself.

    `worth`: what its length is worth in points, which is taken off where the recipe has length control. `flagged`: it
    may not be chosen.
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
        """The score that counts: less what the length is worth."""
        return None if self.score is None else self.score - self.worth

    def margin_over(self, other: Candidate) -> float | None:
        """By how much its score is above another's; null where one of them has none."""
        if self.controlled is None or other.controlled is None:
            return None
        return self.controlled - other.controlled


def candidates_of(
    completions: Sequence[CompletionRow], pairing: Pairing, evidence: Evidence
) -> tuple[list[Candidate], dict[str, tuple[Reason, str]]]:
    """The completions of one prompt that pairs can be made of; for each of the others the reason, with its detail."""
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
    """What the length of a text is worth, in points."""
    return slope * log_length(text) if slope else 0.0


def unusable(row: CompletionRow, pairing: Pairing) -> Reason | None:
    """Why a completion can be no candidate, whatever judges say of it."""
    if row["error"]:
        return Reason(row["error"].split(":")[0])
    if not row["text"].strip():
        return Reason.EMPTY
    if row["finish_reason"] == "length" and not pairing.allow_truncated:
        return Reason.TRUNCATED
    return None


def _barred(row: CompletionRow, pairing: Pairing, evidence: Evidence, flags: str | None) -> tuple[Reason, str] | None:
    """Why a completion is no candidate, with the detail."""
    name, reason = row["completion_id"], unusable(row, pairing)
    gate = evidence.stopped_by.get(name)
    if not reason and evidence.needs_scores and evidence.scores.get(name, Scores()).total is None:
        reason = Reason.UNRATED
    if reason or gate:
        return reason or Reason.CHECK_FAILED, row["error"] or gate or ""
    return (Reason.FLAGGED, flags) if flags and pairing.guard.on_flag == "drop" else None


def _root(completion_id: str, parents: Mapping[str, str | None]) -> str:
    while parent := parents.get(completion_id):
        completion_id = parent
    return completion_id
