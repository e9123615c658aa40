"""How far people agree with each other, and with the data set and its judges; all with 95% intervals.

Shares have Wilson's interval, kappa and alpha the percentiles of 2,000 bootstrap samples of the
pairs (Efron and Tibshirani 1993). Random pairs and those drawn because they are telling are never put together: only
the random ones say something of the whole data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsmith.labelling.pairs import LabelPair
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import Share, rounded_ratio

VERDICTS = ("a", "b", "tie")  # what counts as a verdict; a skip is none
SAMPLES, CHUNK = 2_000, 200
Numbers = NDArray[np.float64]
Interval = tuple[float, float]


def kappa(cells: Numbers) -> Numbers:
    """Cohen's kappa of two people: 1 is full agreement, 0 what chance gives; nan where chance alone agrees fully.

    `cells`: (..., 9), how often each verdict of one met each of the other. Source: Cohen 1960,
    https://doi.org/10.1177/001316446002000104.
    """
    table = cells.reshape(*cells.shape[:-1], 3, 3)
    total = table.sum(axis=(-2, -1))
    same = np.trace(table, axis1=-2, axis2=-1) / total
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / total**2
    return np.asarray((same - chance) / (1 - chance))


def alpha(sums: Numbers) -> Numbers:
    """Krippendorff's alpha for named verdicts, any number of people, and pairs that some have not labelled.

    `sums`: (..., 4): the disagreement within pairs, sum over verdicts of n (m - n) / (m - 1) for the n of a pair's m
    labels that give the verdict; then the number of labels of each verdict. Pairs with one label are left out.
    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, nominal metric.
    """
    within, counts = sums[..., 0], sums[..., 1:]
    total = counts.sum(axis=-1)
    expected = (counts * (total[..., None] - counts)).sum(axis=-1) / (total - 1)
    return np.asarray(1 - within / expected)


def with_interval(of_pairs: Numbers, statistic: Callable[[Numbers], Numbers]) -> tuple[float, Interval] | None:
    """A statistic of sums over pairs with its interval; None where it is not defined. `of_pairs`: (pairs, sums)."""
    count = len(of_pairs)
    if not count:
        return None
    random = np.random.default_rng(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(of_pairs.sum(axis=0)))
        if not math.isfinite(value):
            return None
        shares = np.full(count, 1 / count)
        parts = [statistic(random.multinomial(count, shares, CHUNK) @ of_pairs) for _ in range(SAMPLES // CHUNK)]
    low, high = np.nanpercentile(np.concatenate(parts), [2.5, 97.5])
    return value, (float(low), float(high))


def groups_of(pairs: Iterable[LabelPair]) -> dict[str, list[LabelPair]]:
    """The pairs of the random sample, and the others, that have a label."""
    found: dict[str, list[LabelPair]] = {"random": [], "telling": []}
    for pair in pairs:
        if pair.gold.votes:
            found["random" if pair.gold.drawn == "random" else "telling"].append(pair)
    return {name: group for name, group in found.items() if group}


def people_table(pairs: Iterable[LabelPair]) -> Table:
    """How far people agree about pairs that both labelled, each two of them, and all where there are more.

    `same`: the share with one verdict, ties included. `chance-corrected`: kappa of two people, alpha of all.
    """
    table: Table = []
    for name, group in groups_of(pairs).items():
        given = [_verdicts_in(pair) for pair in group]
        people = sorted({who for verdicts in given for who in verdicts})
        for one, other in combinations(people, 2):
            both = [(found[one], found[other]) for found in given if one in found and other in found]
            cells = np.array([_cell(*two) for two in both], dtype=np.float64).reshape(-1, 9)
            same = sum(left == right for left, right in both)
            table.append(_row(name, f"{one}, {other}", same, len(both)) | _coefficient(with_interval(cells, kappa)))
        if len(people) > 2:
            many = [found for found in given if len(found) > 1]
            sums = np.array([_spread(list(found.values())) for found in many], dtype=np.float64).reshape(-1, 4)
            same = sum(len(set(found.values())) == 1 for found in many)
            table.append(_row(name, "all", same, len(many)) | _coefficient(with_interval(sums, alpha)))
    return table


def judge_table(pairs: Iterable[LabelPair]) -> Table:
    """How often the data set, and each judge, prefers the answer that most people prefer.

    `pairs`: those of which people prefer one answer and the judge scored both; a tie of the judge is half the same.
    `ties of people`: pairs besides these.
    """
    table: Table = []
    for name, group in groups_of(pairs).items():
        judges = sorted({judge for pair in group for judge in pair.judges})
        for judge in (None, *judges):
            told = [(pair.gold.better, pair.judges.get(judge) if judge else pair.chosen) for pair in group]
            known = [(people, own) for people, own in told if own is not None and people != "skip"]
            decided = [(people, own) for people, own in known if people != "tie"]
            same = sum(people == own for people, own in decided)
            ties = sum(own == "tie" for _, own in decided)
            row = _row(name, judge or "data set", same + ties / 2, len(decided))
            table.append(row | {"ties of judge": ties, "ties of people": len(known) - len(decided)})
    return table


def _verdicts_in(pair: LabelPair) -> dict[str, str]:
    return {vote.who: vote.better for vote in pair.gold.votes if vote.better != "skip"}


def _cell(one: str, other: str) -> list[int]:
    place = 3 * VERDICTS.index(one) + VERDICTS.index(other)
    return [int(place == number) for number in range(9)]


def _spread(verdicts: Sequence[str]) -> list[float]:
    counts = [verdicts.count(one) for one in VERDICTS]
    within = sum(n * (len(verdicts) - n) for n in counts) / (len(verdicts) - 1)
    return [within, *map(float, counts)]


def _row(drawn: str, who: str, same: float, count: int) -> dict[str, Any]:
    share = Share(same, count)
    interval = _between(share.interval) if count else None
    return {"drawn": drawn, "who": who, "pairs": count, "same": rounded_ratio(same, count), "95% interval": interval}


def _coefficient(found: tuple[float, Interval] | None) -> dict[str, Any]:
    value, interval = found or (None, None)
    number = None if value is None else round(value, 2) + 0.0
    return {"chance-corrected": number, "its 95% interval": interval and _between(interval)}


def _between(interval: Interval) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
