"""Read prompts: rows of the sources -> validated and deduplicated prompts.

Every row that is read becomes a prompt, or a rejection that names its place and the reason. A prompt's text is kept
byte for byte. Only its id is made from a normalised form, so that two copies that differ in line ends count as one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pairsmith.config import Columns, Decontamination, Prompts, Source
from pairsmith.errors import DataError
from pairsmith.ids import fingerprint, prompt_id
from pairsmith.sources.chats import Turns
from pairsmith.sources.given_completions import read_completions
from pairsmith.sources.keeping import kept
from pairsmith.sources.layout_readers import (
    CONTEXTS,
    LETTERS,
    Answers,
    Asked,
    as_text,
    first_of,
    is_filled,
    sides_of,
    turns_in,
)
from pairsmith.sources.layouts import ask, with_joined_turns
from pairsmith.sources.merging import gather
from pairsmith.sources.overlap import Benchmarks, NearDuplicates, user_texts
from pairsmith.sources.readers import (
    Bodies,
    File,
    Located,
    Placed,
    Recall,
    files_of,
    matching,
    read_file,
    read_source,
)
from pairsmith.sources.row_fields import PROMPT_NAMES, Refused, lookup
from pairsmith.sources.unread import Unread, columns_in, places_of
from pairsmith.sources.whole_chats import with_common_turns, with_interleaved
from pairsmith.storage.schemas import Reason, Stage

STAGE = "load"
_BELOW = {*CONTEXTS, *(name for names in LETTERS for name in names)}  # columns that are read below a prompt


def read_prompts(
    config: Prompts, fetched: Bodies | None = None, recall: Recall | None = None, unread: Unread | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a row of the prompts table or of the rejections table for each row read, in the order of the sources.

    Rows that bring completions of the same prompt become one; its key `rows`, which is no column, is their number.
    `fetched`: http(s) address -> file. With `recall`, a prompt that a shard holds may have only its `prompt_id` and
    `digest`. `unread` notes which columns are filled and not read. Raises ConfigError if a source or column cannot be
    found, DataError if one cannot be read.
    """
    fetched, seen = fetched or {}, dict[str, str]()
    against = config.decontaminate
    benchmarks = Benchmarks(_items(against, fetched), against.n) if against else None
    near = NearDuplicates(config.near_duplicates) if config.near_duplicates else None
    grouped = any(source.completions for source in config.sources)
    found = _read_each(config, fetched, None if benchmarks or near or grouped else recall, seen, unread or Unread())
    for place, prompt in gather(found) if grouped else found:
        try:
            if isinstance(prompt, Refused):
                raise prompt
            if prompt["prompt_id"] in seen:
                raise Refused(Reason.DUPLICATE, f"same prompt as {seen[prompt['prompt_id']]}")
            _no_overlap(prompt, place, benchmarks, near)
            seen[prompt["prompt_id"]] = place
        except Refused as refused:
            rejected = {"stage": Stage.LOAD, "reason": refused.reason, "detail": f"{place}: {refused.detail}"}
            several = isinstance(prompt, dict) and "rows" in prompt
            yield rejected | ({"rows": prompt["rows"]} if several else {})  # type: ignore[index]
        else:
            yield prompt


def _read_each(
    config: Prompts, fetched: Bodies, recall: Recall | None, seen: Container[str], unread: Unread
) -> Iterator[Placed]:
    """Yield each row's place with its prompt, or with why it has none."""
    found = (_read_one(source, config.max_chars, fetched, recall, seen, unread) for source in config.sources)
    return islice(chain.from_iterable(found), config.limit)


def _read_one(
    source: Source, max_chars: int, fetched: Bodies, recall: Recall | None, seen: Container[str], unread: Unread
) -> Iterator[Placed]:
    files = files_of(source, fetched) if recall and not source.sample else None
    if recall is None or files is None:
        return _judged(source, max_chars, read_source(source, fetched), unread)

    def rows_of(file: File, past: int) -> Iterator[Placed]:
        return _judged(source, max_chars, islice(matching(read_file(file), source.where), past, None), unread)

    placed = (
        recall.rows(file.path, file.name, _plan(source, max_chars, file), seen, partial(rows_of, file))
        for file in files
    )
    return islice(chain.from_iterable(placed), source.limit)


def noted_files(config: Prompts, fetched: Bodies) -> Iterator[tuple[str, str]]:
    """Name and plan, as for `Recall.rows`, of each file of the sources, also of those that a limit kept unread."""
    for source in config.sources:
        for file in files_of(source, fetched) or ():
            yield file.name, _plan(source, config.max_chars, file)


