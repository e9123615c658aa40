"""What is wrong with a recipe's fields, in a person's words: a pydantic error -> a line for each mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pairsmith.config.base import NAME_PATTERN, close
from pairsmith.config.places import Place, fields_of, named, place_of

LONGEST = 100  # characters of a value that a message repeats
OVERRIDDEN = 0  # the line of a field that --set has set
SECRET_FIELDS = {"endpoint", "ledger", "hub", "sql", "http"}  # may hold a secret, so errors do not repeat their values
DATE = "a date and time with its zone, such as 2026-01-31T09:00:00Z"
KINDS = {  # the type of pydantic's error: what the field should be
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list, such as [a, b]",
    "list_type": "a list, such as [a, b]",
    "set_type": "a list, such as [a, b]",
    "frozen_set_type": "a list, such as [a, b]",
    "dict_type": "fields with values",
    "mapping_type": "fields with values",
    "model_type": "fields with values",
    "model_attributes_type": "fields with values",
    "none_required": "null",
    "datetime_type": DATE,
    "datetime_parsing": DATE,
    "datetime_from_date_parsing": DATE,
    "datetime_object_invalid": DATE,
    "timezone_aware": DATE,
}
SENTENCES = {  # the type of pydantic's error: the sentence, filled in with its context
    "missing": "this field is required",
    "extra_forbidden": "there is no such field",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be greater than or equal to {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be less than or equal to {le}",
    "too_short": "needs at least {min_length} item(s)",
    "too_long": "takes at most {max_length} item(s)",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "takes at most {max_length} character(s)",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "this field is required: it says of what kind this is",
    "invalid_key": "names of fields are text; put this one in quotes",
    "invalid-json-value": "takes text, numbers, true, false, null, lists and fields with values; put a date in quotes",
}
Found = dict[Place, list[dict[str, Any]]]  # pydantic's errors by the field that they are about
PATTERNS = {  # the pattern that a text has to match, said in words
    NAME_PATTERN: "takes small letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
    r"^https?://[^@?#]+$": "is an address that begins with http:// or https://, without a password, '?' or '#'",
    r"^https?://\S+$": "is an address that begins with http:// or https://",
    r"^[A-Za-z0-9._-]+$": "takes letters, digits, '.', '_' and '-'",
    r"^\w[\w.-]{0,95}/\w[\w.-]{0,95}$": "is a data set's id on the hub, such as me/pairs",
    r"^[A-Z]{2}$": "is a country in two capital letters, such as US",
}


def mistakes(error: ValidationError, data: Any, model: type[BaseModel]) -> list[tuple[Place, str]]:
    """What is wrong with `data` as a `model`: the place and a sentence for each mistake, once each."""
    found: Found = {}
    for raw in error.errors(include_url=False):
        item: dict[str, Any] = dict(raw)
        place, _ = place_of(item["loc"], model)
        if item["type"].startswith("union_tag_"):
            item = _about_tag(item)
            place = (*place, item["loc"][-1])
        item["msg"] = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "value_error":
            place, item["msg"] = named(item["msg"], place, data, model)
        found.setdefault(place, []).append(item)
    misspelt = _misspelt(found, model)
    return [
        (place, _sentence(place, items, model, misspelt.get(place)))
        for place, items in found.items()
        if place not in misspelt.values() and not _is_told_deeper(place, items, found)
    ]


def _about_tag(item: dict[str, Any]) -> dict[str, Any]:
    """An error about a value of no known kind, as one of the field that says of what kind it is, or of that one's
    misspelt name."""
    tag, given = item["ctx"]["discriminator"].strip("'"), item["input"]
    if item["type"] == "union_tag_invalid":
        return item | {"loc": (*item["loc"], tag), "input": item["ctx"]["tag"]}
    alike = next((name for name in given if close(name, [tag])), None) if isinstance(given, Mapping) else None
    return item | {"loc": (*item["loc"], alike or tag), "type": "extra_forbidden" if alike else item["type"]}


def in_lines(found: Iterable[tuple[Place, str]], lines: Mapping[Place, int]) -> str:
    """Mistakes as text, each with the line of its field where known."""
    return "\n".join(
        f"  {_shown(place, lines)}{'.'.join(map(str, place)) or 'recipe'}: {told}" for place, told in found
    )


def _shown(place: Place, lines: Mapping[Place, int]) -> str:
    line = next((lines[place[:count]] for count in range(len(place), 0, -1) if place[:count] in lines), None)
    return "" if not lines or not place else "--set " if line == OVERRIDDEN else f"line {line or 1}: "


def _is_told_deeper(place: Place, items: list[dict[str, Any]], found: Found) -> bool:
    """Whether other mistakes are about parts of this value, which is then of the right kind."""
    deeper = any(len(other) > len(place) and other[: len(place)] == place for other in found)
    return deeper and all(
        item["type"] in KINDS
        or item["type"] == "too_short"
        or (item["type"] == "literal_error" and _is_made_of_parts(item["input"]))
        for item in items
    )


def _misspelt(found: Found, model: type[BaseModel]) -> dict[Place, Place]:
    """Field that cannot be -> the required one beside it that is lacking, where they are one under a wrong name: they
    look alike, or the one is like no field and there is no other that lacks."""
    pairs: dict[Place, Place] = {}
    unknown, lacking = (
        [place for place in found if found[place][0]["type"] == kind] for kind in ("extra_forbidden", "missing")
    )
    for place in unknown:
        beside = [other for other in lacking if other[:-1] == place[:-1] and other not in pairs.values()]
        alike = [other for other in beside if close(place[-1], [str(other[-1])])]
        alone = len(beside) == 1 and sum(other[:-1] == place[:-1] for other in unknown) == 1
        if alike or (alone and not close(place[-1], _fields_beside(found[place][0]["loc"], model))):
            pairs[place] = (alike or beside)[0]
    return pairs


def _fields_beside(loc: tuple[Any, ...], model: type[BaseModel]) -> list[str]:
    return sorted(fields_of(place_of(loc[:-1], model)[1]))


def _sentence(place: Place, items: list[dict[str, Any]], model: type[BaseModel], meant: Place | None) -> str:
    first = items[0]
    if first["loc"] and first["loc"][-1] == "[key]" and first["type"] in KINDS:
        return SENTENCES["invalid_key"]
    kinds = list(dict.fromkeys(KINDS[item["type"]] for item in items if item["type"] in KINDS))
    others = list(dict.fromkeys(_words(item) for item in items if item["type"] not in KINDS))
    message = " or ".join([*others, *(f"must be {kind}" for kind in kinds)]).replace(" or must be ", " or ")
    if first["type"] == "extra_forbidden":
        if meant:
            return f"{message}; did you mean {meant[-1]}?"
        fields = _fields_beside(first["loc"], model)
        return message + (close(place[-1], fields) or (f"; there are {', '.join(fields)}" if fields else ""))
    if first["type"] in ("literal_error", "union_tag_invalid"):
        expected = str(first["ctx"].get("expected") or first["ctx"]["expected_tags"])
        message += close(first["input"], expected.replace("'", "").replace(" or ", ", ").split(", "))
    given = first["input"]
    if given is None:
        return f"{message} (nothing is given)"
    hidden = not SECRET_FIELDS.isdisjoint(place) or (first["type"] not in KINDS and _is_made_of_parts(given))
    return message if hidden else f"{message} (given: {_given(given)})"


def _is_made_of_parts(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | BaseModel)


def _given(value: Any) -> str:
    """A value as YAML has it, cut where it is long."""
    if _is_made_of_parts(value):
        return "a list" if isinstance(value, list | tuple) else "fields with values"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."


def _words(item: dict[str, Any]) -> str:
    sentence = PATTERNS.get(item.get("ctx", {}).get("pattern", "")) or SENTENCES.get(item["type"])
    numbers = {name: _plain(value) for name, value in item.get("ctx", {}).items()}
    told = re.sub(r"\b(1 \w+)\(s\)", r"\1", sentence.format(**numbers)).replace("(s)", "s") if sentence else item["msg"]
    return told.replace("False", "false").replace("True", "true") if item["type"] == "literal_error" else told


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
