"""Columns that sources keep, as columns of the published rows: of one type over the whole data set.

The rows of a shard carry them as JSON in a column `kept`. A version's files have a column for each instead, of the
narrowest type that all its values have; where they differ it is text, with what is no text as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pairsmith.storage.datafiles import as_published

KEPT = "kept"
_TYPES = {
    "true or false": pa.bool_(),
    "whole number": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
}
Kinds = Mapping[str, str]  # column -> a name of `_TYPES`


def kinds_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The type of each kept column in some published rows.

    >>> kinds_of([{"kept": {"id": 7, "tags": ["a"]}}, {"kept": {"id": 7.5}}])
    {'id': 'number', 'tags': 'texts'}
    """
    found: dict[str, str] = {}
    for row in rows:
        found = united(found, {name: _kind(value) for name, value in row.get(KEPT, {}).items()})
    return found


def united(one: Kinds, other: Kinds) -> dict[str, str]:
    """The types that hold what two sets of rows have in their kept columns."""
    return {name: _both(one.get(name), other.get(name)) for name in (*one, *(n for n in other if n not in one))}


def with_kept(table: pa.Table, names: Sequence[str], kinds: Kinds) -> pa.Table:
    """A shard's pairs with a column for each name in place of `kept`; null where a row has none."""
    held = table.column(KEPT).to_pylist() if KEPT in table.column_names else [None] * len(table)
    values = [json.loads(text) if text else {} for text in held]
    made = table.drop_columns([KEPT]) if KEPT in table.column_names else table
    for name in names:
        kind = kinds.get(name, "text")
        cells = [_cell(row.get(name), kind) for row in values]
        made = made.append_column(name, pa.array(cells, _TYPES[kind]))
    return made


def with_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a shard's pairs as it is published, with the values of its kept columns, as they are, for `kept`."""
    held: dict[str, Any] = json.loads(row.get(KEPT) or "{}")
    return as_published({name: value for name, value in row.items() if name != KEPT}) | held


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "whole number"
    if isinstance(value, float):
        return "number"
    return "texts" if isinstance(value, list) and all(isinstance(one, str) for one in value) else "text"


def _both(one: str | None, other: str | None) -> str:
    if one is None or other is None or one == other:
        return one or other or "text"
    return "number" if {one, other} == {"whole number", "number"} else "text"


def _cell(value: Any, kind: str) -> Any:
    if kind != "text" or value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
