"""Read a judge's JSON object, keyed by marks, into one rating or null for each text; and the schema to ask for."""

from __future__ import annotations

import re
from typing import Any

from pairsmith.judging.readout_text import values_beside
from pairsmith.judging.readout_values import as_read, holds_a_number, not_applicable, number_on_scale, stands_in
from pairsmith.judging.readouts import MARK, Read, Sheet
from pairsmith.judging.wrapping import only_object, without_thoughts

_DIGITS = re.compile(r"0|[1-9][0-9]{0,5}")
_DIGITS_ALONE = re.compile(
    r"\s*(?P<fence>```\w{0,20}\s*\n\s*)?(?P<quote>\"?)(?P<digits>0|[1-9][0-9]{0,5})(?P=quote)\s*(?(fence)```\s*)"
)
_ANY_MARK = re.compile(rf"\b{MARK}\b", re.IGNORECASE)


def read_json(reply: str, sheet: Sheet, cut: bool = False) -> dict[str, Read]:
    """Mark -> rating, from the only JSON object in a reply; it may be in a fence and have prose around it.

    Of a sheet with one text, the object need not have the mark, a rating may be digits in a string, and it may be all
    that the reply has, unless the reply was `cut` (a 1 may have been the beginning of a 10) or the number stands in
    what the judge was shown.
    """
    reply = reply.lstrip("\ufeff")
    alone = _DIGITS_ALONE.fullmatch(reply) if len(sheet.texts) == 1 and sheet.unbound else None
    if alone and not (cut and reply[-1].isdigit()) and not stands_in(alone["digits"], sheet.shown):
        return {sheet.texts[0].mark: as_read(number_on_scale(int(alone["digits"]), sheet.scale))}
    body = reply if reply.lstrip().startswith("{") or not sheet.thoughts else without_thoughts(reply)
    try:
        value, around = only_object(body)
    except (ValueError, RecursionError) as error:
        return {text.mark: Read(error=f"not JSON: {error}") for text in sheet.texts}
    beside = around.split("\n")
    found = {text.mark: _read_entry(_entry(value, text.mark, sheet), sheet) for text in sheet.texts}
    others = values_beside(beside, sheet)
    return {
        mark: Read(error="a rating beside the JSON object")
        if any(_may_rate(line, mark) for line in beside) or others - {read.rating}
        else read
        for mark, read in found.items()
    }


def _entry(value: dict[str, Any], mark: str, sheet: Sheet) -> Any:
    """What an object says of a text: under its mark or, where there is one text, in the object itself.

    The mark of the one text may also have the rating as its value.
    """
    if len(sheet.texts) == 1 and set(value) == {mark} and isinstance(value[mark], int | str):
        return {"rating": value[mark]}
    unmarked = len(sheet.texts) == 1 and sheet.unbound and mark not in value and set(value) <= {"rationale", "rating"}
    return value if unmarked else value.get(mark)


def _may_rate(line: str, mark: str) -> bool:
    """Whether a line contains the text's mark and some number."""
    if mark not in line.lower():
        return False
    rest = _ANY_MARK.sub("", line)
    return bool(re.search(r"\d", rest)) or holds_a_number(rest)


def _read_entry(entry: Any, sheet: Sheet) -> Read:
    if not isinstance(entry, dict) or "rating" not in entry:
        return Read(error="no rating")
    rationale, rating = entry.get("rationale"), entry["rating"]
    rationale = rationale.strip() or None if isinstance(rationale, str) else None
    if rating is None:
        return Read(rationale=rationale, error=not_applicable(sheet))
    if len(sheet.texts) == 1 and isinstance(rating, str) and _DIGITS.fullmatch(rating):
        rating = int(rating)
    return as_read(number_on_scale(rating, sheet.scale), rationale)


def schema_for(sheet: Sheet, rationale: bool) -> dict[str, Any]:
    """JSON schema of an object keyed by mark. The rationale comes first, so that the rating follows from it."""
    ratings: list[int | None] = list(range(sheet.scale.low, sheet.scale.high + 1))
    properties: dict[str, Any] = {"rationale": {"type": "string"}} if rationale else {}
    properties["rating"] = {"enum": [*ratings, None] if sheet.may_be_na else ratings}
    entry = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    marks = [text.mark for text in sheet.texts]
    return {
        "type": "object",
        "properties": dict.fromkeys(marks, entry),
        "required": marks,
        "additionalProperties": False,
    }
