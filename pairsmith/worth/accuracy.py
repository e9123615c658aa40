"""How often a judge is right about gold, with an interval, and how it errs: ties, flips, a leaning to length or place.

Pure statistics; nobody is asked. A tie counts as half a right answer, as a coin thrown for it would be, and nulls are
left out of the accuracy; both are also shown by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pairsmith.reporting.ratios import COIN, Share, Z


@dataclass(frozen=True)
class Outcome:
    """What a judge made of one gold pair, of which `a` or `b` is better.

    `margin`: its score of a minus that of b; None where it did not score both. `more_characters`: those of a minus
    those of b. `flipped`: whether it preferred another answer when the sides were swapped; None where it saw the pair
    one way round. `first_won`: how often it preferred the answer that was shown first, of the times that it preferred
    one; None where it never did, or no place was first.
    """

    a_is_better: bool
    margin: float | None
    more_characters: int = 0
    flipped: bool | None = None
    first_won: float | None = None

    @property
    def credit(self) -> float | None:
        """1 for right, 0 for wrong, 0.5 for a tie; None where it gave no preference."""
        if self.margin is None:
            return None
        return 0.5 if self.margin == 0 else float((self.margin > 0) == self.a_is_better)

    @property
    def better_is_shorter(self) -> bool:
        """Whether the better answer has fewer characters."""
        return self.more_characters < 0 if self.a_is_better else self.more_characters > 0


@dataclass(frozen=True)
class Accuracy:
    """How often a judge is right about gold pairs.

    `right`: of the pairs that it scored. `when_shorter`: of those whose better answer is the shorter. `ties`: of the
    pairs that it scored; `nulls`: of all. `flips`: of the pairs that it saw both ways round. `first`: how often it
    preferred what was shown first, of the pairs of which it preferred one and one was first.
    """

    right: Share
    when_shorter: Share
    ties: Share
    nulls: Share
    flips: Share
    first: Share

    @property
    def is_coin(self) -> bool:
        """Whether its interval holds 0.5: nothing shows that it is better or worse than chance."""
        return self.right.is_coin

    @property
    def is_wrong(self) -> bool:
        """Whether it prefers the worse answer more often than chance would."""
        return self.right.interval[1] < COIN

    @property
    def words(self) -> str:
        """What the interval says, in words."""
        return self.right.words if self.right.n else "gave no rating"


def measured(outcomes: Sequence[Outcome]) -> Accuracy:
    """The accuracy of one judge over its outcomes; their order changes nothing."""
    scored = [(one, credit) for one in outcomes if (credit := one.credit) is not None]
    shorter = [credit for one, credit in scored if one.better_is_shorter]
    turned = [one.flipped for one in outcomes if one.flipped is not None]
    placed = [one.first_won for one in outcomes if one.first_won is not None]
    return Accuracy(
        right=Share(sum(credit for _, credit in scored), len(scored)),
        when_shorter=Share(sum(shorter), len(shorter)),
        ties=Share(sum(one.margin == 0 for one, _ in scored), len(scored)),
        nulls=Share(len(outcomes) - len(scored), len(outcomes)),
        flips=Share(sum(turned), len(turned)),
        first=Share(sum(placed), len(placed)),
    )


def difference(one: Sequence[Outcome], other: Sequence[Outcome]) -> tuple[float, float, float] | None:
    """How much more often `one` is right than `other` on the pairs that both scored, and the 95% interval of it.

    Both are about the same pairs, in the same order. The interval is that of a mean of paired differences (normal
    approximation); None for fewer than 2 pairs.
    """
    pairs = [
        (mine - theirs)
        for mine, theirs in ((a.credit, b.credit) for a, b in zip(one, other, strict=True))
        if mine is not None and theirs is not None
    ]
    if len(pairs) < 2:
        return None
    mean = sum(pairs) / len(pairs)
    spread = math.sqrt(sum((value - mean) ** 2 for value in pairs) / (len(pairs) - 1) / len(pairs))
    return mean, mean - Z * spread, mean + Z * spread
