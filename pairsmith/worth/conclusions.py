"""What can be concluded from a proof and what not, in words.

A margin on held-out pairs says that what a set prefers can be learnt from it, whether it is right or not; checks alone
say which set makes the better model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.worth.bootstrap import Effect, needed

CHECKS, MARGIN, UNTRAINED = "checks", "margin", "untrained"
SHUFFLED = ", sides shuffled"


@dataclass(frozen=True)
class Comparison:
    """How much higher one kind of arm scores than another. `on`: whose held-out pairs; empty for checks."""

    measure: str
    on: str
    one: str
    other: str
    effect: Effect

    @property
    def row(self) -> dict[str, Any]:
        """As a row of a table and of a report."""
        seen = self.effect
        return {
            "measure": f"{self.measure} on {self.on}" if self.on else self.measure,
            "of": self.one,
            "over": self.other,
            "gain": round(seen.mean, 4),
            "low": round(seen.low, 4),
            "high": round(seen.high, 4),
            "prompts": seen.items,
            "says": ("higher" if seen.mean > 0 else "lower") if seen.is_decided else "undecided",
        }


def conclusions(compared: Sequence[Comparison], pairs: int, seeds: int) -> list[str]:
    """Sentences, the most telling first. `pairs`: how many each model was trained on; `seeds`: trainings an arm."""
    found = [_between(one, seeds) for one in compared if one.measure == CHECKS and _is_between(one)]
    found += [_checked(one, pairs) for one in compared if one.measure == CHECKS and not _is_between(one)]
    found += [_learnt(one, pairs) for one in compared if one.measure == MARGIN and one.other.endswith(SHUFFLED)]
    if not any(one.measure == CHECKS for one in compared):
        found.append(
            "Which set makes the better model is not told: that takes --eval, prompts whose answers can be checked. A "
            "margin shows that a preference can be learnt, not that it is right."
        )
    if seeds == 1:
        found.append(
            "One training an arm: the intervals are over prompts alone, and what another seed would have given is not "
            "in them. --seeds 3 trains two more of each and leaves what is done."
        )
    return found


def _is_between(one: Comparison) -> bool:
    """Whether two sets are compared, and not one with a control."""
    return one.other != UNTRAINED and not one.other.endswith(SHUFFLED)


def _between(one: Comparison, seeds: int) -> str:
    seen, names = one.effect, (one.one, one.other)
    better, worse = names if seen.mean > 0 else names[::-1]
    if not seen.is_decided:
        return f"{one.one} or {one.other}: undecided by checks, {_numbers(seen)}. {_missing(seen, 'check prompts')}"
    told = f"the model trained on {better} meets more checks than that on {worse}: {_numbers(seen, abs_value=True)}."
    if seeds == 1:
        return f"T{told[1:]} With one training each that holds for these two models, not yet for the sets."
    return f"{better} is worth more than {worse} to this model by these checks: {told}"


def _checked(one: Comparison, pairs: int) -> str:
    seen = one.effect
    against = "the untrained model" if one.other == UNTRAINED else "the same pairs with sides shuffled"
    if not seen.is_decided:
        return f"{one.one}: no gain or loss in checks shown against {against}, {_numbers(seen)}. " + _missing(
            seen, "check prompts"
        )
    what = "more" if seen.mean > 0 else "fewer"
    return (
        f"{one.one}: trained on {pairs:,} of its pairs, the model meets {what} checks than {against}: {_numbers(seen)}."
    )


def _learnt(one: Comparison, pairs: int) -> str:
    seen = one.effect
    if not seen.is_decided:
        return (
            f"{one.one}: not shown that {pairs:,} pairs teach what it prefers: the margin on held-out pairs is "
            f"{_numbers(seen, 'nats')} above that of shuffled sides. {_missing(seen, 'prompts with held-out pairs')}"
        )
    if seen.mean < 0:
        return (
            f"{one.one}: {pairs:,} of its pairs teach the opposite of what its held-out pairs prefer: their margin is "
            f"{_numbers(seen, 'nats')} against shuffled sides. The two parts of the set disagree."
        )
    return (
        f"{one.one}: what it prefers can be learnt. {pairs:,} of its pairs move the model towards the chosen answers "
        f"of held-out pairs, by {_numbers(seen, 'nats')} more than the same pairs with sides shuffled."
    )


def _numbers(seen: Effect, unit: str = "", abs_value: bool = False) -> str:
    """A difference with its interval.

    >>> _numbers(Effect(-0.5, -0.75, -0.25, 10, 1, 0.1, None), abs_value=True)
    '0.5 (95% interval 0.25 to 0.75)'
    """
    mean, low, high = seen.mean, seen.low, seen.high
    if abs_value and mean < 0:
        mean, low, high = -mean, -high, -low
    return f"{mean:.3g}{f' {unit}' if unit else ''} (95% interval {low:.3g} to {high:.3g})"


def _missing(seen: Effect, things: str) -> str:
    """How much more would decide it."""
    found = f"These {seen.items:,} {things} find a true difference of {seen.findable:.2g} in 4 of 5 trials"
    more = needed(seen, seen.mean)
    if more is None:
        return f"{found}; the one seen is too small for any number of them."
    trainings = f" and {more.runs} trainings an arm" if more.runs > seen.runs else ""
    return f"{found}; if it is as large as the one seen, about {more.items:,} {things}{trainings} would."
