"""Where fields stand in a recipe's models: a place, such as `pool.members.0.name`, and what can stand there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue

Place = tuple[str | int, ...]
Kinds = list[Any]  # the types of which a value can be


def place_of(loc: Iterable[Any], model: type[BaseModel]) -> tuple[Place, Kinds]:
    """The place of pydantic's `loc` in a `model`, and the kinds of which a value there can be.

    A `loc` also names the branches of unions, and says where a key rather than its value is meant; neither is a field.
    """
    kinds: Kinds = [model]
    place: list[Any] = []
    choosing = False
    for part in loc:
        if choosing:
            kinds, choosing = [kind for kind in kinds if _is_called(kind, str(part))] or kinds, False
        elif part != "[key]":
            place.append(part)
            kinds = inside(kinds, part)
            choosing = len(kinds) > 1
    return tuple(place), kinds


def kinds_at(place: Place, model: type[BaseModel]) -> Kinds:
    """The kinds of which a value at a place can be, in any of the branches that lead there."""
    kinds: Kinds = [model]
    for part in place:
        kinds = inside(kinds, part)
    return kinds


def inside(kinds: Kinds, part: str | int) -> Kinds:
    """The kinds of what stands in a value under a field's name, a key or an index."""
    found = [inner for kind in kinds for inner in _inside(kind, part)]
    return list({repr(kind): kind for kind in found}.values())


def fields_of(kinds: Kinds) -> dict[str, Any]:
    """The fields of those kinds that have some, by the names that a recipe gives them."""
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {field.alias or name: field.annotation for model in models for name, field in model.model_fields.items()}


def named(words: str, place: Place, data: Any, model: type[BaseModel]) -> tuple[Place, str]:
    """The field with whose name a sentence begins, and the rest; the `place` that it is about where it names none.

    The name may be seen from the place, from one around it or from the whole; an item may stand in it by its name:
    `rating.judges.strict.aspects: ...` is about a judge's aspects.
    """
    head, _, rest = words.partition(" ")
    names = head.removesuffix(":").split(".")
    for count in range(len(place), -1, -1):
        found = _found(names, place[:count], data, model)
        if found is not None:
            return found, rest
    return place, words


def _found(names: list[str], start: Place, data: Any, model: type[BaseModel]) -> Place | None:
    place, kinds, value = start, kinds_at(start, model), _value(data, start)
    for name in names:
        part: str | int = name
        if isinstance(value, list | tuple):
            numbers = [at for at, item in enumerate(value) if isinstance(item, Mapping) and item.get("name") == name]
            part = int(name) if name.isdecimal() else numbers[0] if numbers else name
        elif not (name in fields_of(kinds) or (isinstance(value, Mapping) and name in value)):
            return None
        kinds, value, place = inside(kinds, part), _value(value, (part,)), (*place, part)
        if not kinds:
            return None
    return place


def _value(data: Any, place: Place) -> Any:
    for part in place:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _inside(kind: Any, part: str | int) -> Kinds:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = fields_of([kind]).get(str(part))
        return [] if field is None else branches(field)
    if origin is dict:
        return branches(arguments[1])
    if origin in (list, tuple) and isinstance(part, int):
        return branches(arguments[0 if arguments[-1] is Ellipsis or origin is list else min(part, len(arguments) - 1)])
    return []


def branches(annotation: Any) -> Kinds:
    """The kinds that an annotation allows besides null."""
    if annotation == "JsonValue":  # as pydantic's type of all JSON names itself
        annotation = JsonValue
    if hasattr(annotation, "__value__"):  # a named type
        return branches(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return branches(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in branches(part)]
    return [] if annotation is type(None) else [annotation]


def _is_called(kind: Any, label: str) -> bool:
    """Whether a branch of a union is the one that a `loc` calls so: by its tag, or by the name of its type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        tags = [field.annotation for field in kind.model_fields.values() if get_origin(field.annotation) is Literal]
        return kind.__name__ in label or any(label in get_args(tag) for tag in tags)
    return str(getattr(kind, "__name__", kind)).lower() in label.lower()
