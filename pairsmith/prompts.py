"""Read prompts: from rows in files or data sets to validated, deduplicated prompts in shards.

Every row read becomes a prompt or a rejection that says where it stood and why it was refused. A prompt's text is
kept to the byte; only its id is made from a normalised form, so that two copies that differ in line ends count as
one. A row is a dict; `Located` keeps where it came from.
"""

from __future__ import annotations

import csv
import glob
import heapq
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.config import DATA_SUFFIXES, Columns, Decontamination, Prompts, Source, is_local
from pairsmith.errors import DataError
from pairsmith.fields import Refused, lookup
from pairsmith.gathering import gather
from pairsmith.given import read_completions
from pairsmith.ids import draw, no_doubles, prompt_id
from pairsmith.overlap import Benchmarks, NearDuplicates, user_texts
from pairsmith.schemas import Reason, Stage

# Where nothing is mapped, columns of these names are looked for, in this order.
PROMPT_NAMES = ("prompt", "instruction", "question", "query", "turns")
CHAT_NAMES = ("messages", "conversation")
_ROLES = {"user", "assistant", "system"}


@dataclass(frozen=True)
class Located:
    """A row, or why it could not be read, and its place as `file:line`."""

    place: str
    row: dict[str, Any] | None
    refused: Refused | None = None

    @property
    def file(self) -> str:
        return self.place.rpartition(":")[0]


def read_prompts(config: Prompts) -> Iterator[dict[str, Any]]:
    """Yield a row of the prompts table or of the rejections table for each row read, in the order of the sources.

    Rows that bring completions of one prompt become one; its key `rows`, which is no column, tells how many they were.
    Raises ConfigError where a source or column cannot be found, DataError where a file cannot be read at all.
    """
    seen: dict[str, str] = {}
    benchmarks = Benchmarks(_items(config.decontaminate), config.decontaminate.n) if config.decontaminate else None
    kept = NearDuplicates(config.near_duplicates) if config.near_duplicates else None
    found = _read_each(config)
    for place, prompt in gather(found) if any(source.completions for source in config.sources) else found:
        try:
            if isinstance(prompt, Refused):
                raise prompt
            if prompt["prompt_id"] in seen:
                raise Refused(Reason.DUPLICATE, f"same prompt as {seen[prompt['prompt_id']]}")
            _no_overlap(prompt, place, benchmarks, kept)
            seen[prompt["prompt_id"]] = place
        except Refused as refused:
            rejected = {"stage": Stage.LOAD, "reason": refused.reason, "detail": f"{place}: {refused.detail}"}
            several = isinstance(prompt, dict) and "rows" in prompt
            yield rejected | ({"rows": prompt["rows"]} if several else {})  # type: ignore[index]
        else:
            yield prompt


def _read_each(config: Prompts) -> Iterator[tuple[str, dict[str, Any] | Refused]]:
    """Each row's place, and the prompt in it or why there is none."""
    located = ((source, row) for source in config.sources for row in read_source(source))
    for source, item in islice(located, config.limit):
        try:
            if item.refused:
                raise item.refused
            prompt = to_prompt(item.row or {}, source, config.max_chars, item.file)
        except Refused as refused:
            yield item.place, refused
        else:
            yield item.place, prompt


def _no_overlap(prompt: dict[str, Any], place: str, benchmarks: Benchmarks | None, kept: NearDuplicates | None) -> None:
    """Refuse a prompt of a benchmark or one like an earlier one; `kept` has those accepted, and gets this one."""
    if not benchmarks and not kept:
        return
    texts = user_texts(json.loads(prompt["messages"]))
    for shared in (benchmarks.find(text) for text in texts) if benchmarks else ():
        if shared:
            raise Refused(Reason.CONTAMINATED, f'shares words with {shared[0]}: "{shared[1]}"')
    alike = kept.find_or_keep(texts[0], place) if kept else None
    if alike:
        raise Refused(Reason.NEAR_DUPLICATE, f"similarity {alike[1]:.3f} to {alike[0]}")


def _items(config: Decontamination) -> Iterator[tuple[str, str]]:
    """Place and text of each item of the benchmarks, of a list of turns the first and all.

    Blank rows are passed over. Raises DataError for any other that cannot be read, and for a benchmark without items:
    to hold prompts against less than was asked for would look the same as prompts that are clean.
    """
    for source in config.against:
        none = True
        both = [source.columns.model_copy(update={"turns": turns}) for turns in ("first", "joined")]
        for item in read_source(source):
            try:
                if item.refused:
                    raise item.refused
                chats = [_messages(item.row or {}, columns)[1] for columns in both]
            except Refused as refused:
                if refused.reason in (Reason.BLANK, Reason.MISSING):
                    continue
                raise DataError(f"prompts.decontaminate: {item.place}: {refused.detail}") from None
            none = False
            yield from (
                (item.place, text) for text in dict.fromkeys(text for chat in chats for text in user_texts(chat))
            )
        if none:
            raise DataError(f"prompts.decontaminate: {source.path}: not one item in it; are its columns mapped right?")


