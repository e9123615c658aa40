"""A panel: several judges' scores as one, with a weight and an offset for each that are fitted to gold.

The panel's score of a text is the sum over judges of weight x (score - offset), so the difference of two texts' scores
is the log odds that people would call the first one better. A weight is never below 0: a judge that gold puts on the
wrong side is left out, not turned round. An offset is the judge's mean score of all gold texts, so a judge that says
nothing of a text counts as if it had called it average.

The weights are those of a logistic regression on score differences, without an intercept and with a weak ridge; a
panel so fitted is scored on gold that it was not fitted to. Why: arXiv 2605.09702 (a panel calibrated on gold beats
choosing the best judges). Pure numpy; nobody is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairsmith.ids import draw

LEAST = 20  # pairs in a half, below which weights say nothing
RIDGE = 1.0  # on differences of unit size: a normal prior of standard deviation 1 for each weight
_STEPS, _ENOUGH = 50, 1e-9
Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """The margins of three ways to use several judges, each on gold that it was not fitted to; NaN for a null.

    `panel`: fitted weights, each judge in its best form. `single`: the best judge in its best form. `mean`: the mean of
    the judges as they are, which needs no fit. Best: by accuracy on the other half.
    """

    panel: Numbers
    single: Numbers
    mean: Numbers


def fit(margins: Numbers, a_is_better: Mask, ridge: float = RIDGE) -> Numbers:
    """A weight for each judge, 0 or more. `margins`: pairs x judges, in each judge's units; pairs with a null are left
    out. A judge whose margins are all 0 gets 0.

    >>> fit(np.array([[2.0, 0.0], [-1.0, 0.0]] * 20), np.array([True, False] * 20)).round(1).tolist()
    [1.7, 0.0]
    """
    known = ~np.isnan(margins).any(axis=1)
    size = np.sqrt(np.mean(margins[known] ** 2, axis=0)) if known.any() else np.zeros(margins.shape[1])
    unit = margins[known] / np.where(size > 0, size, 1.0)
    signs = np.where(a_is_better[known], 1.0, -1.0)
    used = np.flatnonzero(size > 0)
    weights = np.zeros(margins.shape[1])
    while used.size:
        found = _regression(unit[:, used] * signs[:, None], ridge)
        if found.min() >= 0:
            weights[used] = found / size[used]
            break
        used = np.delete(used, found.argmin())
    return weights


def _regression(signed: Numbers, ridge: float) -> Numbers:
    """The weights that make the likelihood of `signed` > 0 largest, by Newton's steps. `signed`: pairs x judges."""
    weights = np.zeros(signed.shape[1])
    for _ in range(_STEPS):
        wrong = 1 / (1 + np.exp(np.clip(signed @ weights, -500, 500)))
        slope = signed.T @ wrong - ridge * weights
        curve = (signed * (wrong * (1 - wrong))[:, None]).T @ signed + ridge * np.eye(weights.size)
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def halves(prompt_ids: Sequence[str]) -> Mask:
    """Which pairs are in the first of two halves: drawn by prompt, so that all pairs of a prompt are in one."""
    ordered = sorted(set(prompt_ids), key=lambda name: draw("half", name))
    first = set(ordered[: len(ordered) // 2])
    return np.array([name in first for name in prompt_ids], dtype=bool)


def shares_right(margins: Numbers, a_is_better: Mask) -> Numbers:
    """How often each judge is right, of the pairs that it scored, ties as half; 0 where it scored none."""
    known = ~np.isnan(margins)
    right = np.where(margins == 0, 0.5, (margins > 0) == a_is_better[:, None])
    counted: Numbers = np.where(known, right, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return counted


def best_forms(margins: Numbers, a_is_better: Mask, judges: Sequence[str]) -> list[int]:
    """For each judge, the column of its form that is right most often; of equals, the first.

    `judges`: the judge of each column.
    """
    shares = shares_right(margins, a_is_better)
    names = list(dict.fromkeys(judges))
    of_judge = {name: [column for column, judge in enumerate(judges) if judge == name] for name in names}
    return [max(columns, key=lambda column: (shares[column], -column)) for columns in of_judge.values()]


def held_out(
    margins: Numbers, a_is_better: Mask, judges: Sequence[str], mean: Numbers, half: Mask, ridge: float = RIDGE
) -> HeldOut:
    """Fit on one half and score the other, both ways. `margins`: pairs x forms; `mean`: the margins of the plain mean.

    Which form of each judge is used, and which judge is the best, is chosen on the half that the weights are fitted to.
    """
    panel, single = np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    for fitted, scored in ((half, ~half), (~half, half)):
        forms = best_forms(margins[fitted], a_is_better[fitted], judges)
        weights = fit(margins[fitted][:, forms], a_is_better[fitted], ridge)
        panel[scored] = margins[scored][:, forms] @ weights
        shares = shares_right(margins[fitted][:, forms], a_is_better[fitted])
        single[scored] = margins[scored, forms[int(shares.argmax())]]
    return HeldOut(panel, single, mean)
