"""By how much one trained model scores higher than another, with a 95% interval, and how much more would decide it.

Scores stand as runs x items: a row for each training (seed), a column for each prompt, the same prompts on both sides.
Two things make a difference uncertain: which prompts were asked, and how each training happened to go. The prompts are
resampled, the same ones for all trainings (a paired bootstrap, Efron 1979, https://doi.org/10.1214/aos/1176344552);
the luck of trainings is what their means differ by beyond what single prompts explain (the run component of a two-way
analysis of variance, pooled over all arms), and enters as draws of Student's t. With one training an arm nothing is
known of that luck: the interval is then one over prompts alone. Pure numpy, seeded; nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairsmith.reporting.ratios import Z

RESAMPLES = 2000
POWER = Z + 0.8416212335729143  # of standard errors: found in 4 of 5 trials at 95%
MOST = 1_000_000  # prompts or trainings, above which a number says no more than "not this way"
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Luck:
    """What trainings differ by beyond their prompts: the variance of a run's mean, and its degrees of freedom."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Effect:
    """A difference of means with its 95% interval.

    `items`: prompts. `runs`: trainings on the side that has fewest. `item_variance`: of a prompt's difference. `luck`:
    the variance that trainings add to the difference; None where one training an arm does not tell.
    """

    mean: float
    low: float
    high: float
    items: int
    runs: int
    item_variance: float
    luck: float | None

    @property
    def is_decided(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def findable(self) -> float:
        """The smallest true difference that would be found in 4 of 5 trials like this one."""
        return POWER * math.sqrt(self.item_variance / self.items + (self.luck or 0))


@dataclass(frozen=True)
class Needed:
    """How many prompts and trainings would find a true difference of this size in 4 of 5 trials."""

    items: int
    runs: int


def luck_of(arms: Sequence[Scores]) -> Luck | None:
    """What trainings differ by, pooled over arms (each runs x items); None where no arm has 2 runs and 2 items."""
    several = [arm for arm in arms if arm.shape[0] > 1 and arm.shape[1] > 1]
    if not several:
        return None
    between = within = freedom = 0.0
    for arm in several:
        runs, items = arm.shape
        rest = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0) + arm.mean()
        between += float(arm.mean(axis=1).var(ddof=1)) * (runs - 1)
        within += float((rest**2).sum()) / (items - 1) / items
        freedom += runs - 1
    return Luck(max(0.0, (between - within) / freedom), int(freedom))


def effect(one: Scores, other: Scores, luck: Luck | None, seed: int = 0, other_is_trained: bool = True) -> Effect:
    """How much higher `one` scores than `other`. Both runs x items, of the same items.

    `other_is_trained`: False for the untrained model, which has one run and no luck. Raises ValueError for no items.
    """
    if one.shape[1] != other.shape[1] or not one.size or not other.size:
        raise ValueError(f"scores of {one.shape} and {other.shape}: the same items are needed, and at least one")
    difference = one.mean(axis=0) - other.mean(axis=0)
    items = len(difference)
    random = np.random.default_rng(seed)
    means = difference[random.integers(0, items, (RESAMPLES, items))].mean(axis=1)
    added = None
    if luck is not None:
        added = luck.variance * (1 / one.shape[0] + (1 / other.shape[0] if other_is_trained else 0))
        means = means + random.standard_t(luck.freedom, RESAMPLES) * math.sqrt(added)
    low, high = (float(end) for end in np.quantile(means, [0.025, 0.975]))
    runs = min(one.shape[0], other.shape[0]) if other_is_trained else one.shape[0]
    spread = float(difference.var(ddof=1)) if items > 1 else 0.0
    return Effect(float(difference.mean()), low, high, items, runs, spread, added)


def needed(found: Effect, size: float) -> Needed | None:
    """What would find a true difference of `size` in 4 of 5 trials with the spread seen; None where more than MOST.

    Where the luck of trainings alone hides it, so many trainings that luck and prompts each take half of what is left.
    """
    if size == 0:
        return None
    allowed = (size / POWER) ** 2
    luck, runs = found.luck or 0.0, found.runs
    if luck > allowed / 2:
        runs = math.ceil(found.runs * luck / (allowed / 2))
        luck = allowed / 2
    items = max(1, math.ceil(found.item_variance / (allowed - luck)))
    return Needed(items, runs) if max(items, runs) <= MOST else None
