"""Pair selection: completions and evidence about them -> pairs and rejections.

Every prompt ends with at least one pair, or with exactly one rejection of the prompt that says why. A strategy puts the
possible pairs in order of preference. The first that passes all checks is taken, so if its two texts are too alike, the
next best pair takes its place. Nothing depends on the order of rows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from pairsmith.config import Pairing
from pairsmith.ids import normalised
from pairsmith.judging.scoring import Scores, in_conflict, log_length
from pairsmith.pairing.candidates import SLOPE_STEP, Candidate, Evidence, candidates_of, worth_of_length
from pairsmith.pairing.own_strategy import pairs_of
from pairsmith.pairing.strategies import STRATEGIES, PairsInOrder, best_vs_worst
from pairsmith.storage.row_types import CompletionRow, PairRow, RejectionRow, rows_as
from pairsmith.storage.schemas import Reason, Stage, frame

STAGE = "pair"
EPSILON = 1e-9  # scores closer than this are a tie


@dataclass
class Selection:
    """The result for one prompt. `passed_over`: how often two candidates made no pair, by reason."""

    prompt_id: str
    pairs: list[PairRow] = field(default_factory=list)
    rejections: list[RejectionRow] = field(default_factory=list)
    passed_over: Counter[Reason] = field(default_factory=Counter)

    def reject(self, reason: Reason, detail: str, completion_id: str | None = None) -> None:
        """Record why a completion was rejected or, without `completion_id`, the whole prompt."""
        self.rejections.append(
            {
                "prompt_id": self.prompt_id,
                "completion_id": completion_id,
                "stage": Stage.PAIR,
                "reason": reason,
                "detail": detail,
            }
        )

    def add(self, chosen: Candidate, rejected: Candidate, similarity: float, strategy: str) -> None:
        """Add a pair, unless the prompt has it already."""
        if not any((pair["chosen_id"], pair["rejected_id"]) == (chosen.id, rejected.id) for pair in self.pairs):
            self.pairs.append(_pair(self.prompt_id, chosen, rejected, similarity, strategy))


def pair(
    prompts: pd.DataFrame, completions: pd.DataFrame, pairing: Pairing, evidence: Evidence
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Select pairs for all prompts; returns (pairs, rejections)."""
    by_prompt: dict[str, list[CompletionRow]] = defaultdict(list)
    for row in rows_as(CompletionRow, completions):
        by_prompt[row["prompt_id"]].append(row)
    selections = [select(prompt_id, by_prompt[prompt_id], pairing, evidence) for prompt_id in prompts["prompt_id"]]
    pairs = [row for selection in selections for row in selection.pairs]
    rejections = [row for selection in selections for row in selection.rejections]
    left = {row["prompt_id"] for row in rejections if row["completion_id"] is None}
    if {row["prompt_id"] for row in pairs} ^ left != set(prompts["prompt_id"]):
        raise AssertionError("a prompt was lost, or both paired and rejected")
    return frame("pairs", pairs), frame("rejections", rejections)


def select(prompt_id: str, completions: Sequence[CompletionRow], pairing: Pairing, evidence: Evidence) -> Selection:
    """The pairs of one prompt, or why there are none."""
    selection = Selection(prompt_id)
    candidates, barred = candidates_of(completions, pairing, evidence)
    flags = {c.id: evidence.flags[c.id] for c in candidates if c.flagged}
    never_chosen = {name: (Reason.FLAGGED, f"{found}; not to be chosen") for name, found in flags.items()}
    for name, (reason, detail) in sorted((barred | never_chosen).items()):
        selection.reject(reason, detail, name)
    for strategy, ordered, most in _orders(candidates, pairing, evidence.slopes):
        _take(selection, strategy, ordered, most, pairing, evidence)
    if not selection.pairs:
        selection.reject(*_why(completions, candidates, Counter(reason for reason, _ in barred.values()), selection))
    return selection


