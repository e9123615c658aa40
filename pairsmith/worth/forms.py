"""Forms of a judge: the protocols and readouts in which it could be asked, as far as a recipe would accept them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

from pydantic import ValidationError

from pairsmith.config import CRITERIA, Judge, Rating
from pairsmith.judging.criteria_reading import reads_criteria

# Fields that go with one protocol, or that are about more than two texts: a form has their defaults.
_OF_A_PROTOCOL = ("orders", "comparisons")
TWICE = 2  # orders of a listwise form, in which it is seen whether a swap of the sides changes its mind
Fields = dict[str, Any]


def forms_of(rating: Rating, judge: Judge, as_is: bool = False) -> list[Judge]:
    """The judge as the recipe has it, without a critique, and then, unless `as_is`, in every other form that the recipe
    could have.

    A reward model has one form. What the fields accept decides, so a protocol that is added there is a form too.
    """
    own = _without_critique(judge)
    found = [own]
    if not judge.is_reward and not as_is:
        for changes in _with_and_without_criteria(rating, judge):
            made = _accepted(rating, judge.name, own.model_dump() | changes)
            if made is not None and made not in found:
                found.append(made)
    return found


def _with_and_without_criteria(rating: Rating, judge: Judge) -> Iterator[Fields]:
    """What differs in each form; of a judge that reads criteria, those of a plain rating and of criteria alone."""
    if not reads_criteria(rating, judge):
        yield from _changes(judge)
        return
    plain = tuple(aspect for aspect in rating.aspects_of(judge) if aspect != CRITERIA) or ("overall",)
    for changes in _changes(judge):
        yield changes | {"aspects": plain}
        is_own = rating.aspects_of(judge) == (CRITERIA,) and changes["readout"] == judge.readout
        if changes["protocol"] == "pointwise" and not is_own:  # criteria are read of one text at a time, whatever it is
            yield changes | {"aspects": (CRITERIA,)}


def _without_critique(judge: Judge) -> Judge:
    return judge.model_copy(update={"critique": False})


def _changes(judge: Judge) -> Iterator[Fields]:
    """What differs from the recipe's judge in each form."""
    fields = Judge.model_fields
    plain = {name: fields[name].default for name in _OF_A_PROTOCOL if name in fields}
    protocols, readouts = (get_args(fields[name].annotation) for name in ("protocol", "readout"))
    for protocol, readout in product(protocols, readouts):
        rationale = {"rationale": False} if readout == "logprobs" != judge.readout else {}
        changes = {**plain, "protocol": protocol, "readout": readout, **rationale}
        yield changes
        if protocol == "listwise":
            yield changes | {"orders": TWICE}


def _accepted(rating: Rating, name: str, fields: Fields) -> Judge | None:
    """A judge of these fields in place of the recipe's of that name; None where the recipe would be refused."""
    try:
        made = Judge.model_validate(fields)
        judges = [made if other.name == name else other for other in rating.judges]
        rated = dict.fromkeys(aspect for judge in judges for aspect in judge.aspects or rating.aspects)
        plain = rating.model_dump(exclude={"judges", "calibration"})
        Rating.model_validate(plain | {"judges": judges, **({"aspects": tuple(rated)} if rating.criteria else {})})
    except ValidationError:
        return None
    return made


def settings_of(form: Judge, recipes: Judge) -> Fields:
    """The fields of a form that differ from the recipe's judge: what to put into the recipe."""
    names = ("protocol", "readout", "rationale", "aspects", *_OF_A_PROTOCOL)
    both = ((name, getattr(form, name), getattr(recipes, name)) for name in names)
    return {name: value for name, value, now in both if value != now}