def _plan(source: Source, max_chars: int, file: File) -> str:
    """Hash of all in a recipe that decides what a row of a file becomes."""
    further = source.model_dump(mode="json", include={"layout", "keep", "where"}, exclude_defaults=True)
    return fingerprint(source.columns.model_dump(mode="json"), max_chars, file.kind, *([further] if further else []))


def _judged(source: Source, max_chars: int, located: Iterable[Located], unread: Unread) -> Iterator[Placed]:
    for item in located:
        try:
            if item.refused:
                raise item.refused
            row, asked, prompt = read_row(item.row or {}, source, max_chars, item.file)
        except Refused as refused:
            yield item.place, refused
        else:
            unread.note(source, row, asked, prompt["prompt_id"])
            yield item.place, prompt


def _no_overlap(prompt: dict[str, Any], place: str, benchmarks: Benchmarks | None, kept: NearDuplicates | None) -> None:
    """Refuse a prompt that comes from a benchmark or is like one in `kept`, to which it is added otherwise."""
    if not benchmarks and not kept:
        return
    texts = user_texts(json.loads(prompt["messages"]))
    for shared in (benchmarks.find(text) for text in texts) if benchmarks else ():
        if shared:
            raise Refused(Reason.CONTAMINATED, f'shares words with {shared[0]}: "{shared[1]}"')
    alike = kept.find_or_keep(texts[0], place) if kept else None
    if alike:
        raise Refused(Reason.NEAR_DUPLICATE, f"similarity {alike[1]:.3f} to {alike[0]}")


def _items(config: Decontamination, fetched: Bodies) -> Iterator[tuple[str, str]]:
    """Place and text of each item of the benchmarks; for a list of turns, both the first turn and all together.

    Blank rows are skipped. Raises DataError for any other row that cannot be read, and for a benchmark without items:
    otherwise, prompts that were compared with too little would look as if they were clean.
    """
    for source in config.against:
        none = True
        both = [
            source.model_copy(update={"columns": source.columns.model_copy(update={"turns": turns})})
            for turns in ("first", "joined")
        ]
        for item in read_source(source, fetched):
            try:
                if item.refused:
                    raise item.refused
                chats = [asked_in(item.row or {}, one).messages for one in both]
            except Refused as refused:
                if refused.reason in (Reason.BLANK, Reason.MISSING):
                    continue
                raise DataError(f"prompts.decontaminate: {item.place}: {refused.detail}") from None
            none = False
            yield from (
                (item.place, text) for text in dict.fromkeys(text for chat in chats for text in user_texts(chat))
            )
        if none:
            raise DataError(
                f"prompts.decontaminate: {source.path or 'sql'}: not one item in it; are its columns mapped right?"
            )


def to_prompt(row: Mapping[str, Any], source: Source, max_chars: int, file: str = "") -> dict[str, Any]:
    """Turn one row of `file` into a row of the prompts table. Raises Refused if it cannot be a prompt.

    >>> to_prompt({"prompt": "Hi"}, Source(path="x.jsonl"), 100)["messages"]
    '[{"role": "user", "content": "Hi"}]'
    """
    return read_row(row, source, max_chars, file)[2]


def read_row(
    row: Mapping[str, Any], source: Source, max_chars: int, file: str = ""
) -> tuple[Mapping[str, Any], Asked, dict[str, Any]]:
    """A row of `file` with its lists of turns as chats, what it asks, and its row of the prompts table.

    Raises Refused as `to_prompt` does.
    """
    row = _in_chats(row, source)
    asked = asked_in(row, source)
    return row, asked, prompt_from(row, asked, source, max_chars, file)


def _in_chats(row: Mapping[str, Any], source: Source) -> Mapping[str, Any]:
    """A row with lists of turns beside each other made chats, where the source names the answers' columns."""
    if source.completions is None:
        return row
    columns = source.columns
    return with_interleaved(row, columns.prompt or columns.messages or first_of(row, PROMPT_NAMES), source.completions)


def asked_in(row: Mapping[str, Any], source: Source) -> Asked:
    """What a row asks: by the columns that the source maps, or by its layout, and by answers that are whole chats.

    Raises Refused if it cannot be told.
    """
    asked = _asked_alone(row, source)
    if source.completions is None:
        return asked
    return with_common_turns(asked, row, source.completions, _own_system(row, source))


