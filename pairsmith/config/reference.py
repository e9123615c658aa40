"""The reference of recipes, made from the schema of their model: a JSON schema for editors, and docs/recipe.md.

Nothing here names a field, so a field that is added to a model appears in both, with its type, default and description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pairsmith.config.base import NAME_PATTERN

Schema = Mapping[str, Any]

_INTRODUCTION = """\
# The fields of a recipe

Made by `pairsmith schema --markdown` from the models in `pairsmith/config/`: change the descriptions there.

Each part of a recipe has a section, in the order in which the parts stand in a recipe. Its heading is the path to the
part; `*` stands for each item of a list or each entry of a mapping. With a number or a name instead, `--set` takes the
same path: `--set pool.members.0.samples=2`. A part that can stand in several places is described at the first of them.

- A **name** has up to 64 lower-case letters, digits, `.`, `_` and `-`, and begins with a letter or a digit.
- A **required** field must be there. A part whose default is `{}` can be left out: its fields then have their
  defaults.
- Any field that is not listed here is an error.

`pairsmith schema` prints the same as a JSON schema; [recipe.schema.json](recipe.schema.json) is a copy. Editors with a
YAML language server complete and check a recipe whose first line says where the schema is. For recipes of your own, run
`pairsmith schema > recipe.schema.json` beside them and begin each with

```yaml
# yaml-language-server: $schema=recipe.schema.json
```
"""


def editor_schema(schema: Schema) -> str:
    """The text of docs/recipe.schema.json. It has no `$id`, since it is published at no web address."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps({"$schema": dialect, **schema, "title": "pairsmith recipe"}, indent=2, ensure_ascii=False) + "\n"


def markdown(schema: Schema) -> str:
    """The text of docs/recipe.md."""
    root = str(schema["title"])
    parts = {root: schema} | {name: part for name, part in schema["$defs"].items() if "properties" in part}
    reference = _Reference(parts, _places(parts, root))
    return "\n".join([_INTRODUCTION, *map(reference.section, reference.places)])


def _places(parts: Mapping[str, Schema], root: str) -> dict[str, list[str]]:
    """Part -> the paths at which it can occur, in the order of a recipe's fields."""
    found: dict[str, list[str]] = {}

    def visit(name: str, path: str) -> None:
        paths = found.setdefault(name, [])
        paths.append(path)
        if len(paths) == 1:
            for field, value in parts[name]["properties"].items():
                for part, rest in _refs(value):
                    if part in parts:
                        visit(part, f"{path}.{field}{rest}".removeprefix("."))

    visit(root, "")
    return found


def _refs(value: Schema) -> Iterator[tuple[str, str]]:
    """The parts that a field's value can be or contain, each with the rest of the path to it."""
    if part := _ref(value):
        yield part, ""
    for choice in _choices(value):
        yield from _refs(choice)
    for held in (*_items(value), *_entries(value)):
        yield from ((part, f".*{rest}") for part, rest in _refs(held))


