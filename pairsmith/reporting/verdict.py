"""The verdict on a data set: what a reviewer would say of it, each finding a sentence with its number and its bound.

Pure functions of a recipe, a `Summary` and a `Trust`. Shares of pairs are told from `FEWEST` pairs on: of a handful
they say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pairsmith.config import Recipe
from pairsmith.judging.guard import REPEATED
from pairsmith.reporting.against_checks import (
    HOW_IT_COUNTS,
    agreement_text,
    agreement_with_checks,
    pairs_by_checks,
    pairs_text,
)
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.calibrated import accuracy_text, age_text, is_chance
from pairsmith.reporting.failures import OF, PASSES, STAYS
from pairsmith.reporting.head_to_head import flips
from pairsmith.reporting.ratios import COIN, ratio
from pairsmith.reporting.reason_words import called, in_words, reasons_text
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import signal_table
from pairsmith.reporting.thresholds import THRESHOLDS
from pairsmith.storage.schemas import Reason

Weight = Literal["good", "note", "bad"]
FEWEST = 10  # pairs, or answers asked for, of which shares are told
REASONS = 3  # that a finding names, the commonest first
WORTH = ("checks", "judges")  # told in short too where it is good, since it is what the pairs are worth


@dataclass(frozen=True)
class Finding:
    """One sentence of a verdict. `about`: its name in THRESHOLDS or, without a threshold, "judges" (see `WORTH`).

    `detail`: the first words of what an endpoint said, which may repeat a prompt: for the report, not for version.json.
    """

    about: str
    weight: Weight
    text: str
    why: str
    detail: str = ""


def verdict(recipe: Recipe, summary: Summary, trust: Trust, now: datetime | None = None) -> list[Finding]:
    """What a reviewer would say, the worst first. `now`: when the version is made, for the age of a calibration."""
    found = [
        *_margins(recipe, summary), *_judges(recipe, trust), *_calibrated(recipe, now or datetime.now(UTC)),
        *_by_checks(trust),
        *_flips(recipe, trust), *_longer(summary), *_winner(summary), *_unpaired(summary), *_failures(recipe, summary),
        *_evolution(recipe, summary), *_repeated(summary), *_pairs(summary), *_signals(recipe, summary),
    ]  # fmt: skip
    return sorted(found, key=lambda finding: ("bad", "note", "good").index(finding.weight))


def in_short(findings: Iterable[Finding]) -> list[str]:
    """The verdict as lines of plain text: without what is good where something is not, but for `WORTH`."""
    findings = list(findings)
    is_good = all(finding.weight == "good" for finding in findings)
    return [one.text for one in findings if is_good or one.weight != "good" or one.about in WORTH]


def _finding(about: str, weight: Weight, text: str) -> Finding:
    return Finding(about, weight, text, THRESHOLDS[about].why)


def _graded(about: str, value: float, poor: str, good: str) -> Iterator[Finding]:
    """One finding about a value that is the worse the higher it is; none between the two bounds."""
    bounds = THRESHOLDS[about]
    if value >= bounds.bound:
        yield _finding(about, "bad", poor)
    elif bounds.good is not None and value <= bounds.good:
        yield _finding(about, "good", good)


def _margins(recipe: Recipe, summary: Summary) -> Iterator[Finding]:
    """None for reward models without a scale: their units mean nothing to others."""
    if summary.n_margins < FEWEST or not recipe.rating or any(_unscaled(recipe)):
        return
    near = sum(count for (what, step), count in summary.histograms.items() if what == "margin" and step < 1)
    share = near / summary.n_margins
    one = len(recipe.rating.judges) == 1
    under = f"{_percent(share) if near else 'none'} of the margins {'are' if near else 'is'} under 0.1"
    yield from _graded(
        "margins", share,
        f"{'The judge hardly tells' if one else 'The judges hardly tell'} the answers apart: {under}.",
        f"{'The judge tells' if one else 'The judges tell'} the answers apart: {under}.",
    )  # fmt: skip


def _unscaled(recipe: Recipe) -> Iterator[bool]:
    return (judge.is_unscaled for judge in (recipe.rating.judges if recipe.rating else ()))


def _judges(recipe: Recipe, trust: Trust) -> Iterator[Finding]:
    judges = recipe.rating.judges if recipe.rating else ()
    if not judges:
        return
    checked = [*_against_checks(recipe, trust)]
    yield from checked
    if len(judges) == 1:
        if checked or (recipe.rating and recipe.rating.calibrated):
            return
        why = "A second judge, of another family, shows where the first one errs. Told of every set with one judge."
        yield Finding("judges", "note", "There is one judge, so nobody knows how far its ratings can be trusted.", why)
        return
    alpha, bounds = trust.least_agreement(), THRESHOLDS["agreement"]
    if alpha is None:
        return
    if alpha < bounds.bound:
        yield _finding(
            "agreement", "bad", f"The judges disagree: Krippendorff's alpha is {_plain(alpha)} at its lowest."
        )
    elif bounds.good is not None and alpha >= bounds.good:
        yield _finding("agreement", "good", f"The judges agree: Krippendorff's alpha is at least {_plain(alpha)}.")


def _against_checks(recipe: Recipe, trust: Trust) -> Iterator[Finding]:
    """What each judge is worth by its agreement with the checks."""
    why = f"Told where checks tell answers of {FEWEST} prompts or more apart. {HOW_IT_COUNTS}"
    for judge in recipe.rating.judges if recipe.rating else ():
        share = agreement_with_checks(trust.sums, judge.name)
        if share.n >= FEWEST:
            text = agreement_text(judge.name, share)
            yield Finding("judges", "good" if share.interval[0] > COIN else "bad", text, why)


def _by_checks(trust: Trust) -> Iterator[Finding]:
    found = pairs_by_checks(trust.sums)
    if told := found["agree"] + found["differ"]:
        share = found["differ"] / told
        weight: Weight = "bad" if share >= THRESHOLDS["checks"].bound else "note" if share else "good"
        yield _finding("checks", weight, pairs_text(found))


def _calibrated(recipe: Recipe, now: datetime) -> Iterator[Finding]:
    calibration = recipe.rating.calibrated if recipe.rating else None
    if calibration is None:
        return
    why = "Told of every set whose judges are calibrated. Bad where the 95% interval holds 50%, as that of a coin does."
    right, gold = accuracy_text(calibration), calibration.gold.name
    told = f"The judges are right in {right} of {gold} that they were not fitted to"
    chance = ", which cannot be told from a coin" if is_chance(calibration) else ""
    text = f"{told}{chance}; calibrated on {age_text(calibration, now)}."
    yield Finding("judges", "bad" if chance else "good", text, why)


def _flips(recipe: Recipe, trust: Trust) -> Iterator[Finding]:
    for judge in recipe.rating.judges if recipe.rating else ():
        share = flips(trust.sums, judge.name)
        if share is not None and share >= THRESHOLDS["flips"].bound:
            words = judge.readout != "logprobs"
            loss = "which makes them ties" if words else "and only the mean of both orders tells the texts apart"
            often = f"{_percent(share)} of its verdicts flip with the order"
            text = f"Judge {judge.name} goes by the place: {often}, {loss}."
            yield _finding("flips", "bad" if words else "note", text)


def _longer(summary: Summary) -> Iterator[Finding]:
    if summary.pairs < FEWEST:
        return
    longer, bounds = summary.longer / summary.pairs, THRESHOLDS["longer"]
    shorter = summary.shorter / summary.pairs
    for share, word in ((longer, "longer"), (shorter, "shorter")):
        if share >= bounds.bound:
            yield _finding("longer", "bad", f"The chosen answer is the {word} one in {_percent(share)} of the pairs.")
    if bounds.good is not None and 1 - bounds.good <= longer <= bounds.good:
        yield _finding(
            "longer", "good", f"Length does not decide: the longer answer is chosen in {_percent(longer)} of the pairs."
        )


def _winner(summary: Summary) -> Iterator[Finding]:
    won, met = Counter[str](), Counter[str]()
    for (chosen, rejected), count in summary.wins.items():
        if chosen != rejected:
            won[chosen] += count
            met.update({chosen: count, rejected: count})
    for name, pairs in sorted(met.items()):
        share = won[name] / pairs
        if pairs >= FEWEST and share >= THRESHOLDS["winner"].bound:
            often = f"it is chosen in {_percent(share)} of its {pairs:,} pairs with others"
            text = f"Member {name} nearly always wins: {often}."
            yield _finding("winner", "bad", text)


def _unpaired(summary: Summary) -> Iterator[Finding]:
    if not summary.loaded:
        return
    left = sum(summary.prompt_reasons.values())
    share = left / summary.loaded
    yield from _graded(
        "unpaired", share,
        f"{_percent(share)} of the prompts ({left:,} of {summary.loaded:,}) gave no pair: "
        f"{reasons_text(summary.prompt_reasons, REASONS)}.",
        f"{'Nearly every' if left else 'Every'} prompt gave a pair: {summary.paired:,} of {summary.loaded:,}.",
    )  # fmt: skip


def _failures(recipe: Recipe, summary: Summary) -> Iterator[Finding]:
    bounds, most = THRESHOLDS["failures"], 0.0
    for who, counts in sorted(summary.failures.items()):
        causes = {cause: count for cause, count in counts.items() if cause != OF and not _is_evolution(cause)}
        failed, asked = int(sum(causes.values())), int(counts.get(OF, 0))
        share = ratio(failed, asked) or 0.0
        most = max(most, share)
        if share >= bounds.bound:
            cause = min(causes, key=lambda one: (-causes[one], one)).removeprefix(PASSES).removeprefix(STAYS)
            how = "gave nothing" if failed == asked else "often failed"
            text = f"{_capitalised(called(who))} {how}: {failed:,} of {asked:,} answers are missing."
            yield Finding("failures", "bad", text, bounds.why, f"Mostly: {in_words(cause)}")
    if summary.failures and most <= (bounds.good or 0.0) and not all(spec.is_given for spec in recipe.specs):
        yield _finding("failures", "good", "Every model answered whenever it was asked.")


def _evolution(recipe: Recipe, summary: Summary) -> Iterator[Finding]:
    if recipe.evolution is None:
        return
    why = Counter[str]()
    for counts in summary.failures.values():
        for cause, count in counts.items():
            if _is_evolution(cause):
                why[cause.removeprefix(STAYS)] += int(count)
    refused, made = sum(why.values()), summary.members.get(recipe.evolution.evolver.name, {}).get("completions", 0)
    share = ratio(refused, made) or 0.0
    if share >= THRESHOLDS["evolution"].bound:
        told = f"{_percent(share)} of the rewritten answers ({refused:,} of {made:,.0f}) were refused"
        text = f"{told}: {reasons_text(why, REASONS)}."
        yield _finding("evolution", "bad", text)


def _repeated(summary: Summary) -> Iterator[Finding]:
    most = max(summary.flags[REPEATED, side] for side in ("chosen", "rejected"))
    share = ratio(most, summary.pairs) or 0.0
    if share >= THRESHOLDS["repeated"].bound:
        text = f"The same texts stand at many prompts: in {_percent(share)} of the pairs on one side."
        yield _finding("repeated", "bad", text)


def _signals(recipe: Recipe, summary: Summary) -> Iterator[Finding]:
    table = signal_table(recipe, summary)
    if not table or not summary.pairs:
        return
    told = [f"{row['signal']} {_percent(row['reached'])} ({_percent(row['asked'])} asked for)" for row in table]
    is_off = any(abs(row["reached"] - row["asked"]) >= THRESHOLDS["signals"].bound for row in table)
    yield _finding("signals", "bad" if is_off else "note", f"Shares of the pairs by signal: {', '.join(told)}.")


def _pairs(summary: Summary) -> Iterator[Finding]:
    bounds = THRESHOLDS["pairs"]
    count = "There is 1 pair" if summary.pairs == 1 else f"There are {summary.pairs:,} pairs"
    if summary.pairs < bounds.bound:
        yield _finding("pairs", "note", f"{count}: enough to try a trainer, too few to train with.")
    elif bounds.good is not None and summary.pairs >= bounds.good:
        yield _finding("pairs", "good", f"{count}: enough to train with.")


def _is_evolution(cause: str) -> bool:
    return cause.startswith(f"{STAYS}{Reason.EVOLUTION_FAILED}")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _percent(share: float) -> str:
    """Whole percent; neither 0% nor 100% where it is not quite that."""
    return f"{min(99, max(1, round(100 * share))) if 0 < share < 1 else round(100 * share)}%"


def _plain(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"
