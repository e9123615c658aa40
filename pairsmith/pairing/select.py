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

from pairsmith.config import Pairing, Signal
from pairsmith.ids import normalised
from pairsmith.judging.scoring import Scores, in_conflict, log_length
from pairsmith.pairing.agreeing import EPSILON, dissent
from pairsmith.pairing.candidates import SLOPE_STEP, Candidate, Evidence, candidates_of, worth_of_length
from pairsmith.pairing.own_strategy import pairs_of
from pairsmith.pairing.strategies import STRATEGIES, PairsInOrder, best_vs_worst
from pairsmith.storage.row_types import CompletionRow, PairRow, RejectionRow, rows_as
from pairsmith.storage.schemas import Reason, Stage, frame

STAGE = "pair"


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
    parts = {signal.name: _part(pairing, signal, evidence) for signal in pairing.signals}
    asked = zip(prompts["prompt_id"], prompts["source"], strict=True)
    if pairing.signals:
        selections = [_of_its_signal(name, source, by_prompt[name], pairing, parts) for name, source in asked]
    else:
        selections = [select(name, by_prompt[name], pairing, evidence) for name, _ in asked]
    pairs = [row for selection in selections for row in selection.pairs]
    rejections = [row for selection in selections for row in selection.rejections]
    left = {row["prompt_id"] for row in rejections if row["completion_id"] is None}
    if {row["prompt_id"] for row in pairs} ^ left != set(prompts["prompt_id"]):
        raise AssertionError("a prompt was lost, or both paired and rejected")
    return frame("pairs", pairs), frame("rejections", rejections)


Part = tuple[Pairing, Evidence]  # how the pairs of a signal are selected, and by what


def _part(pairing: Pairing, signal: Signal, evidence: Evidence) -> Part:
    part = pairing.of(signal)
    return part, replace(evidence, needs_scores=evidence.needs_scores and part.needs_scores(True))


def _of_its_signal(
    prompt_id: str, source: str, completions: Sequence[CompletionRow], pairing: Pairing, parts: Mapping[str, Part]
) -> Selection:
    """The pairs of one prompt by its signal."""
    if (signal := pairing.signal_of(prompt_id, source)) is None:
        selection = Selection(prompt_id)
        selection.reject(Reason.NO_MATCH, f"no signal gets prompts of the source {source}")
        return selection
    selection = select(prompt_id, completions, *parts[signal.name])
    for row in selection.pairs:
        row["signal"] = signal.name
    return selection


def select(prompt_id: str, completions: Sequence[CompletionRow], pairing: Pairing, evidence: Evidence) -> Selection:
    """The pairs of one prompt, or why there are none."""
    selection = Selection(prompt_id)
    if prompt_id in evidence.screened:
        selection.reject(Reason.SCREENED, evidence.screened[prompt_id])
        return selection
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
        misfit, alike = _unfit(chosen, rejected, pairing, evidence)
        if misfit:
            selection.passed_over[misfit.reason] += 1
            selection.reject(misfit.reason, f"as chosen against {rejected.id}{misfit.detail}", chosen.id)
            continue
        selection.add(chosen, rejected, alike, strategy)
        taken += 1
        if taken == most:
            return


@dataclass(frozen=True)
class Misfit:
    """Why two candidates make no pair. `detail` begins with a colon, where there is any."""

    reason: Reason
    detail: str = ""


def _unfit(chosen: Candidate, rejected: Candidate, pairing: Pairing, evidence: Evidence) -> tuple[Misfit | None, float]:
    """Why two candidates make no pair, and how alike their texts are (NaN if another reason was found before)."""
    if normalised(chosen.row["text"]) == normalised(rejected.row["text"]):
        return Misfit(Reason.IDENTICAL), 1.0
    if evidence.needs_scores and (misfit := _unscored(chosen, rejected, pairing, evidence)):
        return misfit, math.nan
    if against := dissent([evidence.raters[name] for name in pairing.agree], chosen.id, rejected.id):
        return Misfit(Reason.DISAGREE, f": {against}"), math.nan
    if misfit := _unequal(chosen, rejected, pairing, evidence):
        return misfit, math.nan
    alike = evidence.similarity(chosen.row["text"], rejected.row["text"])
    return (Misfit(Reason.SIMILAR) if alike > pairing.max_similarity else None), alike


def _unequal(chosen: Candidate, rejected: Candidate, pairing: Pairing, evidence: Evidence) -> Misfit | None:
    """Why two candidates make no pair by their lengths."""
    if (gap := pairing.length_gap) is None:
        return None
    lengths = [evidence.length(gap, one.row["text"]) for one in (chosen, rejected)]
    if abs(lengths[0] - lengths[1]) <= gap.most:
        return None
    unit = "tokens" if gap.tokenizer else "characters"
    return Misfit(Reason.LENGTHS, f": {lengths[0]} and {lengths[1]} {unit}, more than {gap.most} apart")


def _unscored(chosen: Candidate, rejected: Candidate, pairing: Pairing, evidence: Evidence) -> Misfit | None:
    """Why two candidates make no pair by their scores."""
    margin = chosen.margin_over(rejected)
    if margin is not None:
        # A tie in the judges' own scores is a tie, even if length control makes a difference.
        difference = abs(chosen.score - rejected.score)  # type: ignore[operator]
        if min(abs(margin) - _rounding(chosen, rejected, pairing), difference) <= EPSILON:
            return Misfit(Reason.TIE)
        least = evidence.min_difference if pairing.min_difference is None else pairing.min_difference
        if difference < least - EPSILON:
            return Misfit(Reason.TIE, f": scores differ by {difference:.2g}, less than {least:g}")
        if margin < max(pairing.min_margin - EPSILON, 0):
            return Misfit(Reason.MARGIN)
    if pairing.conflicts == "drop" and in_conflict(chosen.scores, rejected.scores):
        return Misfit(Reason.CONFLICT)
    return None


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
