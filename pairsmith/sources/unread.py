"""Columns that are filled and that nothing reads: what a source holds and a data set would lack without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pairsmith.config import Given, Source
from pairsmith.sources.layout_readers import CONTEXTS, SIDES, Asked, as_text, is_filled
from pairsmith.sources.row_fields import CHAT_NAMES, PROMPT_NAMES
from pairsmith.text.templating import names_in

SHOWN = 12  # columns that are named
MOST_SHAPES = 1000  # sets of columns that are kept in memory
_OWN = ("instruction_id_list", "kwargs")  # read without a mapping
_WORDS = 6  # of a column called source; with more it is no name of an origin
_ANSWER, _TURNS = "the last answer of its chats", "the turns after the first"
_LABEL = re.compile(
    r"(?:^|_)(?:id|idx|index|uuid|lang|language|source|category|type|model|split|tags?|score|label|date|url)(?:_\w+)?$"
)
_PROSE = re.compile(r"_(?:text|texts|sentence|sentences|content|document|passage|body)$")  # no label, whatever precedes
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{5}"
)  # of scripts without spaces
_CHATS = (*CHAT_NAMES, *SIDES, "conversations", "text")


class Unread:
    """What the rows of each source hold that is not read. `note` each row that became a prompt, then ask `told`."""

    def __init__(self) -> None:
        self._sources: dict[int, _Found] = {}

    def note(self, source: Source, row: Mapping[str, Any], asked: Asked, prompt_id: str) -> None:
        found = self._sources.get(id(source))
        if found is None:
            found = self._sources[id(source)] = _Found(source)
        found.note(row, asked, prompt_id)

    def told(self) -> list[str]:
        """A sentence for each source with such columns: their names, and the mapping that would use each."""
        return [sentence for found in self._sources.values() for sentence in found.told()]


class _Found:
    """What was found in the rows of a source. `filled`: column that is not read -> whether models could be shown it."""

    def __init__(self, source: Source) -> None:
        self.source, self.read = source, frozenset(_named(source))
        self.given = source.completions is not None and source.completions.of_layout
        self.filled: dict[str, bool] = {}
        self.unseen: dict[
            tuple[Any, ...], list[str]
        ] = {}  # columns read, and all of a row -> those yet to be looked at
        self.answers, self.nested = set[str](), set[str]()  # of those, which hold answers, and which hold no text
        self.absent = {name for name in source.keep if name != "reference"}  # columns to keep that no row had yet
        self.contexts: dict[str, int] = {}  # prompt_id -> hash of what its first row has in columns of context
        self.beside: list[str] = []  # of those, which neither hold answers nor are called as labels are
        self.alike = 0  # rows that differ from an earlier one of the same prompt in such columns
        self.prompt, self.is_chat = "prompt", False
        self.beside_prompt: list[str] = []  # columns that are read beside the prompt's own

    def note(self, row: Mapping[str, Any], asked: Asked, prompt_id: str) -> None:
        shape = (asked.columns, *row)
        unseen = self.unseen.get(shape)
        if unseen is None:
            unseen = [name for name in row if not (name in self.read or name in asked.columns)]
        for column in unseen:
            if column not in self.filled and is_filled(row[column]) and not _is_read_by_itself(column, row):
                self._find(column, row, asked)
        if len(self.unseen) > MOST_SHAPES:
            self.unseen.clear()
        self.unseen[shape] = [name for name in unseen if name not in self.filled] if unseen else unseen
        own = asked.own
        if own and own.in_chat and self.source.completions is None and any(text for _, text in own.texts):
            self.filled[_ANSWER] = False
            self.answers.add(_ANSWER)
        if self.source.columns.turns == "first" and asked.columns and _has_more_turns(row.get(asked.columns[0])):
            self.filled[_TURNS] = False
        if self.absent:
            self.absent -= {name for name in self.absent if name in row or name.split(".")[0] in row}
        names = self.beside
        if names and (beside := [row[name] for name in names if is_filled(row.get(name))]):
            here = hash(tuple(value if isinstance(value, str) else repr(value) for value in beside))
            self.alike += self.contexts.setdefault(prompt_id, here) != here

    def _find(self, column: str, row: Mapping[str, Any], asked: Asked) -> None:
        value = row[column]
        if column in asked.answers.columns:
            if self.given:
                return
            self.answers.add(column)
        elif column in PROMPT_NAMES and any(value == message["content"] for message in asked.messages):
            return
        is_prose = isinstance(value, str) and (" " in value.strip() or _UNSPACED.search(value) is not None)
        is_label = _LABEL.search(column) is not None and column != "source" and not _PROSE.search(column)
        self.filled[column] = column in CONTEXTS or (is_prose and not is_label)
        if not is_label and column not in self.answers:
            self.beside.append(column)
        if not isinstance(value, str):
            self.nested.add(column)
        columns = self.source.columns
        self.prompt = columns.prompt or columns.messages or next(iter(asked.columns), "prompt")
        self.beside_prompt = [name for name in asked.columns if name != self.prompt]
        self.nested |= {name for name in self.beside_prompt if not isinstance(row.get(name), str | int | float | None)}
        self.is_chat = len(asked.messages) > 1 or columns.messages is not None

    def told(self) -> Iterator[str]:
        place = self.source.path or "sql"
        if self.absent:
            yield f"{place}: keep: {', '.join(sorted(self.absent))}: no row has such a column"
        if self.filled:
            more = f" and {len(self.filled) - SHOWN} more" if len(self.filled) > SHOWN else ""
            alike = f" Duplicates that differ in them from an earlier row: {self.alike}." if self.alike else ""
            yield f"{place}: filled and not read: {_listed(self.filled)}{more}.{alike} {'; '.join(self._uses())}"

    def _uses(self) -> Iterator[str]:
        """The mappings that would use the columns."""
        answers = [name for name in self.filled if name in self.answers]
        others = [name for name in self.filled if name not in (*answers, _TURNS)]
        if answers:
            given = "`completions: {of_layout: true}`, with a member of backend given,"
            yield f"{given} takes {_listed(answers)} for given completions"
        if _TURNS in self.filled:
            yield "`columns: {turns: joined}` takes all turns"
        if shown := next((name for name in (*CONTEXTS, *others) if self.filled.get(name)), None):
            yield f"`columns: {self._mapping(shown)}` shows {shown} to the models"
        if others:
            yield f"`keep: [{_listed(others)}]` passes on to the published rows what it names"

    def _mapping(self, column: str) -> str:
        """The mapping that shows a column to the models: below the prompt, or as the system prompt of a chat."""
        if column == "system" and column not in self.nested:
            return "{system_prompt: system}"
        own = self.source.columns.system_prompt or ("system" if "system" in self.beside_prompt else None)
        if self.is_chat or self.prompt in _CHATS or "history" in self.beside_prompt:
            return f'{{system_prompt: "{self._shown([own, column])}"}}'
        below = [name for name in self.beside_prompt if name != "system"]
        beside = f", system_prompt: {self._quoted(own)}" if own else ""
        return f'{{prompt: "{self._shown([self.prompt, *below, column])}"{beside}}}'

    def _shown(self, columns: Iterable[str | None]) -> str:
        """A template of columns, one below the other."""
        names = [name for name in columns if name]
        return "\\n\\n".join(
            name if "{{" in name else f"{{{{ {name}|tojson }}}}" if name in self.nested else f"{{{{ {name} }}}}"
            for name in names
        )

    def _quoted(self, place: str) -> str:
        return f'"{place}"' if "{" in place else place


def _is_read_by_itself(column: str, row: Mapping[str, Any]) -> bool:
    """Whether a column is read by its name: text that is called so, and a source that is no text to work on."""
    value = row[column]
    if column == "source":
        return isinstance(value, str) and len(value.split()) <= _WORDS and not is_filled(row.get("target"))
    return column in ("reference", "system_prompt") and isinstance(as_text(value), str)


def _has_more_turns(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and isinstance(value[0], str)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:SHOWN])


def _named(source: Source) -> Iterator[str]:
    """The columns that a source's own fields name: as a name, as the beginning of a path, or within a template."""
    yield from _OWN
    columns = source.columns
    places = [columns.prompt, columns.messages, columns.system_prompt, columns.reference, columns.source]
    places += [columns.instructions, columns.instruction_kwargs, *source.keep]
    for place in (*places, *(places_of(source.completions) if source.completions else ())):
        if place:
            yield from columns_in(place)


def places_of(given: Given) -> Iterator[str]:
    """Where in a row its completions and all about them stand; of a list of them, where that is."""
    if given.items:
        yield given.items
        return
    for written in (given, *given.by_label.values()):
        places = (written.text, written.member, written.model, *written.rated.values(), *written.rationales.values())
        yield from (place for place in places if place)
    named = (*given.verdicts.values(), *given.votes.values(), given.voter)
    yield from (place for place in named if place)


def columns_in(place: str) -> Iterator[str]:
    """The columns that a name, a dotted path or a template reads."""
    if "{{" in place or "{%" in place:
        yield from names_in(place)
    else:
        yield from (place, place.split(".")[0])
