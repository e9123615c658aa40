"""A JSON schema as the strictest endpoints take it; whoever asked still checks the values of the answer itself.

OpenAI's strict mode wants a type at every value, all properties required and no others, and few keywords; Anthropic and
Gemini take about the same. Pure functions. Source: https://platform.openai.com/docs/guides/structured-outputs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairsmith.errors import ConfigError

Schema = dict[str, Any]
_KEPT = ("type", "description", "enum")
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def strict(schema: Mapping[str, Any]) -> Schema:
    """A schema with the same shape and without what strict endpoints refuse: bounds, patterns, formats, references.

    A property that may be absent becomes one that may be null. Definitions stand where they are referred to, so a
    schema that refers to itself has no such form: ConfigError.

    >>> strict({"enum": [1, 2, None]})
    {'type': ['integer', 'null'], 'enum': [1, 2, None]}
    """
    places = ("$defs", "definitions")
    definitions = {f"#/{place}/{key}": part for place in places for key, part in schema.get(place, {}).items()}
    return _strict(schema, definitions, ())


def _strict(schema: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> Schema:
    if name := schema.get("$ref"):
        if name in within or name not in definitions:
            raise ConfigError(f"a schema for an endpoint: {name} refers to itself or to nothing")
        return _strict(definitions[name], definitions, (*within, name))
    if "const" in schema:
        schema = {**schema, "enum": [schema["const"]]}
    made = {key: schema[key] for key in _KEPT if key in schema}
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return made | {"anyOf": [_strict(choice, definitions, within) for choice in choices]}
    if "enum" in made and "type" not in made:
        types = list(dict.fromkeys(_TYPES[type(value)] for value in made["enum"]))
        made = {"type": types[0] if len(types) == 1 else types, **made}
    if "properties" in schema or made.get("type") == "object":
        required = schema.get("required", ())
        parts = {key: _strict(part, definitions, within) for key, part in schema.get("properties", {}).items()}
        made["properties"] = {key: part if key in required else _or_null(part) for key, part in parts.items()}
        made |= {"type": "object", "required": list(parts), "additionalProperties": False}
    if "items" in schema:
        made["items"] = _strict(schema["items"], definitions, within)
    return made


def _or_null(part: Schema) -> Schema:
    """A part that may be null too."""
    kinds = part.get("type")
    if kinds is None or "enum" in part:
        return {"anyOf": [part, {"type": "null"}]}
    listed = kinds if isinstance(kinds, list) else [kinds]
    return part if "null" in listed else {**part, "type": [*listed, "null"]}