def to_prompt(row: Mapping[str, Any], source: Source, max_chars: int, file: str = "") -> dict[str, Any]:
    """Turn one row of `file` into a row of the prompts table; raises Refused.

    >>> to_prompt({"prompt": "Hi"}, Source(path="x.jsonl"), 100)["messages"]
    '[{"role": "user", "content": "Hi"}]'
    """
    columns = source.columns
    chat_system, messages = _messages(row, columns)
    own_system = _optional_text(row, columns.system_prompt, "system_prompt")
    system = "\n\n".join(part for part in (own_system, chat_system) if part) or None
    size = sum(len(message["content"]) for message in messages) + len(system or "")
    if size > max_chars:
        raise Refused(Reason.TOO_LONG, f"{size} characters, more than prompts.max_chars = {max_chars}")
    prompt = {
        "prompt_id": "",
        "messages": json.dumps(messages, ensure_ascii=False),
        "system_prompt": system,
        "source": _optional_text(row, columns.source, "source") or Path(file or source.path).name,
        "reference": _optional_text(row, columns.reference, "reference"),
        "extras": _extras(row, source),
    }
    for name, value in prompt.items():
        if value and not _is_unicode(value):
            raise Refused(Reason.UNREADABLE, f"{name} holds a lone surrogate, which no encoding can store")
    return prompt | {"prompt_id": prompt_id(messages, system)}


def _messages(row: Mapping[str, Any], columns: Columns) -> tuple[str | None, list[dict[str, str]]]:
    mapped = columns.messages or columns.prompt
    if mapped is None:
        mapped = next((name for name in (*CHAT_NAMES, *PROMPT_NAMES) if row.get(name) is not None), None)
        if mapped is None:
            looked, there = ", ".join((*CHAT_NAMES, *PROMPT_NAMES)), ", ".join(map(str, row))[:200] or "nothing"
            raise Refused(Reason.MISSING, f"none of the columns {looked}; the row has {there}")
    value = lookup(row, mapped)
    if value is None:
        raise Refused(Reason.MISSING, f"column {mapped} is absent or null")
    if isinstance(value, list | tuple) and value and all(isinstance(turn, str) for turn in value):
        value = value[0] if columns.turns == "first" else "\n\n".join(value)
    if isinstance(value, str):
        if not value.strip():
            raise Refused(Reason.BLANK, f"column {mapped} is blank")
        return None, [{"role": "user", "content": value}]
    if isinstance(value, list | tuple):
        return _chat(value, mapped)
    raise Refused(Reason.WRONG_TYPE, f"column {mapped} holds {type(value).__name__}, not text or a list of messages")


def _chat(value: Iterable[Any], mapped: str) -> tuple[str | None, list[dict[str, str]]]:
    chat = []
    for number, message in enumerate(value, start=1):
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise Refused(Reason.BAD_CHAT, f"{mapped}, message {number}: needs a role of {sorted(_ROLES)}")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise Refused(Reason.BAD_CHAT, f"{mapped}, message {number}: content must be text and not blank")
        chat.append({"role": role, "content": message["content"]})
    system = chat.pop(0)["content"] if chat and chat[0]["role"] == "system" else None
    roles = [message["role"] for message in chat]
    if not roles:
        raise Refused(Reason.BAD_CHAT, f"{mapped}: no messages")
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise Refused(Reason.BAD_CHAT, f"{mapped}: must be user, assistant, ..., user; is {', '.join(roles)}")
    return system, chat


def _optional_text(row: Mapping[str, Any], mapped: str | None, name: str) -> str | None:
    """Text at a mapped place, or in the column called `name` where nothing is mapped and it holds text."""
    value = lookup(row, mapped) if mapped else row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        if mapped is None:
            return None
        raise Refused(Reason.WRONG_TYPE, f"{name} (column {mapped}) holds {type(value).__name__}, not text")
    return value


def _extras(row: Mapping[str, Any], source: Source) -> str | None:
    """The verifiable instructions and the completions that a row brings, as JSON; None where it has neither."""
    found = {"instructions": _instructions(row, source.columns)}
    if source.completions:
        found["completions"] = read_completions(row, source.completions)
    found = {name: value for name, value in found.items() if value}
    return json.dumps(found, ensure_ascii=False, sort_keys=True) if found else None


def _instructions(row: Mapping[str, Any], columns: Columns) -> list[dict[str, Any]]:
    """The verifiable instructions of a row, if any. Refuses lists that do not fit together."""
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


def read_source(source: Source) -> Iterator[Located]:
    """All rows of a source, after its draw and limit."""
    located = _read_all(source)
    if source.sample:
        keyed = ((draw("row", source.seed, number), number, row) for number, row in enumerate(located))
        drawn = heapq.nsmallest(source.sample, keyed, key=lambda item: item[:2])
        located = (row for _, _, row in sorted(drawn, key=lambda item: item[1]))
    return islice(located, source.limit)


