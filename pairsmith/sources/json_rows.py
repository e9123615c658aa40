"""Rows in a JSON file that is one value: a list of rows, rows under a name, columns, or a single row."""

from __future__ import annotations

from typing import Any

from pairsmith.sources.chats import is_chat
from pairsmith.sources.row_fields import CHAT_NAMES, PROMPT_NAMES, Refused
from pairsmith.storage.schemas import Reason

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
        texts = name not in ("turns", *CHAT_NAMES, "conversations") and all(isinstance(one, str) for one in inner)
        is_column = inner and (texts or all(isinstance(one, list) for one in inner))
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
    """Rows under a usual name, beside values about the file; a system prompt there is that of each row without one."""
    lists = {
        name: one for name, one in value.items() if isinstance(one, list) and all(isinstance(r, dict) for r in one)
    }
    name = next(iter(lists), None)
    if name not in _AROUND or len(lists) != 1:
        return []
    system = {key: value[key] for key in ("system_prompt", "system") if isinstance(value.get(key), str)}
    return [{**system, **row} for row in lists[name]]


def _columns(value: dict[str, Any]) -> list[Any]:
    """Rows of two or more columns that are lists of one length; a chat is no such column.

    A text or number beside them is that of each row. Raises Refused for a list of prompts beside others of another
    length.
    """
    lists = {name: one for name, one in value.items() if isinstance(one, list)}
    asked = next((name for name in PROMPT_NAMES if name in lists and name != "turns"), None)
    others = [one for name, one in value.items() if name not in lists]
    if any(isinstance(one, dict) for one in others) or any(is_chat(one) for one in lists.values()):
        return []
    is_column = asked is not None and all(isinstance(one, str) for one in lists[asked])
    if (len(lists) < 2 or others) and not is_column:
        return []
    if len({len(one) for one in lists.values()}) != 1:
        lengths = ", ".join(f"{name} {len(one)}" for name, one in lists.items())
        if is_column:
            raise Refused(Reason.WRONG_TYPE, f"columns of different lengths: {lengths}; each row needs a value of each")
        return []
    same = {name: one for name, one in value.items() if name not in lists}
    return [{**same, **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=True)]
