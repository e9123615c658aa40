"""From which number on a verdict tells a finding, and why from there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """Where a finding begins, and why there. `good`: from where on (or up to where) it is good; None if never told."""

    bound: float
    why: str
    good: float | None = None


THRESHOLDS: dict[str, Threshold] = {
    "margins": Threshold(
        0.5,
        "Told from half of the margins on: under 0.1 points two answers are as good as tied, and a trainer learns "
        "which one was luckier. Good up to a fifth.",
        0.2,
    ),
    "agreement": Threshold(
        0.4,
        "Told where Krippendorff's alpha of any aspect is under 0.4: 1 is full agreement, 0 is chance. Good from 0.667 "
        "on, where Krippendorff allows first conclusions.",
        0.667,
    ),
    "flips": Threshold(
        0.5,
        "Told from half of a pairwise judge's comparisons on: it then goes by the place more than by the text. A "
        "verdict in words that flips with the order is a tie; of probabilities the mean of both orders counts, and may "
        "be right all the same.",
    ),
    "checks": Threshold(
        0.1,
        "Told of every set whose checks give scores. Bad where the chosen answer does worse at them in 10% of the "
        "pairs that they tell apart: something else outweighs them there.",
        0.0,
    ),
    "longer": Threshold(
        0.8,
        "Told from 80% on: a trainer then learns to write more before it learns to write better. Good from 40% to 60%.",
        0.6,
    ),
    "winner": Threshold(
        0.9,
        "Told from 90% of a member's pairs with others on: such pairs teach to tell the models apart, by their style "
        "too, and not only good answers from bad ones.",
    ),
    "unpaired": Threshold(
        0.3,
        "Told from 30% of the prompts on: which prompts are left is then no accident, and easy or hard ones may be "
        "missing. Good up to a tenth.",
        0.1,
    ),
    "failures": Threshold(
        0.1, "Told from 10% of what was asked on; the table of failures has the others too.", 0.0
    ),
    "pairs": Threshold(
        500,
        "Told under 500: enough to try a trainer with. Sets that preference training is known to work with have "
        "thousands of pairs. Good from 5,000 on.",
        5000,
    ),
    "repeated": Threshold(
        0.05, "Told where one side of 5% of the pairs is such a text: a trainer learns the text itself by heart."
    ),
    "signals": Threshold(
        0.1,
        "Told of every set with signals; bad where a signal's share of the pairs is 10 points off its share of the "
        "prompts, since one that loses many prompts leaves the others more than they were to have.",
    ),
    "evolution": Threshold(
        0.25, "Told from a quarter of the rewrites on: what was refused was paid for, and is no answer to choose from."
    ),
}  # fmt: skip
