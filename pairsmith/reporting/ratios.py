"""Ratios for the report and its gates, shares with their intervals, and numbers without a minus before zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

COIN = 0.5
Z = 1.959963984540054  # standard deviations within which 95% of a normal distribution lie


@dataclass(frozen=True)
class Share:
    """So many of `n`, a tie as half; with its 95% interval."""

    count: float
    n: int

    @property
    def value(self) -> float | None:
        return self.count / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.n)

    @property
    def is_coin(self) -> bool:
        """Whether the interval holds 0.5: nothing shows that it is more or less than chance."""
        low, high = self.interval
        return low <= COIN <= high

    @property
    def words(self) -> str:
        """What the interval says of somebody who is right so often."""
        return "a coin" if self.is_coin else "worse than a coin" if self.interval[1] < COIN else "better than a coin"


def wilson(count: float, n: int, z: float = Z) -> tuple[float, float]:
    """The interval of a share of `count` in `n`: (0, 1) for none. Source: Wilson 1927, Probable Inference, the Law of
    Succession, and Statistical Inference, https://doi.org/10.1080/01621459.1927.10502953.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if n == 0:
        return 0.0, 1.0
    share, spread = count / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def ratio(part: float, whole: float) -> float | None:
    """`part` / `whole`; None where the whole is 0, since there is nothing to measure then."""
    return part / whole if whole else None


def rounded_ratio(part: float, whole: float) -> float | None:
    """The same, rounded to the two digits that tables show."""
    return round(part / whole, 2) + 0.0 if whole else None  # + 0.0: of -0.0 it makes 0.0


def signed(text: str) -> str:
    """A number as text; of one that is zero once it is rounded, without its minus.

    >>> signed("-0.00"), signed("-0.01")
    ('0.00', '-0.01')
    """
    return text if text.strip("-0.") else text.removeprefix("-")
