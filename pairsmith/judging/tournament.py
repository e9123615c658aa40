"""Bradley-Terry strengths of one prompt's texts, from who is how likely better than whom.

The model: log odds that a is better than b = strength of a - strength of b. A comparison counts by its probability, so
one that is half sure counts half for each side, as a tie does. Source: Bradley and Terry 1952,
https://doi.org/10.1093/biomet/39.3-4.324; fractional outcomes: Hunter 2004, https://doi.org/10.1214/aos/1079120141.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

PRIOR = 0.1  # of a win and of a loss against a text of strength 0, for each text
CONVERGED = 1e-12
DIGITS = 9  # of a strength: equal records give equal strengths, whatever rounding did on the way
_MOST_STEPS = 200

Won = Mapping[tuple[str, str], float]  # two texts, the lower id first -> probability that the first is better
Vector = NDArray[np.float64]


def strengths(won: Won) -> dict[str, float]:
    """The strength of each text that was compared, in log odds: 0 is that of an average one.

    It is the maximum of sum over comparisons of (p log s(x_a - x_b) + (1 - p) log s(x_b - x_a)) + `PRIOR` * sum over
    texts of (log s(x) + log s(-x)), with s the logistic function: a strictly concave function, so there is one, also
    where a text has won all. Found by Newton's method, in steps that are halved until the gradient shrinks.

    >>> strengths({("a", "b"): 1.0, ("a", "c"): 0.5, ("b", "c"): 0.0})
    {'a': 0.973..., 'b': -1.946..., 'c': 0.973...}
    """
    names = sorted({name for two in won for name in two})
    place = {name: number for number, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for (one, other), probability in sorted(won.items()):
        wins[place[one], place[other]], wins[place[other], place[one]] = probability, 1 - probability
    games, found = wins + wins.T, np.zeros(len(names))
    slope, bend = _derivatives(found, wins, games)
    for _ in range(_MOST_STEPS):
        if not names:
            break
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while True:
            slope_there, bend_there = _derivatives(found + size * step, wins, games)
            if size < CONVERGED or np.abs(slope_there).max() < max(np.abs(slope).max(), CONVERGED):
                break
            size /= 2
        found, slope, bend = found + size * step, slope_there, bend_there
        if np.abs(step).max() < CONVERGED:
            break
    return {name: round(float(value), DIGITS) + 0.0 for name, value in zip(names, found, strict=True)}


def _derivatives(found: Vector, wins: Vector, games: Vector) -> tuple[Vector, Vector]:
    """The gradient of what `strengths` maximises, and its negative Hessian."""
    expected, alone = _logistic(found[:, None] - found[None, :]), _logistic(found)
    slope = (wins - games * expected).sum(axis=1) + PRIOR * (1 - 2 * alone)
    pull = games * expected * (1 - expected)
    return slope, np.diag(pull.sum(axis=1) + 2 * PRIOR * alone * (1 - alone)) - pull


def _logistic(x: Vector) -> Vector:
    made: Vector = (1 + np.tanh(x / 2)) / 2
    return made


def on_scale(strength: float, scale: tuple[float, float]) -> float:
    """A strength as a score: the lower end plus the probability of being better than an average text, times the width.

    >>> on_scale(0.0, (1, 5)), round(on_scale(1.0, (1, 5)), 3)
    (3.0, 3.924)
    """
    low, high = scale
    return round(low + (high - low) * float(_logistic(np.float64(strength))), DIGITS)  # type: ignore[arg-type]


def triples(won: Won) -> tuple[int, int]:
    """How many threes of texts were all compared with each other, and how many of them go in a circle.

    >>> triples({("a", "b"): 0.9, ("b", "c"): 0.8, ("a", "c"): 0.3})
    (1, 1)
    """
    whole = [three for three in combinations(sorted({name for two in won for name in two}), 3) if _all_in(three, won)]
    return len(whole), sum(_is_circle(won[a, b], won[b, c], 1 - won[a, c]) for a, b, c in whole)


def _all_in(three: tuple[str, ...], won: Won) -> bool:
    return all(two in won for two in combinations(three, 2))


def _is_circle(*around: float) -> bool:
    """Whether each is better than the next, around a circle, in one sense or the other; ties break it."""
    return all(p > 0.5 for p in around) or all(p < 0.5 for p in around)


def paired_off(
    names: Iterable[str], points: Mapping[str, float], met: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The next round of a Swiss draw: from the first of `names`, each against the next with the most points whom it
    has not met.

    `names` come in the order that decides among equals. Of an odd number, the one sits out that has played most, and of
    those the lowest. Who finds nobody left sits out too.
    """
    ranked = sorted(names, key=lambda name: -round(points.get(name, 0.0), DIGITS))  # sorting keeps the order of equals
    done = {frozenset(two) for two in met}
    if len(ranked) % 2:
        played = {name: sum(name in two for two in done) for name in ranked}
        ranked.remove(max(reversed(ranked), key=lambda name: played[name]))
    drawn = []
    while ranked:
        one = ranked.pop(0)
        other = next((name for name in ranked if frozenset((one, name)) not in done), None)
        if other:
            ranked.remove(other)
            drawn.append((one, other))
    return drawn
