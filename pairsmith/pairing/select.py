"""Pair selection: completions and ratings -> pairs and rejections.

Every prompt leaves with at least one pair or with exactly one rejection that says why. A strategy is a function that
puts the pairs it may form in order of preference; the first that passes all checks is taken, so a pair that is too
alike gives way to the next best. Nothing depends on the order of rows: ties are broken by a draw on the ids.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from rapidfuzz import fuzz

from pairsmith.config import Pairing, Rating
from pairsmith.ids import draw, normalised
from pairsmith.judging.scoring import Scores, in_conflict, log_length, scores, stopped
from pairsmith.pairing.own_strategy import pairs_of
from pairsmith.storage.schemas import Reason, Stage, frame, rows

STAGE = "pair"
TOTAL = ""  # beside the names of aspects, that of the score in all
EPSILON = 1e-9  # scores nearer than this are a tie
SLOPE_STEP = 1e-4  # of what length is worth, in points for each unit of log length


@dataclass(frozen=True)
class Candidate:
    """A completion that may be chosen or rejected. `root`: the completion that it was evolved from, or itself.

    `worth`: what its length is worth in points, which is taken off where the recipe has length control. `flagged`: it
    may not be chosen.
    """

    row: dict[str, Any]
    scores: Scores
    root: str
    worth: float = 0.0
    flagged: bool = False

    @property
    def id(self) -> str:
        return str(self.row["completion_id"])

    @property
    def score(self) -> float | None:
        return self.scores.total

    @property
    def controlled(self) -> float | None:
        """The score that counts: less what the length is worth."""
        return None if self.score is None else self.score - self.worth


@dataclass
class Selection:
    """What became of one prompt."""

    pairs: list[dict[str, Any]] = field(default_factory=list)
    rejections: list[dict[str, Any]] = field(default_factory=list)


Ordered = Iterator[tuple[Candidate, Candidate]]
Similarity = Callable[[str, str], float]  # of two texts, 0 to 1


def by_characters(one: str, other: str) -> float:
    """Indel similarity: the share of characters that stay when one text is turned into the other."""
    return fuzz.ratio(one, other) / 100


def pair(
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    ratings: pd.DataFrame | None,
    pairing: Pairing,
    scored: bool,
    rating: Rating | None = None,
    slopes: Mapping[str, float] | None = None,
    flagged: Mapping[str, str] | None = None,
    similarity: Similarity = by_characters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Select pairs for all prompts; returns (pairs, rejections). `scored`: whether the strategy needs scores.

    `rating` tells the scales of the aspects and how several judges' scores are put together; `slopes`: what a text's
    log length is worth, in all (`TOTAL`) and by aspect; `flagged`: completion_id -> what the guard found in it.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(completions):
        by_prompt[row["prompt_id"]].append(row)
    rated = rows(ratings) if ratings is not None else []
    table, barred = scores(rated, pairing, rating), stopped(rated, rating)
    pairs: list[dict[str, Any]] = []
    rejections: list[dict[str, Any]] = []
    for prompt_id in prompts["prompt_id"]:
        selection = select(prompt_id, by_prompt[prompt_id], table, pairing, scored, barred, slopes, flagged, similarity)
        pairs += selection.pairs
        rejections += selection.rejections
    left = {row["prompt_id"] for row in rejections if row["completion_id"] is None}
    if {row["prompt_id"] for row in pairs} ^ left != set(prompts["prompt_id"]):
        raise AssertionError("a prompt was lost, or both paired and rejected")
    return frame("pairs", pairs), frame("rejections", rejections)


def select(
    prompt_id: str,
    completions: Sequence[dict[str, Any]],
    table: Mapping[str, Scores],
    pairing: Pairing,
    scored: bool,
    stopped_by: Mapping[str, str] | None = None,
    slopes: Mapping[str, float] | None = None,
    flagged: Mapping[str, str] | None = None,
    similarity: Similarity = by_characters,
) -> Selection:
    """The pairs of one prompt, or why there are none. `stopped_by`: the gate that a completion did not pass."""
    selection, slopes = Selection(), slopes or {}
    candidates: list[Candidate] = []
    barred: Counter[Reason] = Counter()
    parents = {row["completion_id"]: row["parent_id"] for row in completions}
    for row in sorted(completions, key=lambda row: row["completion_id"]):
        name, on_flag = row["completion_id"], pairing.guard.on_flag
        gate = (stopped_by or {}).get(name)
        flags = (flagged or {}).get(name) if on_flag != "report" else None
        reason, detail = _barred(row, table, pairing, scored, gate, flags)
        if reason:
            barred[reason] += 1
            selection.rejections.append(_rejection(prompt_id, reason, detail, name))
            continue
        if flags:
            selection.rejections.append(_rejection(prompt_id, Reason.FLAGGED, f"{flags}; not to be chosen", name))
        worth = _worth(row, slopes.get(TOTAL))
        candidates.append(Candidate(row, table.get(name, Scores()), _root(name, parents), worth, bool(flags)))
    passed_over: Counter[Reason] = Counter()
    for strategy, ordered, most in _tasks(candidates, pairing, slopes):
        taken = 0
        for chosen, rejected in ordered:
            if chosen.flagged:
                passed_over[Reason.FLAGGED] += 1
                continue
            reason, alike = _unfit(chosen, rejected, pairing, scored, similarity)
            if reason:
                passed_over[reason] += 1
                detail = f"as chosen against {rejected.id}"
                selection.rejections.append(_rejection(prompt_id, reason, detail, chosen.id))
                continue
            if not any((p["chosen_id"], p["rejected_id"]) == (chosen.id, rejected.id) for p in selection.pairs):
                selection.pairs.append(_pair(prompt_id, chosen, rejected, alike, strategy))
            taken += 1
            if taken == most:
                break
    if not selection.pairs:
        reason, detail = _why(completions, candidates, barred, passed_over)
        selection.rejections.append(_rejection(prompt_id, reason, detail))
    return selection


def _tasks(
    candidates: Sequence[Candidate], pairing: Pairing, slopes: Mapping[str, float]
) -> Iterator[tuple[str, Ordered, int]]:
    """Strategy, pairs in order of preference, and how many of them are wanted; per-aspect, once for each aspect."""
    if pairing.strategy not in STRATEGIES:
        yield pairing.strategy, pairs_of(pairing.strategy, candidates, pairing), pairing.max_pairs or 1
        return
    if pairing.strategy != "per-aspect":
        many = pairing.max_pairs or len(candidates) ** 2
        most = many if pairing.strategy == "all-above-margin" else 1
        yield pairing.strategy, STRATEGIES[pairing.strategy](candidates, pairing), most
        return
    for aspect in sorted({aspect for candidate in candidates for aspect in candidate.scores.aspects}):
        known = [
            replace(
                c,
                scores=Scores(c.scores.aspects.get(aspect), c.scores.aspects),
                worth=_worth(c.row, slopes.get(aspect)),
            )
            for c in candidates
        ]
        yield f"per-aspect: {aspect}", best_vs_worst([c for c in known if c.score is not None], pairing), 1


def _worth(row: Mapping[str, Any], slope: float | None) -> float:
    """What the length of a completion is worth, in points."""
    return slope * log_length(row["text"]) if slope else 0.0


def unusable(row: Mapping[str, Any], pairing: Pairing) -> Reason | None:
    """Why a completion can be no candidate, whatever judges say of it."""
    if row["error"]:
        return Reason(row["error"].split(":")[0])
    if not row["text"].strip():
        return Reason.EMPTY
    if row["finish_reason"] == "length" and not pairing.allow_truncated:
        return Reason.TRUNCATED
    return None


def _barred(
    row: dict[str, Any],
    table: Mapping[str, Scores],
    pairing: Pairing,
    scored: bool,
    gate: str | None,
    flags: str | None,
) -> tuple[Reason | None, str]:
    """Why a completion is no candidate, with the detail."""
    reason = unusable(row, pairing)
    if not reason and scored and table.get(row["completion_id"], Scores()).total is None:
        reason = Reason.UNRATED
    if reason or gate:
        return reason or Reason.CHECK_FAILED, row["error"] or gate or ""
    return (Reason.FLAGGED, flags) if flags and pairing.guard.on_flag == "drop" else (None, "")


def _unfit(
    chosen: Candidate, rejected: Candidate, pairing: Pairing, scored: bool, similarity: Similarity
) -> tuple[Reason | None, float]:
    """Why two candidates make no pair, and how alike their texts are (measured only where nothing else bars them)."""
    if normalised(chosen.row["text"]) == normalised(rejected.row["text"]):
        return Reason.IDENTICAL, 1.0
    margin = _margin(chosen, rejected)
    if scored and margin is not None:
        # texts between which the judges see no difference are no pair, whatever their lengths are worth
        if min(abs(margin) - _rounding(chosen, rejected, pairing), abs(chosen.score - rejected.score)) <= EPSILON:  # type: ignore[operator]
            return Reason.TIE, math.nan
        if margin < max(pairing.min_margin - EPSILON, 0):
            return Reason.MARGIN, math.nan
    if scored and pairing.conflicts == "drop" and in_conflict(chosen.scores, rejected.scores):
        return Reason.CONFLICT, math.nan
    alike = similarity(chosen.row["text"], rejected.row["text"])
    return (Reason.SIMILAR if alike > pairing.max_similarity else None), alike


def _rounding(chosen: Candidate, rejected: Candidate, pairing: Pairing) -> float:
    """By how much a controlled margin may be off, since slopes are rounded: less than that is no difference."""
    if not pairing.length_control:
        return 0.0
    return SLOPE_STEP / 2 * abs(log_length(chosen.row["text"]) - log_length(rejected.row["text"]))


def _why(
    completions: Sequence[dict[str, Any]],
    candidates: Sequence[Candidate],
    barred: Counter[Reason],
    passed_over: Counter[Reason],
) -> tuple[Reason, str]:
    """The one reason for which a prompt has no pair: what stopped most of its pairs, else most of its texts."""
    if not completions:
        return Reason.NO_COMPLETION, "no member answered"
    told = ", ".join(f"{count} {reason}" for reason, count in sorted((barred + passed_over).items()))
    if passed_over:
        return passed_over.most_common(1)[0][0], f"no pair passed: {told}"
    if len(candidates) < 2:
        reason = Reason.NO_COMPLETION if all(row["error"] for row in completions) else Reason.TOO_FEW
        return (
            reason,
            f"{len(candidates)} of {len(completions)} completions can be used: {told or 'no other'}",
        )
    return Reason.NO_MATCH, f"none of {len(candidates)} candidates fit the strategy" + (f": {told}" if told else "")


def _pair(prompt_id: str, chosen: Candidate, rejected: Candidate, similarity: float, strategy: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "chosen_id": chosen.id,
        "rejected_id": rejected.id,
        "chosen_member": chosen.row["member"],
        "rejected_member": rejected.row["member"],
        "chosen_model": chosen.row["model"],
        "rejected_model": rejected.row["model"],
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "margin": _margin(chosen, rejected),
        "similarity": similarity,
        "strategy": strategy,
    }


def _margin(chosen: Candidate, rejected: Candidate) -> float | None:
    if chosen.controlled is None or rejected.controlled is None:
        return None
    return chosen.controlled - rejected.controlled


def _rejection(prompt_id: str, reason: Reason, detail: str, completion_id: str | None = None) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "completion_id": completion_id,
        "stage": Stage.PAIR,
        "reason": reason,
        "detail": detail,
    }


def _root(completion_id: str, parents: dict[str, str | None]) -> str:
    while parents.get(completion_id):
        completion_id = parents[completion_id]  # type: ignore[assignment]
    return completion_id


def _rank(candidate: Candidate, pairing: Pairing) -> float:
    """The score that a candidate is ranked by: less for each thousand characters, where the recipe says so."""
    return (candidate.controlled or 0.0) - pairing.length_penalty * len(candidate.row["text"]) / 1000


def _ranked(candidates: Sequence[Candidate], pairing: Pairing) -> list[Candidate]:
    """Best first; equal scores in an order drawn by the recipe's seed."""
    return sorted(candidates, key=lambda c: (-_rank(c, pairing), draw("tie", pairing.seed, c.id)))