def _orders(
    candidates: Sequence[Candidate], pairing: Pairing, slopes: Mapping[str, float]
) -> Iterator[tuple[str, PairsInOrder, int]]:
    """(strategy, its pairs in order of preference, how many of them are wanted). Per-aspect has one for each aspect."""
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
                worth=worth_of_length(c.row["text"], slopes.get(aspect)),
            )
            for c in candidates
        ]
        yield f"per-aspect: {aspect}", best_vs_worst([c for c in known if c.score is not None], pairing), 1


def _take(
    selection: Selection, strategy: str, ordered: PairsInOrder, most: int, pairing: Pairing, evidence: Evidence
) -> None:
    """Take the first `most` pairs that pass all checks, and record why others did not."""
    taken = 0
    for chosen, rejected in ordered:
        if chosen.flagged:
            selection.passed_over[Reason.FLAGGED] += 1
            continue
        reason, alike = _unfit(chosen, rejected, pairing, evidence)
        if reason:
            selection.passed_over[reason] += 1
            selection.reject(reason, f"as chosen against {rejected.id}", chosen.id)
            continue
        selection.add(chosen, rejected, alike, strategy)
        taken += 1
        if taken == most:
            return


def _unfit(chosen: Candidate, rejected: Candidate, pairing: Pairing, evidence: Evidence) -> tuple[Reason | None, float]:
    """Why two candidates make no pair, and how alike their texts are (NaN if another reason was found before)."""
    if normalised(chosen.row["text"]) == normalised(rejected.row["text"]):
        return Reason.IDENTICAL, 1.0
    margin = chosen.margin_over(rejected)
    if evidence.needs_scores and margin is not None:
        # A tie in the judges' own scores is a tie, even if length control makes a difference.
        if min(abs(margin) - _rounding(chosen, rejected, pairing), abs(chosen.score - rejected.score)) <= EPSILON:  # type: ignore[operator]
            return Reason.TIE, math.nan
        if margin < max(pairing.min_margin - EPSILON, 0):
            return Reason.MARGIN, math.nan
    if evidence.needs_scores and pairing.conflicts == "drop" and in_conflict(chosen.scores, rejected.scores):
        return Reason.CONFLICT, math.nan
    alike = evidence.similarity(chosen.row["text"], rejected.row["text"])
    return (Reason.SIMILAR if alike > pairing.max_similarity else None), alike


def _rounding(chosen: Candidate, rejected: Candidate, pairing: Pairing) -> float:
    """By how much a margin may be off because slopes are rounded. A smaller margin is a tie."""
    if not pairing.length_control:
        return 0.0
    return SLOPE_STEP / 2 * abs(log_length(chosen.row["text"]) - log_length(rejected.row["text"]))


def _why(
    completions: Sequence[CompletionRow], candidates: Sequence[Candidate], barred: Counter[Reason], selection: Selection
) -> tuple[Reason, str]:
    """The main reason why a prompt has no pair, with a detail: the most frequent one among its possible pairs or, if it
    had none, what its completions lack."""
    if not completions:
        return Reason.NO_COMPLETION, "no member answered"
    passed_over = selection.passed_over
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted((barred + passed_over).items()))
    if passed_over:
        return passed_over.most_common(1)[0][0], f"no pair passed: {counts}"
    if len(candidates) < 2:
        reason = Reason.NO_COMPLETION if all(row["error"] for row in completions) else Reason.TOO_FEW
        return reason, f"{len(candidates)} of {len(completions)} completions can be used: {counts or 'no other'}"
    return Reason.NO_MATCH, f"none of {len(candidates)} candidates fit the strategy" + (f": {counts}" if counts else "")


def _pair(prompt_id: str, chosen: Candidate, rejected: Candidate, similarity: float, strategy: str) -> PairRow:
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
        "margin": chosen.margin_over(rejected),
        "similarity": similarity,
        "strategy": strategy,
    }
