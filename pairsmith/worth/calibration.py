"""Calibrate: what each judge of a recipe is worth by gold, in each form it could have, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pairsmith.building.runs import opened
from pairsmith.config import Calibration, Judge, Rating, Recipe
from pairsmith.config.calibration import CalibratedJudge, GoldFacts, Right
from pairsmith.config.loading import as_recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.ids import draw
from pairsmith.judging.rating import STAGE
from pairsmith.llms.registry import identity_of, pinned
from pairsmith.planning.calibrated import judge_mark
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.wiring import is_in_batches
from pairsmith.worth.accuracy import Accuracy, Outcome, measured
from pairsmith.worth.forms import forms_of
from pairsmith.worth.gold import Gold, GoldPair
from pairsmith.worth.gold_rows import read_gold
from pairsmith.worth.panel import LEAST, Numbers, best_forms, fit, halves, held_out, shares_right
from pairsmith.worth.rated_gold import Tested, tested


@dataclass(frozen=True)
class Counted:
    """A judge of the panel in its best form; its scores count as weight x (score - offset)."""

    tested: Tested
    weight: float
    offset: float


@dataclass(frozen=True)
class Held:
    """How right the panel, the best single judge and the plain mean are about gold that they were not fitted to."""

    panel: Accuracy
    single: Accuracy
    mean: Accuracy


@dataclass(frozen=True)
class Calibrated:
    """What calibrating found. `pairs`: the gold that was used; `left_out`: judge -> why it was not asked.

    `counted`: what to use, a panel or the best judge alone, fitted to all pairs; empty where no judge gave a score.
    `held`: None with too few pairs for two halves.
    """

    recipe: Recipe
    gold: Gold
    pairs: tuple[GoldPair, ...]
    tested: tuple[Tested, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    counted: tuple[Counted, ...] = ()
    held: Held | None = None

    @property
    def used(self) -> Gold:
        """The gold with those pairs alone that were used."""
        return Gold(self.gold.name, self.pairs)

    @property
    def uses_panel(self) -> bool:
        """Whether several judges count."""
        return sum(one.weight > 0 for one in self.counted) > 1


def calibrate(
    recipe: Recipe | str | Path | Mapping[str, Any],
    gold: Gold | str | Path,
    n: int | None = None,
    as_is: bool = False,
    session: Session | None = None,
) -> Calibrated:
    """Hold a recipe's judges to gold: a file or what `read_gold` gives. `n`: draw so many of its pairs; all if None.
    `as_is`: only as the recipe asks the judges, not in their other forms.

    Replies go through the recipe's ledger and count in its budget. Raises ConfigError for a recipe without judges to
    ask, DataError for gold without a pair of which one answer is better.
    """
    asked = asked_by(recipe, gold, n, as_is)
    with opened(session) as one:
        one.tell(Progress(STAGE, total=len(asked.forms) * len(asked.pairs)))
        made = tuple(tested(asked.recipe, judge, form, asked.pairs, one) for judge, form in asked.forms)
    counted, held = weighed(made, asked.pairs)
    return Calibrated(asked.recipe, asked.gold, asked.pairs, made, asked.left_out, counted, held)


@dataclass(frozen=True)
class Asked:
    """What calibrating asks: each judge in each form about these pairs. `left_out`: judge -> why it is not asked."""

    recipe: Recipe
    gold: Gold
    pairs: tuple[GoldPair, ...]
    forms: tuple[tuple[Judge, Judge], ...]
    left_out: Mapping[str, str]


def asked_by(
    recipe: Recipe | str | Path | Mapping[str, Any], gold: Gold | str | Path, n: int | None = None, as_is: bool = False
) -> Asked:
    """What `calibrate` asks; raises as that does."""
    settings = pinned(as_recipe(recipe))
    judges, left_out = judges_in(settings)
    found = gold if isinstance(gold, Gold) else read_gold(str(gold))
    pairs = drawn(found, n)
    assert settings.rating is not None
    forms = tuple((judge, form) for judge in judges for form in forms_of(settings.rating, judge, as_is))
    return Asked(settings, found, pairs, forms, left_out)


def judges_in(recipe: Recipe) -> tuple[list[Judge], dict[str, str]]:
    """The judges of a recipe that can be asked about gold; and of each other, why not. Raises ConfigError for none."""
    left_out = {
        judge.name: "its ratings come with the sources"
        if judge.is_given
        else "it is asked in batches, for which calibrate does not wait: set its endpoint.mode to live"
        for judge in (recipe.rating.judges if recipe.rating else ())
        if judge.is_given or is_in_batches(judge)
    }
    judges = [judge for judge in (recipe.rating.judges if recipe.rating else ()) if judge.name not in left_out]
    if not judges:
        told = "".join(f"; judge {name}: {why}" for name, why in left_out.items())
        raise ConfigError(f"recipe {recipe.name} has no judge that can be asked about gold{told}")
    return judges, left_out


def drawn(gold: Gold, n: int | None = None) -> tuple[GoldPair, ...]:
    """The pairs of which one answer is better, or `n` of them, drawn by their ids. Raises DataError for none."""
    if not gold.decided:
        raise DataError(f"{gold.name}: no pair of which people say that one answer is better")
    by_lot = sorted(gold.decided, key=lambda pair: draw("gold", pair.pair_id))
    return tuple(sorted(by_lot[:n], key=lambda pair: pair.pair_id))


def weighed(made: Sequence[Tested], pairs: Sequence[GoldPair]) -> tuple[tuple[Counted, ...], Held | None]:
    """Which judges count how much, fitted to all pairs; and how right that is on pairs that it was not fitted to.

    Where the best single judge is at least as right as the panel, it counts alone.
    """
    made = [one for one in made if one.accuracy.right.n]
    if not made:
        return (), None
    a_is_better = np.array([pair.better == "a" for pair in pairs])
    margins = np.array([[_number(outcome.margin) for outcome in one.outcomes] for one in made]).T
    names = [one.own.name for one in made]
    half = halves([pair.prompt_id for pair in pairs])
    held = None
    if min(half.sum(), (~half).sum()) >= LEAST:
        three = held_out(margins, a_is_better, names, _plain_mean(made, len(pairs)), half)
        held = Held(*(_accuracy(one, pairs) for one in (three.panel, three.single, three.mean)))
    chosen = best_forms(margins, a_is_better, names)
    weights = fit(margins[:, chosen], a_is_better)
    if held is None or (held.single.right.value or 0) >= (held.panel.right.value or 0):
        best = int(shares_right(margins[:, chosen], a_is_better).argmax())
        weights = np.where(np.arange(len(chosen)) == best, fit(margins[:, [chosen[best]]], a_is_better)[0], 0.0)
    counted = [
        Counted(made[column], float(weight), _mean_score(made[column]))
        for column, weight in zip(chosen, weights, strict=True)
    ]
    return tuple(counted), held


def _number(margin: float | None) -> float:
    return np.nan if margin is None else margin


def _plain_mean(made: Sequence[Tested], n: int) -> Numbers:
    """The margins of the judges as the recipe has them, in the mean by the recipe's weights; NaN where one has none."""
    total, weights = np.zeros(n), 0.0
    for one in made:
        if one.is_own:
            total += np.array([_number(outcome.margin) for outcome in one.outcomes]) * one.own.weight
            weights += one.own.weight
    return total / weights if weights else np.full(n, np.nan)


