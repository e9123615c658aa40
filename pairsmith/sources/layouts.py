"""Layouts: how known kinds of data sets lay a prompt, its context and its answers out in the columns of a row.

A layout names what it reads, tells the rows that are certainly its own, and reads one. Without `layout` in a recipe,
each row is read by the first that is certain of it, of those in `LAYOUTS` with their prompt where the row has its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pairsmith.sources.chats import Message, Turns, as_data, common_turns, is_chat, is_transcript, read_chat, turns_of
from pairsmith.sources.row_fields import CHAT_NAMES, PROMPT_NAMES, Refused
from pairsmith.storage.schemas import Reason

Row = Mapping[str, Any]
ANSWERS = ("output", "response", "completion", "answer", "answers", "responses", "completions", "generations")
CONTEXTS = ("input", "context", "choices", "options", "history", "system", "tools")
SIDES = ("chosen", "rejected")
_LETTERS = (("A", "B", "C", "D", "E"), ("opa", "opb", "opc", "opd"), ("option_a", "option_b", "option_c", "option_d"))
_LIKE_JSON = re.compile(r"\s*(?:\[\s*[\[{\"']|\{\s*[\"'])")
_LABEL = re.compile(r"\(?\w\)?\.?")
_NOTHING = Turns(None, [])
_NO_INPUT = ("<noinput>",)  # how self-instruct writes an empty input


@dataclass(frozen=True)
class Answers:
    """The answers beside a prompt: the columns that hold them, and each with its label, if it has one.

    `in_chat`: whether it is the last message of the prompt's own chat.
    """

    columns: tuple[str, ...] = ()
    texts: tuple[tuple[str | None, Any], ...] = ()
    in_chat: bool = False


@dataclass(frozen=True)
class Asked:
    """What a row asks: its system prompt and messages, and the columns that these come from.

    `row`: where answers in columns of their own are looked for, unless the layout knows its answers (`own`).
    """

    layout: str
    columns: tuple[str, ...]
    system: str | None
    messages: list[Message]
    row: Row = field(default_factory=dict, repr=False)
    own: Answers | None = None

    @property
    def answers(self) -> Answers:
        """The answers beside the prompt."""
        return _answers(self.row) if self.own is None else self.own


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
        return BY_NAME[layout].read(row)
    where = _first(row, _NAMES)
    if where is None and "instruction" in row and (is_filled(row.get("input")) or is_filled(row.get("context"))):
        where = "instruction"
    candidates = _AT.get(where or "", ())
    for one in candidates if where and is_filled(row[where]) else (*_ELSEWHERE, *candidates):
        if one.certain(row):
            return one.read(row)
    looked, there = ", ".join(_NAMES), ", ".join(map(str, row))[:200] or "nothing"
    hint = ""
    if all(_text(row, side) for side in SIDES):
        hint = "; chosen and rejected are texts without turns, so no prompt can be told from them: map it in columns"
    raise Refused(Reason.MISSING, f"none of the columns {looked}; the row has {there}{hint}")


def with_joined_turns(row: Row) -> Row:
    """A row whose lists of user turns are one text each."""
    names = (*CHAT_NAMES, *PROMPT_NAMES)
    lists = {name: value for name in names if isinstance(value := row.get(name), list | tuple) and value}
    texts = {name: "\n\n".join(turns) for name, turns in lists.items() if all(isinstance(turn, str) for turn in turns)}
    return {**row, **texts}


def is_filled(value: Any) -> bool:
    """Whether a column holds anything."""
    if isinstance(value, str):
        return value != "" and not value.isspace()
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and value != [] and value != {}


def turns_in(value: Any, where: str, joined: bool = False, is_chat_column: bool = False) -> Turns:
    """What a prompt's column asks: text, a list of user turns (the first, or all `joined`), or a chat.

    `is_chat_column`: text that looks like JSON must be a chat then. Elsewhere it is the user's, unless it certainly is.
    """
    if value is None:
        raise Refused(Reason.MISSING, f"column {where} is absent or null")
    if isinstance(value, str) and is_chat_column and (_LIKE_JSON.match(value) or is_transcript(value)):
        value = as_data(value)
        if isinstance(value, str):
            return turns_of(read_chat(value, where), where)
    if isinstance(value, list | tuple) and value and all(isinstance(turn, str) for turn in value):
        value = "\n\n".join(value) if joined else value[0]
    if isinstance(value, str) and not is_chat(value):
        if not value.strip():
            raise Refused(Reason.BLANK, f"column {where} is blank")
        return Turns(None, [{"role": "user", "content": value}])
    if isinstance(value, str | list | tuple) or is_chat(value) or (is_chat_column and isinstance(value, Mapping)):
        return turns_of(read_chat(value, where), where)
    raise Refused(Reason.WRONG_TYPE, f"column {where} holds {type(value).__name__}, not text or a list of messages")


def _text(row: Row, name: str) -> str | None:
    """The text in a column, also that of a number; None where it is empty or holds something else."""
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and is_filled(value):
        value = str(value)
    return value if isinstance(value, str) and value.strip() and value.strip().lower() not in _NO_INPUT else None


def _first(row: Row, names: Iterable[str]) -> str | None:
    """The first of some columns that is filled, or else the first that is not null."""
    empty = None
    for name in names:
        value = row.get(name)
        if value is not None:
            if is_filled(value):
                return name
            empty = empty or name
    return empty


def _textual(row: Row, name: str) -> bool:
    """Whether a column can be read as text: it holds one, or nothing."""
    value = row.get(name)
    return not is_filled(value) or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _answers(row: Row) -> Answers:
    """The answers in columns of their own: chosen and rejected, or the first of `ANSWERS` with a text or texts."""
    if _has_sides(row):
        return _sides(row)
    for name in ANSWERS:
        if row.get(name) is None:
            continue
        value = as_data(row[name])
        if isinstance(value, str) and value.strip():
            return Answers((name,), ((None, value),))
        if isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            return Answers((name,), tuple((None, text) for text in value))
    return Answers()


def _sides(row: Row) -> Answers:
    """Chosen and rejected as the answers, where both are filled."""
    return Answers(SIDES, tuple((side, row[side]) for side in SIDES)) if _has_sides(row) else Answers()


def _chat(layout: str, names: tuple[str, ...], with_system: bool = True) -> Callable[[Row], Asked]:
    """Reads a chat in the first of some columns, with a `system` beside it. Answers: chosen, rejected, or its last."""

    def read(row: Row) -> Asked:
        where = _first(row, names)
        if where is None:
            raise _lacking(layout, row)
        turns = turns_in(row[where], where, is_chat_column=True)
        beside = _sides(row)
        own = Answers(texts=((None, turns.answer),), in_chat=True) if turns.answer is not None else Answers()
        system = _text(row, "system") if with_system else None
        columns = (where, "system") if system else (where,)
        answers = beside if beside.columns else own
        return Asked(layout, columns, _joined((system, turns.system)), turns.messages, own=answers)

    return read


def _fields(
    layout: str, prompts: tuple[str, ...], *contexts: str, history: bool = False, system: bool = False
) -> Callable[[Row], Asked]:
    """Reads a prompt in the first of some columns, texts of others below it, and the turns of `history` before it."""

    def read(row: Row) -> Asked:
        where = _first(row, prompts)
        below = {name: _text(row, name) for name in contexts if _is_given(row, name)}
        if where is None and not below:
            raise _lacking(layout, row)
        is_asked = where is not None and (is_filled(row[where]) or not below)
        turns = turns_in(row[where], where, is_chat_column=where == "turns") if is_asked and where else _NOTHING
        asked = _with_texts(turns.messages, [text for text in below.values() if text])
        own = _text(row, "system") if system else None
        columns = [name for name in (where, *below, "system" if own else None) if name]
        if history and is_filled(row.get("history")):
            asked, columns = [*read_chat(row["history"], "history"), *asked], [*columns, "history"]
        whole = turns_of(asked, where or columns[0])
        systems = (own, whole.system, turns.system)
        return Asked(layout, tuple(columns), _joined(systems), whole.messages, row)

    return read


def _is_given(row: Row, name: str) -> bool:
    """Whether a column beside the prompt is filled. Raises Refused where it holds no text."""
    if not is_filled(row.get(name)):
        return False
    if not _textual(row, name):
        raise Refused(Reason.WRONG_TYPE, f"column {name} holds {type(row[name]).__name__}, not text")
    return True


def _with_texts(messages: list[Message], texts: list[str]) -> list[Message]:
    """A chat with further texts below its last message."""
    if not texts:
        return messages
    last = [message["content"] for message in messages[-1:]]
    return [*messages[:-1], {"role": "user", "content": "\n\n".join([*last, *texts])}]


def _joined(parts: Iterable[str | None]) -> str | None:
    return "\n\n".join(dict.fromkeys(part for part in parts if part)) or None


def _choices(row: Row) -> Asked:
    """Reads a question, the text that it is about, and a line for each option."""
    where = _first(row, PROMPT_NAMES) or "question"
    columns, lines = _options(row)
    if not lines:
        raise _lacking("choices", row)
    context = [text] if (text := _text(row, "context")) else []
    turns = turns_in(row.get(where), where)
    messages = _with_texts(turns.messages, [*context, "\n".join(lines)])
    return Asked(
        "choices", (where, *columns, *(["context"] if context else [])), turns.system, messages, own=_sides(row)
    )


def _options(row: Row) -> tuple[tuple[str, ...], list[str]]:
    """The columns of a multiple choice, and a line for each option; nothing where there are none that can be read."""
    for name in ("choices", "options"):
        value = as_data(row.get(name))
        if isinstance(value, Mapping) and isinstance(value.get("text"), list | tuple):
            texts, labels = value["text"], value.get("label") or ()
            value = dict(zip(labels, texts, strict=False)) if len(labels) == len(texts) else texts
        if isinstance(value, list | tuple):
            value = {chr(ord("A") + place): text for place, text in enumerate(value)}
        if isinstance(value, Mapping) and len(value) > 1 and all(map(_is_option, value.items())):
            return (name,), [f"{label}. {text}" for label, text in value.items()]
    for names in _LETTERS:
        filled = [(place, text) for place, name in enumerate(names) if (text := _text(row, name)) is not None]
        if [place for place, _ in filled[:2]] == [0, 1]:
            return names, [f"{chr(ord('A') + place)}. {text}" for place, text in filled]
    return (), []


def _is_option(option: tuple[Any, Any]) -> bool:
    label, text = option
    return bool(_LABEL.fullmatch(str(label))) and isinstance(text, str | int | float)


def _implicit(layout: str) -> Callable[[Row], Asked]:
    """Reads the common beginning of chosen and rejected, and the answer of each after it."""

    def read(row: Row) -> Asked:
        if not _has_sides(row):
            raise _lacking(layout, row)
        turns, *texts = common_turns(row["chosen"], row["rejected"])
        answers = Answers((), tuple(zip(SIDES, texts, strict=True)), in_chat=True)
        return Asked(layout, SIDES, turns.system, turns.messages, own=answers)

    return read


def _prompt(row: Row) -> Asked:
    where = _first(row, PROMPT_NAMES)
    if where is None:
        raise _lacking("prompt", row)
    turns = turns_in(row[where], where, is_chat_column=where == "turns")
    return Asked("prompt", (where,), turns.system, turns.messages, row)


def _preference(row: Row) -> Asked:
    if not _has_sides(row):
        raise _lacking("preference", row)
    return _fields("preference", PROMPT_NAMES, system=True)(row)


def _lacking(layout: str, row: Row) -> Refused:
    there = ", ".join(map(str, row))[:200] or "nothing"
    return Refused(Reason.MISSING, f"layout {layout} reads {BY_NAME[layout].reads}; the row has {there}")


def _has_sides(row: Row) -> bool:
    return all(is_filled(row.get(side)) for side in SIDES)


def _beside(row: Row, name: str) -> bool:
    """Whether a row has a column that holds text or nothing."""
    return name in row and _textual(row, name)


LAYOUTS = (
    Layout("messages", CHAT_NAMES, "messages or conversation, system", lambda row: True, _chat("messages", CHAT_NAMES)),
    Layout(
        "llama-factory", ("instruction",), "instruction, input, system, history",
        lambda row: _textual(row, "input") and (_text(row, "system") is not None or is_filled(row.get("history"))),
        _fields("llama-factory", ("instruction",), "input", history=True, system=True),
    ),
    Layout("alpaca", ("instruction",), "instruction, input", lambda row: _beside(row, "input"),
           _fields("alpaca", ("instruction",), "input")),
    Layout("dolly", ("instruction",), "instruction, context", lambda row: _beside(row, "context"),
           _fields("dolly", ("instruction",), "context")),
    Layout("choices", ("question",), "question; choices, options or A, B, C, D; context",
           lambda row: bool(_options(row)[1]), _choices),
    Layout("context", ("question",), "question, context", lambda row: _beside(row, "context"),
           _fields("context", ("question",), "context")),
    Layout("preference", PROMPT_NAMES, "prompt (or another name of prompts), system, chosen, rejected",
           lambda row: _has_sides(row), _preference),
    Layout("orca", ("question",), "system, question, with a response",
           lambda row: _beside(row, "system") and _text(row, "response") is not None,
           _fields("orca", ("question",), system=True)),
    Layout("prompt", PROMPT_NAMES, ", ".join(PROMPT_NAMES), lambda row: True, _prompt),
    Layout("sharegpt", (), "conversations, system", lambda row: is_chat(row.get("conversations")),
           _chat("sharegpt", ("conversations", *CHAT_NAMES))),
    Layout("implicit-preference", (), "chosen and rejected as whole chats",
           lambda row: all(is_chat(row.get(side)) for side in SIDES), _implicit("implicit-preference")),
    Layout("hh-rlhf", (), "chosen and rejected as transcripts",
           lambda row: all(is_transcript(row.get(side)) for side in SIDES), _implicit("hh-rlhf")),
    Layout("transcript", (), "text, a transcript", lambda row: is_transcript(row.get("text")),
           _chat("transcript", ("text",), with_system=False)),
)  # fmt: skip
BY_NAME = {layout.name: layout for layout in LAYOUTS}
_NAMES = (*CHAT_NAMES, *PROMPT_NAMES)
_AT = {name: tuple(layout for layout in LAYOUTS if name in layout.at) for name in _NAMES}
_ELSEWHERE = tuple(layout for layout in LAYOUTS if not layout.at)
