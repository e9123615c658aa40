"""Layouts: how known kinds of data sets lay a prompt, its context and its answers out in the columns of a row.

A layout names what it reads, tells the rows that are certainly its own, and reads one. Without `layout` in a recipe,
each row is read by the first that is certain of it, of those in `LAYOUTS` with their prompt where the row has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pairsmith.sources.chats import as_data, is_chat, is_transcript
from pairsmith.sources.layout_readers import (
    SIDES,
    Asked,
    Lacking,
    Row,
    chat_reader,
    field_reader,
    first_of,
    has_sides,
    holds_text,
    implicit_reader,
    is_filled,
    options_of,
    read_choices,
    read_preference,
    read_prompt,
    text_in,
)
from pairsmith.sources.row_fields import CHAT_NAMES, PROMPT_NAMES, Refused
from pairsmith.storage.schemas import Reason


@dataclass(frozen=True)
class Layout:
    """`at`: where its prompt stands, of the names that are looked for first; none if it stands elsewhere.

    `reads`: its columns, for documents and errors. `certain`: whether a row with a prompt there is surely laid out so.
    """

    name: str
    at: tuple[str, ...]
    reads: str
    certain: Callable[[Row], bool]
    read: Callable[[Row], Asked]


def ask(row: Row, layout: str = "auto") -> Asked:
    """What a row asks, by a layout's name or by the first that is certain of it. Raises Refused where none can say.

    >>> ask({"instruction": "Translate.", "input": "It rains."}).messages
    [{'role': 'user', 'content': 'Translate.\\n\\nIt rains.'}]
    """
    if layout != "auto":
        return _read(BY_NAME[layout], row)
    where = first_of(row, _NAMES)
    if where is None and "instruction" in row and (is_filled(row.get("input")) or is_filled(row.get("context"))):
        where = "instruction"
    candidates = _AT.get(where or "", ())
    for one in candidates if where and is_filled(row[where]) else (*_ELSEWHERE, *candidates):
        if one.certain(row):
            return _read(one, row)
    looked = ", ".join(_NAMES)
    hint = "; name its prompt in columns"
    if all(text_in(row, side) for side in SIDES):
        hint = "; chosen and rejected are texts without turns, so no prompt can be told from them: name it in columns"
    raise Refused(Reason.MISSING, f"none of the columns {looked}; the row has {_named(row)}{hint}")


def _read(layout: Layout, row: Row) -> Asked:
    try:
        return layout.read(row)
    except Lacking:
        detail = f"layout {layout.name} reads {layout.reads}; the row has {_named(row)}"
        raise Refused(Reason.MISSING, detail) from None


def _named(row: Row) -> str:
    return ", ".join(map(str, row))[:200] or "nothing"


def with_joined_turns(row: Row) -> Row:
    """A row whose lists of user turns are one text each."""
    names = (*CHAT_NAMES, *PROMPT_NAMES)
    lists = {name: value for name in names if isinstance(value := row.get(name), list | tuple) and value}
    texts = {name: "\n\n".join(turns) for name, turns in lists.items() if all(isinstance(turn, str) for turn in turns)}
    return {**row, **texts}


def _beside(row: Row, name: str) -> bool:
    """Whether a row has a column that holds text or nothing."""
    return name in row and holds_text(row, name)


def _holds_chat(row: Row, name: str) -> bool:
    """Whether a column holds messages, well formed or not, or the text of a chat."""
    found = as_data(row.get(name))
    return bool(found) and (is_chat(found) or (isinstance(found, list | tuple) and isinstance(found[0], Mapping)))


LAYOUTS = (
    Layout("messages", CHAT_NAMES, "messages or conversation, system", lambda row: True,
           chat_reader("messages", CHAT_NAMES)),
    Layout(
        "llama-factory", ("instruction",), "instruction, input or context, system, history",
        lambda row: holds_text(row, "input") and (text_in(row, "system") is not None or is_filled(row.get("history"))),
        field_reader("llama-factory", ("instruction",), "input", "context", history=True, system=True),
    ),
    Layout("alpaca", ("instruction",), "instruction, input", lambda row: _beside(row, "input"),
           field_reader("alpaca", ("instruction",), "input")),
    Layout("dolly", ("instruction",), "instruction, context", lambda row: _beside(row, "context"),
           field_reader("dolly", ("instruction",), "context")),
    Layout("choices", ("question",), "question; choices, options or A, B, C, D; context",
           lambda row: bool(options_of(row)[1]), read_choices),
    Layout("context", ("question",), "question, context", lambda row: _beside(row, "context"),
           field_reader("context", ("question",), "context")),
    Layout("preference", PROMPT_NAMES, "prompt (or another name of prompts), system, chosen, rejected",
           has_sides, read_preference),
    Layout("orca", ("question",), "system, question, with a response",
           lambda row: _beside(row, "system") and text_in(row, "response") is not None,
           field_reader("orca", ("question",), system=True)),
    Layout("prompt", PROMPT_NAMES, ", ".join(PROMPT_NAMES), lambda row: True, read_prompt),
    Layout("sharegpt", (), "conversations, system", lambda row: _holds_chat(row, "conversations"),
           chat_reader("sharegpt", ("conversations", *CHAT_NAMES))),
    Layout("implicit-preference", (), "chosen and rejected as whole chats",
           lambda row: all(_holds_chat(row, side) for side in SIDES), implicit_reader("implicit-preference")),
    Layout("hh-rlhf", (), "chosen and rejected as transcripts",
           lambda row: all(is_transcript(row.get(side)) for side in SIDES), implicit_reader("hh-rlhf")),
    Layout("transcript", (), "text, a transcript", lambda row: is_transcript(row.get("text")),
           chat_reader("transcript", ("text",), with_system=False)),
)  # fmt: skip
BY_NAME = {layout.name: layout for layout in LAYOUTS}
_NAMES = (*CHAT_NAMES, *PROMPT_NAMES)
_AT = {name: tuple(layout for layout in LAYOUTS if name in layout.at) for name in _NAMES}
_ELSEWHERE = tuple(layout for layout in LAYOUTS if not layout.at)
