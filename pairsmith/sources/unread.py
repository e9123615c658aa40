"""Columns that are filled and that nothing reads: what a source holds and a data set would lack without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pairsmith.config import Source
from pairsmith.sources.layout_readers import ANSWERS, CONTEXTS, SIDES, Asked, is_filled
from pairsmith.sources.row_fields import CHAT_NAMES

SHOWN = 12  # columns that are named
_OWN = ("source", "reference", "system_prompt", "instruction_id_list", "kwargs")  # read without a mapping
_ANSWER = "the last answer of its chats"


@dataclass
class _Columns:
    """What was found in the rows of a source. `filled`: column -> whether it holds text; only those not read."""

    filled: dict[str, bool] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)  # columns to keep that no row had yet
    prompt: str = "prompt"  # where the prompt stands
    is_chat: bool = False  # whether that is a chat, to which no text can be added


class Unread:
    """What the rows of each source hold that is not read. `note` each row that became a prompt, then ask `told`."""

    def __init__(self) -> None:
        self._sources: dict[str, _Columns] = {}
        self._read: dict[str, frozenset[str]] = {}

    def note(self, source: Source, row: Mapping[str, Any], asked: Asked) -> None:
        name = place_of(source)
        if name not in self._sources:
            self._sources[name] = _Columns(absent={one for one in source.keep if one != "reference"})
            self._read[name] = frozenset(_named(source))
        found, read = self._sources[name], self._read[name]
        given = source.completions is not None and source.completions.of_layout
        for column, value in row.items():
            if column in found.absent:
                found.absent.discard(column)
            if column in read or column in asked.columns or column in found.filled or not is_filled(value):
                continue
            if not (given and column in asked.answers.columns):
                found.filled[column] = isinstance(value, str)
                found.prompt = source.columns.prompt or source.columns.messages or next(iter(asked.columns), "prompt")
                found.is_chat = len(asked.messages) > 1 or source.columns.messages is not None
        own = asked.own
        if own and own.in_chat and source.completions is None and any(text for _, text in own.texts):
            found.filled.setdefault(_ANSWER, True)
        found.absent = {one for one in found.absent if "." not in one or one.split(".")[0] not in row}

    def told(self) -> list[str]:
        """A sentence for each source with such columns: their names, and the mapping that would use each."""
        return [text for name, found in self._sources.items() for text in _told(name, found)]

    @property
    def columns(self) -> dict[str, list[str]]:
        """Source -> the names of its columns that are filled and not read."""
        return {name: list(found.filled) for name, found in self._sources.items() if found.filled}


def place_of(source: Source) -> str:
    """What errors call a source."""
    return source.path or "sql"


def _told(name: str, found: _Columns) -> Iterator[str]:
    if found.absent:
        yield f"{name}: keep: {', '.join(sorted(found.absent))}: no row has such a column"
    if not found.filled:
        return
    names = list(found.filled)
    answers = [one for one in names if one in (*ANSWERS, *SIDES, _ANSWER)]
    others = [one for one in names if one not in answers]
    uses = []
    if answers and not _is_half_of_a_pair(answers):
        given = "`completions: {of_layout: true}`, with a member of backend given,"
        uses.append(f"{given} takes {_listed(answers)} for given completions")
    context = next((one for one in CONTEXTS if one in others), None)
    if shown := context or next((one for one in others if found.filled[one] and not _is_label(one)), None):
        uses.append(f"`columns: {_mapping(found, shown)}` shows {shown} to the models")
    if others:
        uses.append(f"`keep: [{_listed(others)}]` passes on to the published rows what it names")
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    yield f"{name}: filled and not read: {_listed(names)}{more}. {'; '.join(uses)}"


def _mapping(found: _Columns, column: str) -> str:
    """The mapping of columns that shows a column to the models: below the prompt, or as the system prompt of a chat."""
    shown = f"{{{{ {column} }}}}" if found.filled[column] else f"{{{{ {column}|tojson }}}}"
    if found.is_chat or found.prompt in (*CHAT_NAMES, *SIDES, "conversations", "text"):
        return f'{{system_prompt: "{shown}"}}'
    asked = found.prompt if "{{" in found.prompt else f"{{{{ {found.prompt} }}}}"
    return f'{{prompt: "{asked}\\n\\n{shown}"}}'


def _is_half_of_a_pair(names: list[str]) -> bool:
    return len(names) == 1 and names[0] in SIDES


def _is_label(name: str) -> bool:
    """Whether a column is called as those are that tell what a row is, rather than what it is about."""
    return bool(re.search(r"(?:^|_)(?:id|idx|index|uuid|lang|language|source|category|type|model|split|tags?)$", name))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:SHOWN])


def _named(source: Source) -> Iterator[str]:
    """The columns that a source's own fields name: as a name, as the beginning of a path, or within a template."""
    yield from _OWN
    columns = source.columns
    places = [columns.prompt, columns.messages, columns.system_prompt, columns.reference, columns.source]
    places += [columns.instructions, columns.instruction_kwargs, *source.keep]
    given = source.completions
    if given and given.items:
        places.append(given.items)
    elif given:
        for written in (given, *given.by_label.values()):
            places += [written.text, written.model, *written.rated.values(), *written.rationales.values()]
        places += [given.member, *given.verdicts.values()]
    for place in places:
        if place:
            yield from (place, place.split(".")[0])
            if "{{" in place or "{%" in place:
                yield from re.findall(r"\w+", place)
                yield from (name for pair in re.findall(r"'([^']*)'|\"([^\"]*)\"", place) for name in pair)
    if source.where:
        yield from re.findall(r"\w+", source.where)