def _in_order(ranked: Sequence[Candidate]) -> Ordered:
    for place, chosen in enumerate(ranked):
        for rejected in ranked[place + 1 :]:
            yield chosen, rejected


def best_vs_worst(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """Widest margin first; among equal margins the better chosen first."""
    ranked = _ranked(candidates, pairing)
    places = {candidate.id: place for place, candidate in enumerate(ranked)}
    yield from sorted(
        _in_order(ranked),
        key=lambda p: (_rank(p[1], pairing) - _rank(p[0], pairing), places[p[0].id], -places[p[1].id]),
    )


def best_vs_second(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """The best against the next below it."""
    yield from _in_order(_ranked(candidates, pairing))


def best_vs_random(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """The best against another drawn at random (UltraFeedback-binarized)."""
    ranked = _ranked(candidates, pairing)
    for place, chosen in enumerate(ranked):
        others = sorted(ranked[place + 1 :], key=lambda c: draw("rejected", pairing.seed, chosen.id, c.id))
        yield from ((chosen, rejected) for rejected in others)


def best_vs_low(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """The best against the text whose score is nearest to the mean less some standard deviations.

    The very worst of many samples teaches less than one a little below the rest: https://arxiv.org/abs/2502.16825.
    """
    ranked = _ranked(candidates, pairing)
    ranks = [_rank(candidate, pairing) for candidate in ranked]
    if len(ranks) < 2:
        return
    low = statistics.fmean(ranks) - pairing.low_deviations * statistics.pstdev(ranks)
    for place, chosen in enumerate(ranked):
        others = ranked[place + 1 :]
        nearest = sorted(others, key=lambda c: (abs(_rank(c, pairing) - low), draw("low", pairing.seed, c.id)))
        yield from ((chosen, rejected) for rejected in nearest)


def evolved_vs_original(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """An evolved text against the one it came from, latest round first."""
    originals = {c.id: c for c in candidates if c.row["evolution"] == 0}
    evolved = [c for c in candidates if c.row["evolution"] > 0 and c.root in originals]
    evolved.sort(key=lambda c: (-c.row["evolution"], -(c.controlled or 0.0), draw("tie", pairing.seed, c.id)))
    yield from ((c, originals[c.root]) for c in evolved)


def member_order(candidates: Sequence[Candidate], pairing: Pairing) -> Ordered:
    """A stronger member's answer against a weaker one's, without a judge (delta learning, arXiv 2507.06187)."""
    rank = {name: place for place, name in enumerate(pairing.member_order)}
    known = [c for c in candidates if c.row["member"] in rank]
    known.sort(key=lambda c: (rank[c.row["member"]], c.row["sample"], c.id))
    between = [(a, b) for a, b in _in_order(known) if rank[a.row["member"]] < rank[b.row["member"]]]
    yield from sorted(between, key=lambda p: (rank[p[0].row["member"]], -rank[p[1].row["member"]]))


STRATEGIES: dict[str, Callable[[Sequence[Candidate], Pairing], Ordered]] = {
    "best-vs-worst": best_vs_worst,
    "best-vs-random": best_vs_random,
    "best-vs-second": best_vs_second,
    "best-vs-low": best_vs_low,
    "evolved-vs-original": evolved_vs_original,
    "member-order": member_order,
    "per-aspect": best_vs_worst,  # by each aspect's score
    "all-above-margin": best_vs_worst,  # not one pair, but all
}