def _accuracy(margins: Numbers, pairs: Sequence[GoldPair]) -> Accuracy:
    return measured(
        [
            Outcome(pair.better == "a", None if np.isnan(margin) else float(margin), len(pair.a) - len(pair.b))
            for pair, margin in zip(pairs, margins, strict=True)
        ]
    )


def _mean_score(one: Tested) -> float:
    known = [score for sides in one.sides for score in sides if score is not None]
    return sum(known) / len(known)


def as_calibration(found: Calibrated) -> Calibration:
    """What a recipe's `rating.calibration` reads. Raises DataError where nothing can be said of held-out gold."""
    rating, held = found.recipe.rating, found.held
    assert rating is not None
    if held is None or not any(one.weight > 0 for one in found.counted):
        why = f"{len(found.pairs)} pairs are too few: {2 * LEAST} are needed" if held is None else "no judge is of use"
        raise DataError(f"no calibration can be written: {why}")
    right = (held.panel if found.uses_panel else held.single).right
    low, high = right.interval
    return Calibration(
        made_at=datetime.now(UTC).replace(microsecond=0),
        gold=GoldFacts(name=found.gold.name, pairs=len(found.pairs), digest=found.used.digest),
        judges={one.tested.form.name: _entry(rating, one) for one in found.counted},
        right=Right(count=right.count, of=right.n, low=low, high=high),
    )


def _entry(rating: Rating, one: Counted) -> CalibratedJudge:
    judge = one.tested.form.model_copy(update={"critique": one.tested.own.critique})
    identity = identity_of(judge)
    return CalibratedJudge(
        weight=one.weight,
        offset=one.offset,
        model=identity.model,
        revision=identity.revision,
        form=judge.form,
        mark=judge_mark(rating, judge),
    )
