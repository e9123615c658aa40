"""Answers that are whole chats: what stands before their last answer must be what the row asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from pairsmith.config import Given
from pairsmith.sources.chats import Message, Turns, as_data, is_chat, is_transcript, last_answer, read_chat, turns_of
from pairsmith.sources.layout_readers import Asked
from pairsmith.sources.row_fields import Refused, lookup
from pairsmith.storage.schemas import Reason


def with_common_turns(asked: Asked, row: Mapping[str, Any], given: Given, system: str | None) -> Asked:
    """What a row asks, where all its answers are whole chats that begin with its prompt: their common beginning.

    `system`: what a column of the row says to the models. Raises Refused where the chats begin otherwise.
    """
    values = _values(asked, row, given)
    chats = list(takewhile(bool, map(_before, values)))
    if len(chats) < 2 or len(chats) < len(values):
        return asked
    is_text = all(isinstance(value, str) for value in values)
    try:
        begun = [turns_of(chat, "the answers") for chat in chats]
    except Refused:
        if is_text:
            return asked
        raise
    is_same = all(other == begun[0] for other in begun) and begun[0].answer is None
    if is_text and not is_same and not all(_begins(turns.messages, asked.messages) for turns in begun):
        return asked  # dialogues that the answers write, not the row's own
    if not is_same:
        raise Refused(Reason.BAD_CHAT, "the answers are whole chats that differ before their last answer")
    if not _begins(begun[0].messages, asked.messages):
        raise Refused(Reason.BAD_CHAT, "the answers are whole chats that do not begin with the row's prompt")
    said = [part for part in (asked.system, begun[0].system) if part and part != system]
    messages = [*asked.messages, *begun[0].messages[len(asked.messages) :]]
    return asked._replace(system="\n\n".join(dict.fromkeys(said)) or None, messages=messages)


def with_interleaved(row: Mapping[str, Any], prompt: str | None, given: Given) -> Mapping[str, Any]:
    """A row whose prompt is a list of the user's turns, beside lists of the answers to each: its answers as chats.

    Raises Refused where such lists differ in length.
    """
    asked: Any = as_data(row.get(prompt)) if prompt else None
    if not prompt or not _is_texts(asked):
        return row
    lists = {name: as_data(row[name]) for name in _places(given) if name in row}
    if not lists or not all(map(_is_texts, lists.values())):
        return row
    if {len(texts) for texts in lists.values()} != {len(asked)}:
        raise Refused(Reason.BAD_CHAT, f"{prompt} and {', '.join(lists)} are lists of turns that differ in length")
    chats = {
        name: [
            {"role": role, "content": text or ""}
            for pair in zip(asked, texts, strict=True)
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        for name, texts in lists.items()
    }
    return {**row, prompt: asked[0], **chats}


def _is_texts(value: Any) -> bool:
    """Whether a value is a list of texts, some of which may be null."""
    is_list = isinstance(value, list | tuple) and bool(value)
    return is_list and all(text is None or isinstance(text, str) for text in value) and any(value)


def repeats(before: Sequence[Any], asked: Turns) -> bool:
    """Whether the turns before an answer are a prompt, with its system prompt or without."""
    try:
        turns = turns_of(read_chat(before, "chat"), "chat")
    except Refused:
        return False
    if turns.answer is not None or len(turns.messages) != len(asked.messages):
        return False
    is_known = not turns.system or turns.system.strip() in (asked.system or "")
    return is_known and _begins(turns.messages, asked.messages)


def _begins(chat: Sequence[Message], prompt: Sequence[Message]) -> bool:
    """Whether a chat begins with a prompt. White space at the ends of a turn may differ."""
    said, asked = ([(one["role"], one["content"].split()) for one in turns] for turns in (chat, prompt))
    return said[: len(asked)] == asked


def _before(value: Any) -> list[Message]:
    """The turns before the last answer of a value that is a whole chat; empty for any other."""
    if not (isinstance(value, list | tuple | Mapping) or is_chat(value) or is_transcript(value)):
        return []
    try:
        found = last_answer(value)
        return read_chat(found[0], "the answers") if found and found[0] else []
    except Refused:
        return []


def _values(asked: Asked, row: Mapping[str, Any], given: Given) -> list[Any]:
    """The answers of a row in columns of their own, as they stand there."""
    if given.columns:
        return [lookup(row, place) for place in _places(given)]
    return [value for _, value in asked.answers.texts] if given.of_layout and not _in_chat(asked) else []


def _places(given: Given) -> list[str]:
    """Where the texts of the columns of completions stand."""
    return [written if isinstance(written, str) else written.text or "" for written in given.columns.values()]


def _in_chat(asked: Asked) -> bool:
    return asked.own is not None and asked.own.in_chat
