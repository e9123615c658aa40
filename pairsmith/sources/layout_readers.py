"""Readers of rows: what a row of a kind asks, from which columns, and the answers beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from pairsmith.sources.chats import (
    Message,
    Turns,
    as_data,
    common_turns,
    is_chat,
    is_transcript,
    open_transcript,
    read_chat,
    turns_of,
)
from pairsmith.sources.row_fields import PROMPT_NAMES, Refused
from pairsmith.storage.schemas import Reason

Row = Mapping[str, Any]
ANSWERS = ("output", "response", "completion", "answer", "answers", "responses", "completions", "generations")
CONTEXTS = ("input", "context", "choices", "options", "history", "system", "tools")
SIDES = ("chosen", "rejected")
LETTERS = (("A", "B", "C", "D", "E"), ("opa", "opb", "opc", "opd"), ("option_a", "option_b", "option_c", "option_d"))
_LIKE_JSON = re.compile(r"\s*(?:\[\s*[\[{\"']|\{\s*[\"'])")
_LABEL = re.compile(r"\(?\w\)?\.?")
_NOTHING = Turns(None, [])
_NO_INPUT = ("<noinput>",)  # how self-instruct writes an empty input


class Lacking(Exception):
    """A row without the columns of its layout."""


@dataclass(frozen=True)
class Answers:
    """The answers beside a prompt: the columns that hold them, and each with its label, if it has one.

    `in_chat`: whether it is the last message of the prompt's own chat.
    """

    columns: tuple[str, ...] = ()
    texts: tuple[tuple[str | None, Any], ...] = ()
    in_chat: bool = False


class Asked(NamedTuple):
    """What a row asks: its system prompt and messages, and the columns that these come from.

    `row`: where answers in columns of their own are looked for, unless the layout knows its answers (`own`).
    """

    layout: str
    columns: tuple[str, ...]
    system: str | None
    messages: list[Message]
    row: Row = MappingProxyType({})
    own: Answers | None = None

    @property
    def answers(self) -> Answers:
        """The answers beside the prompt."""
        return _answers(self.row) if self.own is None else self.own


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
    if value is None or (isinstance(value, float) and not is_filled(value)):
        raise Refused(Reason.MISSING, f"column {where} is absent or null")
    if isinstance(value, list | tuple) and is_chat(items := [as_data(item) for item in value]):
        value = items
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
        turns = turns_of(read_chat(value, where), where)
        if turns.answer is None or is_chat_column:
            return turns
        raise Refused(Reason.BAD_CHAT, f"{where}: ends with the assistant, where the prompt must end with the user")
    raise Refused(Reason.WRONG_TYPE, f"column {where} holds {type(value).__name__}, not text or a list of messages")


def text_in(row: Row, name: str) -> str | None:
    """The text in a column, also that of a number; None where it is empty or holds something else."""
    value = row.get(name)
    value = as_text(value) if isinstance(value, int | float) else value
    return value if isinstance(value, str) and value.strip() and value.strip().lower() not in _NO_INPUT else None


def as_text(value: Any) -> Any:
    """The text of a number or of a message of the system, alone or in a list; any other value as it is."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if is_filled(value) else None
    if isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value if is_chat(value) else (value,)
    if isinstance(value, Mapping) and is_chat([value]):
        (message, *_) = read_chat([value], "system prompt") or [{"role": "", "content": ""}]
        return message["content"] if message["role"] == "system" else value
    return value


def first_of(row: Row, names: Iterable[str]) -> str | None:
    """The first of some columns that is filled, or else the first that is not null."""
    empty = None
    for name in names:
        value = row.get(name)
        if value is not None:
            if is_filled(value):
                return name
            empty = empty or name
    return empty


def holds_text(row: Row, name: str) -> bool:
    """Whether a column can be read as text: it holds one, or nothing."""
    value = row.get(name)
    return not is_filled(value) or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _answers(row: Row) -> Answers:
    """The answers in columns of their own: chosen and rejected, or the first of `ANSWERS` with a text or texts."""
    if has_sides(row):
        return sides_of(row)
    for name in ANSWERS:
        if row.get(name) is None:
            continue
        value = as_data(row[name])
        if (isinstance(value, str) and value.strip()) or is_chat(value):
            return Answers((name,), ((None, row[name]),))
        if isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            return Answers((name,), tuple((None, text) for text in value))
    return Answers()


def sides_of(row: Row) -> Answers:
    """Chosen and rejected as the answers, where both are filled."""
    return Answers(SIDES, tuple((side, row[side]) for side in SIDES)) if has_sides(row) else Answers()