def _read_all(source: Source) -> Iterator[Located]:
    if source.format == "dataset" or (source.format == "auto" and _is_dataset(source)):
        yield from _read_dataset(source)
        return
    for file in _files(source):
        kind = DATA_SUFFIXES.get(file.suffix.lower()) if source.format == "auto" else source.format
        if kind is None:
            yield Located(f"{file}:0", None, Refused(Reason.UNREADABLE, "not a file of prompts: its format is unknown"))
            continue
        if not file.is_file():
            raise DataError(f"{file}: not a regular file")
        try:
            yield from _READERS[kind](file)
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error}") from error


def _is_dataset(source: Source) -> bool:
    """Whether to leave a source to the `datasets` library: hub ids, saved data sets, folders with a card or splits."""
    folder = Path(source.path)
    if not folder.is_dir():
        return not folder.exists() and not is_local(source.path)
    marks = ("dataset_info.json", "dataset_dict.json", "README.md")
    return source.split != "train" or source.config is not None or any((folder / mark).exists() for mark in marks)


def _files(source: Source) -> list[Path]:
    """The files of a source: itself, or all that a glob or a folder holds, sorted."""
    path = Path(source.path)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
        return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not path.exists() and glob.has_magic(source.path):
        return sorted(Path(file) for file in glob.glob(source.path, recursive=True))
    return [path]


def _read_jsonl(path: Path) -> Iterator[Located]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):  # by \n bytes: str.splitlines would break texts at U+2028
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield _row(f"{path}:{number}", _parse_json, content)


def _read_json(path: Path) -> Iterator[Located]:
    try:
        value = _parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except Refused as refused:
        yield Located(f"{path}:1", None, refused)
        return
    if isinstance(value, dict):
        ((name, inner), *more) = value.items() or [("", None)]
        around_rows = isinstance(inner, list) and not more and name not in (*CHAT_NAMES, *PROMPT_NAMES)
        value = inner if around_rows else [value]  # {"data": [rows]} or a single row
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        yield _row(f"{path}:row {number}", _as_it_is, row)


def _read_csv(path: Path) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)
    # Records are told apart in Latin-1, which any bytes are, then decoded one by one: a bad byte spoils one record.
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        place = f"{path}:{line}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            detail = f"not valid CSV from line {line} to {reader.line_num}: {error}"
            yield Located(place, None, Refused(Reason.UNREADABLE, detail))
            continue
        if fields and header is None:
            header = _csv_header(place, fields)
        elif fields and header:
            yield _row(place, _csv_row, header, fields)


def _csv_header(place: str, fields: list[str]) -> list[str]:
    try:
        header = _utf8(fields)
    except Refused as refused:
        raise DataError(f"{place}: the header is {refused.detail}") from None
    doubles = {name for name in header if header.count(name) > 1}
    if doubles:
        raise DataError(f"{place}: the header names {sorted(doubles)} more than once")
    return header


def _csv_row(header: list[str], fields: list[str]) -> dict[str, str]:
    if len(fields) != len(header):
        raise Refused(Reason.UNREADABLE, f"{len(fields)} fields where the header has {len(header)}")
    return dict(zip(header, _utf8(fields), strict=True))


def _utf8(fields: list[str]) -> list[str]:
    try:
        return [field.encode("latin-1").decode("utf-8") for field in fields]
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason}") from None


def _read_parquet(path: Path) -> Iterator[Located]:
    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for place in range(batch.num_rows):
                number += 1
                yield _row(f"{path}:row {number}", _parquet_row, batch, place)
    except OSError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not a readable parquet file: {error}") from error


def _parquet_row(batch: pa.RecordBatch, place: int) -> Any:
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason}") from None


def _read_dataset(source: Source) -> Iterator[Located]:
    import datasets

    try:
        folder = Path(source.path)
        if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
            data = datasets.load_from_disk(source.path)
            data = data[source.split] if isinstance(data, datasets.DatasetDict) else data
        else:
            data = datasets.load_dataset(
                source.path, source.config, split=source.split, revision=source.revision, streaming=True
            )
        for number, row in enumerate(data, start=1):
            yield _row(f"{source.path}:row {number}", _as_it_is, row)
    except Exception as error:  # the library raises many kinds: connection, config, split, format
        missing = "" if Path(source.path).exists() else "; there is no file or folder of that name either"
        told = f"data set {source.path}, split {source.split}: {type(error).__name__}: {error}{missing}"
        raise DataError(told) from error


_READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _row(place: str, make: Callable[..., Any], *parts: Any) -> Located:
    try:
        row = make(*parts)
        if not isinstance(row, dict):
            hint = " (one JSON array? Call the file .json)" if isinstance(row, list) else ""
            raise Refused(
                Reason.WRONG_TYPE, f"a row must be an object with named fields, not {type(row).__name__}{hint}"
            )
    except Refused as refused:
        return Located(place, None, refused)
    return Located(place, row)


def _as_it_is(row: Any) -> Any:
    return row


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=no_doubles)
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise Refused(Reason.UNREADABLE, "nested too deep") from None
    except ValueError as error:
        hint = " (JSON Lines? Call the file .jsonl)" if "Extra data" in str(error) else ""
        raise Refused(Reason.UNREADABLE, f"not valid JSON: {error}{hint}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
