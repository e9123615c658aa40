"""Read what an author writes: a JSON object with a list of items, each a question, a weight and perhaps a check.

Reading gives all items in their order, whatever the reply says: one that cannot be used has an error, and a reply that
cannot be read as a whole gives none and an error. A check in no known form leaves its item a question, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pairsmith.judging.criteria_checks import check_of
from pairsmith.judging.wrapping import only_object, without_thoughts
from pairsmith.storage.schemas import Reason

WEIGHTS = {"essential": 1.0, "important": 0.7, "optional": 0.3}  # Rubrics as Rewards has 1, 0.7, 0.3 for these
LONGEST = 500  # characters of a question
MOST_WEIGHT = 1000.0
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "question": {"type": "string"},
                    "weight": {"enum": list(WEIGHTS)},
                    "check": {"type": "string"},
                },
                "required": ["question", "weight", "check"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Item:
    """A criterion as it was written. `note`: what of it was not taken; `error`: why it cannot be used."""

    question: str | None = None
    weight: float | None = None
    check: str | None = None
    note: str | None = None
    error: str | None = None


def read_items(text: str, cut: bool = False) -> tuple[list[Item], str | None]:
    """The items of a reply, and the error where there are none. `cut`: whether the reply ended at max_tokens."""
    start = text.lstrip("\ufeff \t\r\n")
    try:
        value, _ = only_object(start if start.startswith("{") else without_thoughts(text))
    except (ValueError, RecursionError) as wrong:
        why = "it was cut at max_tokens: raise sampling.max_tokens of the author" if cut else str(wrong)
        return [], f"{Reason.UNREADABLE}: {why}"
    items = value.get("items")
    if not isinstance(items, list):
        return [], f'{Reason.UNREADABLE}: the object has no list "items"'
    if not items:
        return [], f"{Reason.UNREADABLE}: the list has no items"
    return [read_item(item) for item in items], None


def read_item(item: Any) -> Item:
    """One item: a mapping with `question`, and perhaps `weight` and `check`."""
    if not isinstance(item, Mapping):
        return Item(error=f"{Reason.UNREADABLE}: a {type(item).__name__} where an item should be")
    asked, weight = item.get("question"), weight_of(item.get("weight", "important"))
    if not isinstance(asked, str) or not (question := _plain(asked)):
        return Item(error=f"{Reason.UNREADABLE}: no question")
    if len(question) > LONGEST:
        return Item(question[:LONGEST], error=f"{Reason.UNREADABLE}: longer than {LONGEST} characters")
    if weight is None:
        return Item(question, error=f"{Reason.UNREADABLE}: weight is {_plain(repr(item.get('weight')))[:60]}")
    check, form = None, item.get("check")
    if form is None or (isinstance(form, str) and not form.strip()):
        return Item(question, weight)
    try:
        check_of(form if isinstance(form, str) else repr(form))
        check = str(form).strip()
    except ValueError as wrong:
        return Item(question, weight, note=_plain(f"a judge decides, since the check is unknown: {wrong}")[:200])
    return Item(question, weight, check)


def weight_of(value: Any) -> float | None:
    """A weight by its name or as a number above 0; None for anything else.

    >>> weight_of("essential"), weight_of(2), weight_of(True), weight_of(-1)
    (1.0, 2.0, None, None)
    """
    if isinstance(value, str):
        return WEIGHTS.get(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 < value <= MOST_WEIGHT else None


def _plain(text: str) -> str:
    """A text on one line, fit for a table."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