@dataclass(frozen=True)
class _Reference:
    """The parts of a schema by their names in it, and the paths at which each can occur."""

    parts: Mapping[str, Schema]
    places: Mapping[str, list[str]]

    def section(self, name: str) -> str:
        """The section on a part: what it is, where else it can occur, and a table of its fields."""
        part, others = self.parts[name], self.places[name][1:]
        required = part.get("required", ())
        rows = [
            [f"`{field}`", self.type_of(value), self.default_of(value, field in required), value["description"]]
            for field, value in part["properties"].items()
        ]
        also = [f"Also at {', '.join(f'`{path}`' for path in others)}.", ""] if others else []
        table = [["field", "type", "default", "meaning"], ["---"] * 4, *rows]
        lines = [f"| {' | '.join(map(_in_cell, cells))} |" for cells in table]
        return "\n".join([f"## {self.heading(name)}", "", part["description"], "", *also, *lines, ""])

    def heading(self, name: str) -> str:
        """The path of a part, and its kind if it has one: parts of several kinds can have the same path."""
        path, kind = self.places[name][0], self.kind(name)
        return (f"`{path}`" if path else "The recipe") + (f", kind `{kind}`" if kind else "")

    def kind(self, name: str) -> str | None:
        kind: str | None = self.parts[name]["properties"].get("kind", {}).get("const")
        return kind

    def link(self, name: str) -> str:
        return f"[`{self.kind(name) or self.places[name][0]}`](#{_anchor(self.heading(name))})"

    def type_of(self, value: Schema) -> str:
        """The type of a field, in words."""
        if part := _ref(value):
            return self.link(part) if part in self.parts else "any JSON value"
        if choices := _choices(value):
            return " or ".join(map(self.type_of, choices))
        if "prefixItems" in value:
            return f"[{', '.join(map(self.type_of, value['prefixItems']))}]"
        for item in _items(value):
            return f"list of {self.many(item)}" + _length(value, "Items", "")
        for entry in _entries(value):
            return f"mapping of {'names' if 'patternProperties' in value else 'texts'} to {self.many(entry)}"
        return _simple(value)

    def many(self, value: Schema) -> str:
        """The type of the items of a list or the entries of a mapping, in the plural."""
        words = self.type_of(value)
        return re.sub(r"^(text|name|integer|number|list|mapping)\b", r"\1s", words)

    def default_of(self, value: Schema, required: bool) -> str:
        """The value of a field that is left out; for a part, only the fields that differ from its own defaults."""
        if required:
            return "required"
        default = value["default"]
        if part := _ref(value):
            own = self.parts[part]["properties"]
            default = {field: setting for field, setting in default.items() if setting != own[field].get("default")}
        return f"`{default}`" if default and isinstance(default, str) else f"`{json.dumps(default)}`"


def _ref(value: Schema) -> str:
    """The name of the definition that a value refers to; empty if it refers to none."""
    return str(value.get("$ref", "")).rpartition("/")[2]


def _choices(value: Schema) -> list[Schema]:
    return [*value.get("anyOf", ()), *value.get("oneOf", ())]


def _items(value: Schema) -> list[Schema]:
    """The schema of a list's items; an empty list if the value is no list with one type of items."""
    return [value["items"]] if "items" in value else []


def _entries(value: Schema) -> list[Schema]:
    """The schemas of a mapping's entries; an empty list if the value is no mapping."""
    entries = value.get("additionalProperties")
    return [*value.get("patternProperties", {}).values(), *([entries] if isinstance(entries, Mapping) else [])]


def _simple(value: Schema) -> str:
    """The words for a type that contains no other: a text, a number, a choice."""
    if "const" in value or ("minimum" in value and value["minimum"] == value.get("maximum")):
        only = value.get("const", value.get("minimum"))
        return f"`{only if isinstance(only, str) else json.dumps(only)}`"
    if "enum" in value:
        return f"one of {', '.join(f'`{choice}`' for choice in value['enum'])}"
    if value.get("pattern") == NAME_PATTERN:
        return "name"
    kind = str(value["type"])
    words = {"string": "text", "boolean": "`true` or `false`", "null": "`null`"}.get(kind, kind)
    pattern = f" that matches `{value['pattern']}`" if "pattern" in value else ""
    return words + pattern + _length(value, "Length", " characters") + _range(value)


def _length(value: Schema, what: str, unit: str) -> str:
    least, most = value.get(f"min{what}"), value.get(f"max{what}")
    if most is not None:
        return f" ({least or 0} to {most}{unit})"
    return f" ({least} or more{unit})" if least else ""


def _range(value: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return " and".join(f" {sign} {value[bound]}" for bound, sign in signs.items() if bound in value)


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _in_cell(text: str) -> str:
    """Text made fit for a cell of a table: on one line, with `|` escaped."""
    return " ".join(text.split()).replace("|", "\\|")