def _asked_alone(row: Mapping[str, Any], source: Source) -> Asked:
    columns, given = source.columns, source.completions
    mapped = columns.messages or columns.prompt
    joined = columns.turns == "joined"
    if mapped:
        turns = turns_in(lookup(row, mapped), mapped, joined, is_chat_column=columns.messages is not None)
        last = Answers(texts=((None, turns.answer),), in_chat=True) if is_filled(turns.answer) else Answers()
        own = sides_of(row) if columns.messages else Answers()
        return Asked("columns", (), turns.system, turns.messages, own=own if own.columns else last)
    if columns.system_prompt:
        row = {name: value for name, value in row.items() if name != "system"}
    if given and not _BELOW.isdisjoint(row):
        answers = {name for place in places_of(given) for name in columns_in(place)} & _BELOW
        row = {name: value for name, value in row.items() if name not in answers}
    return ask(with_joined_turns(row) if joined else row, source.layout)


def _own_system(row: Mapping[str, Any], source: Source) -> str | None:
    return _optional_text(row, source.columns.system_prompt, "system_prompt")


def prompt_from(row: Mapping[str, Any], asked: Asked, source: Source, max_chars: int, file: str) -> dict[str, Any]:
    """The row of the prompts table for a row that asks this. Raises Refused if it cannot be a prompt."""
    columns, messages = source.columns, asked.messages
    own_system = _own_system(row, source)
    system = "\n\n".join(part for part in (own_system, asked.system) if part) or None
    size = sum(len(message["content"]) for message in messages) + len(system or "")
    if size > max_chars:
        raise Refused(Reason.TOO_LONG, f"{size} characters, more than prompts.max_chars = {max_chars}")
    reference = _optional_text(row, columns.reference, "reference")
    prompt = {
        "prompt_id": "",
        "messages": json.dumps(messages, ensure_ascii=False),
        "system_prompt": system,
        "source": _optional_text(row, columns.source, "source") or _file_name(file or source.path),
        "reference": reference,
        "extras": _extras(row, source, asked._replace(system=system), reference),
    }
    for name, value in prompt.items():
        if value and not _is_unicode(value):
            raise Refused(Reason.UNREADABLE, f"{name} holds a lone surrogate, which no encoding can store")
    return prompt | {"prompt_id": prompt_id(messages, system)}


@lru_cache(maxsize=256)
def _file_name(path: str) -> str:
    return Path(path).name


def _optional_text(row: Mapping[str, Any], mapped: str | None, name: str) -> str | None:
    """The text at a mapped place or, without a mapping, in the column called `name`, if that holds text.

    Of a reference or a system prompt, a number is its text, and a message of the system is what it says.
    """
    value = lookup(row, mapped) if mapped else row.get(name)
    value = value if name == "source" else as_text(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        if mapped is None:
            return None
        raise Refused(Reason.WRONG_TYPE, f"{name} (column {mapped}) holds {type(value).__name__}, not text")
    return value


def _extras(row: Mapping[str, Any], source: Source, asked: Asked, reference: str | None) -> str | None:
    """The verifiable instructions, completions and kept columns of a row, as JSON; None if it has none of them."""
    found: dict[str, Any] = {"instructions": _instructions(row, source.columns)}
    if source.completions:
        found["completions"] = read_completions(
            row,
            source.completions,
            asked.answers if source.completions.of_layout else Answers(),
            Turns(asked.system, asked.messages),
        )
    if source.keep:
        found["kept"] = kept(row, source.keep, reference)
    found = {name: value for name, value in found.items() if value}
    return json.dumps(found, ensure_ascii=False, sort_keys=True) if found else None


def _instructions(row: Mapping[str, Any], columns: Columns) -> list[dict[str, Any]]:
    """The verifiable instructions of a row, if any. Raises Refused if names and settings differ in number."""
    names = lookup(row, columns.instructions or "instruction_id_list")
    if not names:
        return []
    settings = lookup(row, columns.instruction_kwargs or "kwargs") or [{}] * len(names)
    if not isinstance(names, list) or not isinstance(settings, list) or len(names) != len(settings):
        raise Refused(Reason.WRONG_TYPE, "the verifiable instructions and their settings are not lists of one length")
    return [
        {"id": str(name), "kwargs": {key: value for key, value in (own or {}).items() if value is not None}}
        for name, own in zip(names, settings, strict=True)
    ]


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
