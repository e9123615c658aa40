"""Which pairs people are asked about, in which order, and which answer stands on the left.

Half of the pairs are a random sample of all, so that what people say of them holds for the data set. The other half are
those where a label tells most: near ties by margin, and pairs about which the judges disagree. More pairs with the same
seed hold all of fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

from pairsmith import ids

Drawn = Literal["random", "near_tie", "disagreement"]


@dataclass(frozen=True)
class Candidate:
    """What drawing needs to know of a pair.

    `row`: its number in the version. `key`: its id here, which depends on its two answers alone. `margin`: score of the
    chosen answer less that of the other; None where there are no scores. `dissent`: the share of its judges, 0 to 0.5,
    that are in the minority about which answer is better.
    """

    row: int
    key: str
    margin: float | None = None
    dissent: float = 0.0


def drawn(candidates: Iterable[Candidate], count: int, seed: int) -> dict[int, Drawn]:
    """Up to `count` rows, each with the reason why it was drawn.

    The random half is drawn first and from all candidates; the other half are the most telling of the rest. Where fewer
    of these are known than asked for, random ones take their place.
    """
    by_chance = sorted(candidates, key=lambda one: (ids.draw("label", seed, one.key), one.key, one.row))
    sample = by_chance[: -(-count // 2)]
    found: dict[int, Drawn] = {one.row: "random" for one in sample}
    for row, reason in telling(by_chance[len(sample) :]):
        if len(found) >= len(sample) + count // 2:
            break
        found.setdefault(row, reason)
    for one in by_chance:
        if len(found) >= count:
            break
        found.setdefault(one.row, "random")
    return found


def telling(candidates: Sequence[Candidate]) -> Iterable[tuple[int, Drawn]]:
    """Near ties and pairs that judges disagree about, taken in turns, each kind with the most telling first."""
    ties = sorted((one for one in candidates if one.margin is not None), key=_nearness)
    split = sorted((one for one in candidates if one.dissent), key=lambda one: (-one.dissent, _nearness(one)))
    near: list[tuple[int, Drawn]] = [(one.row, "near_tie") for one in ties]
    apart: list[tuple[int, Drawn]] = [(one.row, "disagreement") for one in split]
    return (one for one in chain.from_iterable(zip_longest(apart, near)) if one is not None)


def _nearness(one: Candidate) -> tuple[float, str, int]:
    return (float("inf") if one.margin is None else abs(one.margin), one.key, one.row)


def in_order_for(who: str, seed: int, keys: Iterable[str]) -> list[str]:
    """Pairs in the order in which a person sees them."""
    return sorted(keys, key=lambda one: (ids.draw("label order", seed, who, one), one))


def left_for(who: str, seed: int, key: str) -> Literal["a", "b"]:
    """Which answer of a pair stands on the left for a person; each does for about half of the people and pairs."""
    return "a" if ids.draw("label side", seed, who, key) < 0.5 else "b"
