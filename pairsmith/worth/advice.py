"""What a calibration says in words: which judges are coins, and what to put into the recipe. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pairsmith.reporting.calibrated import share_text
from pairsmith.reporting.ratios import COIN, Share, Z
from pairsmith.worth.accuracy import Accuracy, difference
from pairsmith.worth.calibration import Calibrated
from pairsmith.worth.forms import settings_of
from pairsmith.worth.panel import LEAST
from pairsmith.worth.rated_gold import Tested

_MANY = 5  # judges and forms, from which on one looks good by chance easily
_NEARLY = 0.01  # from chance, below which no number of pairs is worth naming


def percent(share: Share) -> str:
    """A share with its interval; nothing where there is none."""
    return "" if share.value is None else share_text(share.value, share.interval)


def name_of(one: Tested) -> str:
    """A judge and how it was asked."""
    return f"{one.form.name} ({one.form.form})"


def advice(found: Calibrated) -> list[str]:
    """What the numbers say, a sentence a line, the chance among them called chance."""
    return [*_dead(found), *_coins(found), *_wrong(found), *_together(found), *_recipe(found)]


def _dead(found: Calibrated) -> Iterator[str]:
    for name, why in found.left_out.items():
        yield f"Judge {name} was not asked: {why}."
    for one in found.tested:
        nulls = one.accuracy.nulls
        if nulls.count and one.problem:
            of = "no rating at all" if nulls.count == nulls.n else f"no rating for {nulls.count:g} of {nulls.n} pairs"
            yield f"Judge {name_of(one)} gave {of}; the commonest reason: {one.problem}."


def _coins(found: Calibrated) -> Iterator[str]:
    """A sentence for each judge that is a coin in some form: as the recipe asks it first, then in which others."""
    for name in dict.fromkeys(one.own.name for one in found.tested):
        forms = [one for one in found.tested if one.own.name == name and one.accuracy.right.n]
        coins = [one for one in forms if one.accuracy.is_coin]
        if not coins:
            continue
        first, *others = sorted(coins, key=lambda one: not one.is_own)
        right = first.accuracy.right
        also = f"; so it is as {'; '.join(one.form.form for one in others)}" if others else ""
        yield (
            f"Judge {name_of(first)} is a coin: right in {percent(right)} of {right.n} pairs, "
            f"and that interval holds 50%{_enough(first.accuracy)}{also}."
        )


def _enough(accuracy: Accuracy) -> str:
    """How many pairs would tell a judge from a coin, if it is as good as it looks."""
    away = abs((accuracy.right.value or COIN) - COIN)
    return f"; about {math.ceil((Z * COIN / away) ** 2):,} pairs would tell" if away >= _NEARLY else ""


def _wrong(found: Calibrated) -> Iterator[str]:
    for one in found.tested:
        if one.accuracy.is_wrong:
            yield f"Judge {name_of(one)} prefers the worse answer: it is right in only {percent(one.accuracy.right)}."


def _together(found: Calibrated) -> Iterator[str]:
    if found.held is None:
        few = f"{len(found.pairs)} pairs are too few to fit weights on one half and score them on the other"
        yield f"{few}: {LEAST} a half are needed, with prompts of their own."
        return
    held = found.held
    yield (
        f"On pairs that nothing was fitted to: the panel is right in {percent(held.panel.right)}, "
        f"the best single judge in {percent(held.single.right)}, the plain mean in {percent(held.mean.right)}."
    )
    if len(found.tested) > _MANY:
        yield (
            f"With {len(found.tested)} judges and forms in the table, one in 20 or so looks better or worse than a "
            "coin by chance alone; the sentence above is free of that."
        )


def _recipe(found: Calibrated) -> Iterator[str]:
    """What to put into the recipe."""
    counted = [one for one in found.counted if one.weight > 0]
    if not counted:
        yield "No judge is of use: put none of them into the recipe as it is."
        return
    best = [one.tested for one in counted]
    accuracy = (found.held.panel if found.uses_panel else found.held.single) if found.held else best[0].accuracy
    if accuracy.is_coin or accuracy.is_wrong:
        chance = "a coin" if accuracy.is_coin else "worse than a coin"
        yield f"The best of it is {chance}: use another model as judge, or more gold, before money is spent."
    weights = [f", weight {one.weight:.3g}" if found.uses_panel else "" for one in counted]
    who = " and ".join(f"{name_of(one.tested)}{weight}" for one, weight in zip(counted, weights, strict=True))
    yield f"Into the recipe: {who}."
    for one in best:
        if changes := settings_of(one.form, one.own):
            fields = ", ".join(f"{name}: {_yaml(value)}" for name, value in changes.items())
            yield f"Judge {one.own.name}: {fields}{_gain(found, one)}."
    counts = {one.own.name for one in best}
    if idle := [name for name in dict.fromkeys(one.own.name for one in found.tested) if name not in counts]:
        yield f"Leave out {', '.join(idle)}: what they say adds nothing."


def _gain(found: Calibrated, best: Tested) -> str:
    """By how much a form beats the recipe's own form of the judge, and whether that can be told from chance."""
    own = next(one for one in found.tested if one.own == best.own and one.is_own)
    gained = difference(best.outcomes, own.outcomes)
    if gained is None:
        return ""
    mean, low, high = gained
    points = f"right in {mean * 100:+.1f} points more pairs than now ({low * 100:+.1f} to {high * 100:+.1f})"
    return f" ({points}{'; these pairs cannot tell the two apart' if low <= 0 <= high else ''})"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