def chat_reader(layout: str, names: tuple[str, ...], with_system: bool = True) -> Callable[[Row], Asked]:
    """Reads a chat in the first of some columns, with a `system` beside it. Answers: chosen, rejected, or its last."""

    def read(row: Row) -> Asked:
        where = first_of(row, names)
        if where is None:
            raise Lacking
        value = row[where]
        is_text = layout == "messages" and not is_chat(value)
        turns = turns_in(value, where, is_chat_column=True) if is_text else turns_of(read_chat(value, where), where)
        beside = sides_of(row)
        own = Answers(texts=((None, turns.answer),), in_chat=True) if turns.answer is not None else Answers()
        system = text_in(row, "system") if with_system else None
        columns = (where, "system") if system else (where,)
        answers = beside if beside.columns else own
        return Asked(layout, columns, _joined((system, turns.system)), turns.messages, own=answers)

    return read


def field_reader(
    layout: str, prompts: tuple[str, ...], *contexts: str, history: bool = False, system: bool = False
) -> Callable[[Row], Asked]:
    """Reads a prompt in the first of some columns, texts of others below it, and the turns of `history` before it."""

    def read(row: Row) -> Asked:
        where = first_of(row, prompts)
        below = {name: text_in(row, name) for name in contexts if _is_given(row, name)}
        if where is None and "input" not in below:
            raise Lacking
        is_asked = where is not None and (is_filled(row[where]) or "input" not in below)
        turns = _asked_at(row, where) if is_asked and where else _NOTHING
        asked = _with_texts(turns.messages, [text for text in below.values() if text])
        own = text_in(row, "system") if system else None
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
    if not holds_text(row, name):
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


def read_choices(row: Row) -> Asked:
    """Reads a question, the text that it is about, and a line for each option."""
    where = first_of(row, PROMPT_NAMES) or "question"
    columns, lines = options_of(row)
    if not lines:
        raise Lacking
    context = [text] if (text := text_in(row, "context")) else []
    turns = turns_in(row.get(where), where)
    messages = _with_texts(turns.messages, [*context, "\n".join(lines)])
    return Asked(
        "choices", (where, *columns, *(["context"] if context else [])), turns.system, messages, own=sides_of(row)
    )


def options_of(row: Row) -> tuple[tuple[str, ...], list[str]]:
    """The columns of a multiple choice, and a line for each option; nothing where there are none that can be read."""
    for name in ("choices", "options"):
        value = as_data(row.get(name))
        if isinstance(value, Mapping) and isinstance(value.get("text"), list | tuple):
            texts, labels = value["text"], value.get("label") or ()
            value = dict(zip(labels, texts, strict=False)) if len(labels) == len(texts) else texts
        if isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            value = {one.get("label", one.get("key", n)): one.get("text") for n, one in enumerate(value, start=1)}
        if isinstance(value, list | tuple):
            value = {chr(ord("A") + place): text for place, text in enumerate(value)}
        if isinstance(value, Mapping) and len(value) > 1 and all(map(_is_option, value.items())):
            return (name,), [f"{label}. {text}" for label, text in value.items()]
    for names in LETTERS:
        filled = [(place, text) for place, name in enumerate(names) if (text := text_in(row, name)) is not None]
        if [place for place, _ in filled[:2]] == [0, 1]:
            return names, [f"{chr(ord('A') + place)}. {text}" for place, text in filled]
    return (), []


def _is_option(option: tuple[Any, Any]) -> bool:
    label, text = option
    return bool(_LABEL.fullmatch(str(label))) and isinstance(text, str | int | float)


def implicit_reader(layout: str) -> Callable[[Row], Asked]:
    """Reads the common beginning of chosen and rejected, and the answer of each after it."""

    def read(row: Row) -> Asked:
        if not has_sides(row):
            raise Lacking
        turns, *texts = common_turns(row["chosen"], row["rejected"])
        answers = Answers((), tuple(zip(SIDES, texts, strict=True)), in_chat=True)
        return Asked(layout, SIDES, turns.system, turns.messages, own=answers)

    return read


def read_prompt(row: Row) -> Asked:
    where = first_of(row, PROMPT_NAMES)
    if where is None:
        raise Lacking
    turns = _asked_at(row, where)
    return Asked("prompt", (where,), turns.system, turns.messages, row)


def _asked_at(row: Row, where: str) -> Turns:
    """What a prompt's column asks; a transcript that waits for an answer is a chat where answers stand beside it."""
    found = open_transcript(row[where]) if has_sides(row) or is_filled(row.get("answers")) else []
    return turns_of(found, where) if found else turns_in(row[where], where, is_chat_column=where == "turns")


def read_preference(row: Row) -> Asked:
    if not has_sides(row):
        raise Lacking
    return field_reader("preference", PROMPT_NAMES, system=True)(row)


def has_sides(row: Row) -> bool:
    return is_filled(row.get("chosen")) and is_filled(row.get("rejected"))
