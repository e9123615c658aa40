"""Rows in a JSON file that is one value: a list of rows, rows under a name, columns, or a single row."""

from __future__ import annotations

from typing import Any

from pairsmith.sources.chats import is_chat
from pairsmith.sources.row_fields import CHAT_NAMES, PROMPT_NAMES

_AROUND = ("data", "rows", "examples", "instances", "train")  # names under which rows stand beside notes on the file


def json_rows(value: Any) -> list[Any]:
    """The rows that a JSON value holds.

    >>> json_rows({"prompt": {"0": "a", "1": "b"}})
    [{'prompt': 'a'}, {'prompt': 'b'}]
    """
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), list):
        (name,) = value
        if name not in (*CHAT_NAMES, *PROMPT_NAMES, "conversations"):
            return inner
        is_column = inner and all(isinstance(one, list) for one in inner)
        return [{name: one} for one in inner] if is_column else [value]
    return _split(value) or _by_name(value) or _rows_among(value) or _columns(value) or [value]


def _split(value: dict[str, Any]) -> list[Any]:
    """Rows of `{"columns": [names], "data": [[values]]}`, which pandas calls split."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        return []
    fits = all(isinstance(row, list) and len(row) == len(names) for row in rows)
    return [dict(zip(map(str, names), row, strict=True)) for row in rows] if fits else []


def _by_name(value: dict[str, Any]) -> list[Any]:
    """Rows of `{column: {index: value}}` or of `{index: {column: value}}`, as pandas writes them."""
    inner = list(value.values())
    if not inner or not all(isinstance(one, dict) and one for one in inner):
        return []
    if all(name.isdigit() for name in value):
        return inner
    indices = list(inner[0])
    if not all(list(one) == indices for one in inner) or not all(index.isdigit() for index in indices):
        return []
    return [{name: column[index] for name, column in value.items()} for index in indices]


def _rows_among(value: dict[str, Any]) -> list[Any]:
    """Rows under a usual name, beside values about the file."""
    lists = {
        name: one for name, one in value.items() if isinstance(one, list) and all(isinstance(r, dict) for r in one)
    }
    name = next(iter(lists), None)
    return lists[name] if name in _AROUND and len(lists) == 1 else []


def _columns(value: dict[str, Any]) -> list[Any]:
    """Rows of two or more columns that are lists of one length; a chat is no such column."""
    lists = [one for one in value.values() if isinstance(one, list)]
    if len(lists) < 2 or len(lists) != len(value) or len({len(one) for one in lists}) != 1:
        return []
    if any(is_chat(one) for one in lists):
        return []
    return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
