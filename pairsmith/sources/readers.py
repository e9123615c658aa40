"""Read rows from files, folders, databases and data sets, one by one, as dicts with their places.

A row that cannot be read is yielded too, with its place and the reason. If a whole file or data set cannot be read, an
error names it.
"""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import heapq
import io
import re
import sys
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.config import Source, format_of, is_local
from pairsmith.errors import DataError
from pairsmith.ids import draw, strict_json
from pairsmith.sources import hub, sql
from pairsmith.sources.json_rows import json_rows
from pairsmith.sources.row_fields import Refused, meets
from pairsmith.storage.schemas import Reason

LONGEST_START = 2**20  # characters
FIRST_RECORDS = 20  # of a CSV file, which tell what stands between its columns
_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\r?\n')  # the line by which Excel is told so
LONGEST_LINE = 2**28  # bytes of a line of JSON


@dataclass(frozen=True)
class Located:
    """A row, or why it could not be read, with its place as `file:line`."""

    place: str
    row: dict[str, Any] | None
    refused: Refused | None = None
    is_csv: bool = False  # then all its fields are text

    @property
    def file(self) -> str:
        return self.place.rpartition(":")[0]


@dataclass(frozen=True)
class File:
    """A file to read. `name`: how the places of its rows call it. `kind`: its format, if that is known."""

    path: Path
    name: str
    kind: str | None


Bodies = Mapping[str, Path]  # http(s) address -> the file that was fetched from there
Placed = tuple[str, dict[str, Any] | Refused]  # a row's place, and its prompt or why there is none


class Recall(Protocol):
    """Yields the prompts of a file from notes if they are current, else by reading it: see `cache.Notes`."""

    def rows(
        self, path: Path, name: str, plan: str, seen: Container[str], read: Callable[[int], Iterator[Placed]]
    ) -> Iterator[Placed]: ...


def read_source(source: Source, fetched: Bodies) -> Iterator[Located]:
    """The rows of a source that meet its `where`: all, or those within its `sample` and `limit`."""
    located = matching(_read_all(source, fetched), source.where)
    if source.sample:
        keyed = ((draw("row", source.seed, number), number, row) for number, row in enumerate(located))
        drawn = heapq.nsmallest(source.sample, keyed, key=lambda item: item[:2])
        located = (row for _, _, row in sorted(drawn, key=lambda item: item[1]))
    return islice(located, source.limit)


def matching(located: Iterable[Located], where: str | None) -> Iterator[Located]:
    """The rows that meet a condition, and those that cannot be read or asked."""
    for item in located:
        if where is None or item.row is None:
            yield item
            continue
        try:
            if meets(item.row, where, item.is_csv):
                yield item
        except Refused as refused:
            yield Located(item.place, None, refused)


def _read_all(source: Source, fetched: Bodies) -> Iterator[Located]:
    files = files_of(source, fetched)
    if files is not None:
        for file in files:
            yield from read_file(file)
    elif source.sql:
        for number, row in enumerate(sql.query_rows(source.sql), start=1):
            yield _row(f"sql:row {number}", _as_it_is, row)
    else:
        yield from _read_dataset(source)


def files_of(source: Source, fetched: Bodies) -> list[File] | None:
    """The files of a source, in order; None if it is a database, or a data set to read with the `datasets` library."""
    if source.sql or source.format == "dataset":
        return None
    if source.is_remote:
        kind = format_of(source.path) if source.format == "auto" else source.format
        return [File(fetched[source.path], source.path, kind)]
    if source.format == "auto" and _is_dataset(source):
        return None
    paths = _paths(source)
    kinds = (format_of(path.name) if source.format == "auto" else source.format for path in paths)
    return [File(path, str(path), kind) for path, kind in zip(paths, kinds, strict=True)]


def read_file(file: File) -> Iterator[Located]:
    """All rows of a file."""
    if file.kind is None:
        refused = Refused(Reason.UNREADABLE, "not a file of prompts: its format is unknown")
        yield Located(f"{file.name}:0", None, refused)
        return
    if not file.path.is_file():
        raise DataError(f"{file.name}: not a regular file")
    try:
        yield from _READERS[file.kind](file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name}: cannot be read: {error}") from error


def _is_dataset(source: Source) -> bool:
    """Whether the `datasets` library must read a source: hub ids, saved data sets, folders with a card or splits."""
    folder = Path(source.path)
    if not folder.is_dir():
        return not folder.exists() and not is_local(source.path)
    marks = ("dataset_info.json", "dataset_dict.json", "README.md")
    return source.split != "train" or source.config is not None or any((folder / mark).exists() for mark in marks)


def _paths(source: Source) -> list[Path]:
    """The files of a source: the path itself, or all files that a glob or a folder contains, sorted."""
    path = Path(source.path)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
        return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not path.exists() and glob.has_magic(source.path):
        return sorted(Path(file) for file in glob.glob(source.path, recursive=True))
    return [path]


def _read_jsonl(file: File) -> Iterator[Located]:
    packed = file.path.suffix == ".gz" or urlsplit(file.name).path.lower().endswith(".gz")
    with gzip.open(file.path, "rb") if packed else open(file.path, "rb") as lines:
        number = 0
        while line := lines.readline(LONGEST_LINE):  # splits at \n bytes; str.splitlines would also split at U+2028
            number += 1
            if len(line) == LONGEST_LINE:
                raise DataError(f"{file.name}:{number}: a line of {LONGEST_LINE} bytes or more")
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield _row(f"{file.name}:{number}", _parse_json, content)


def _read_json(file: File) -> Iterator[Located]:
    try:
        rows = json_rows(_parse_json(file.path.read_bytes().removeprefix(b"\xef\xbb\xbf")))
    except Refused as refused:
        yield Located(f"{file.name}:1", None, refused)
        return
    for number, row in enumerate(rows, start=1):
        yield _row(f"{file.name}:row {number}", _as_it_is, row)


def _read_csv(file: File) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)
    # Records are split in Latin-1, which any bytes are valid in, then decoded one by one: a bad byte spoils only one.
    text = _as_utf8(file.path.read_bytes(), file.name).decode("latin-1")
    told = _SEPARATOR.match(text)
    text = text[told.end() :] if told else text
    mark = told[1] if told else "\t" if file.kind == "tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
    before = 1 if told else 0  # lines that the reader does not count
    header: list[str] | None = None
    while True:
        line = before + reader.line_num + 1
        place = f"{file.name}:{line}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            detail = f"not valid CSV from line {line} to {before + reader.line_num}: {error}"
            yield Located(place, None, Refused(Reason.UNREADABLE, detail))
            continue
        if mark == "\t" and any("\t" in field and "\n" in field for field in fields):
            detail = f"a quotation mark joins lines {line} to {before + reader.line_num}, with tabs between; "
            yield Located(place, None, Refused(Reason.UNREADABLE, detail + 'write "" for a mark within quotes'))
        elif fields and header is None:
            header = _csv_header(place, fields)
        elif fields and header:
            yield replace(_row(place, _csv_row, header, fields), is_csv=True)


def _as_utf8(content: bytes, name: str) -> bytes:
    """A file's bytes without a byte order mark; those of UTF-16, as Excel writes Unicode text, in UTF-8."""
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-16").encode("utf-8")
    except UnicodeError as error:
        raise DataError(f"{name}: begins as UTF-16 and is not: {error}; save it as UTF-8") from None


def _delimiter(text: str) -> str:
    """The character between the columns of a CSV file: of those in its header, the first that fits its first records.

    A comma where none fits them and the header has one, else the first that it has.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    quoted = re.sub(r'"[^"]*"', "", header)
    found = [mark for mark in ",;\t|" if mark in quoted]
    return next((mark for mark in found if len(found) > 1 and _fits(text, mark)), (found or [","])[0])


def _fits(text: str, mark: str) -> bool:
    """Whether the first records of a CSV file have as many fields as its header, if this stands between them."""
    try:
        records = csv.reader(io.StringIO(text[:LONGEST_START], newline=""), strict=True, delimiter=mark)
        return len({len(record) for record in islice((one for one in records if one), FIRST_RECORDS)}) == 1
    except csv.Error:
        return False


def _csv_header(place: str, fields: list[str]) -> list[str]:
    try:
        header = _utf8(fields)
    except Refused as refused:
        raise DataError(f"{place}: the header is {refused.detail}") from None
    doubles = {name for name in header if name.strip() and header.count(name) > 1}
    if doubles:
        raise DataError(f"{place}: the header names {sorted(doubles)} more than once")
    return header


def _csv_row(header: list[str], fields: list[str]) -> dict[str, str]:
    if len(fields) != len(header):
        raise Refused(Reason.UNREADABLE, f"{len(fields)} fields where the header has {len(header)}")
    named = [(name, field) for name, field in zip(header, _utf8(fields), strict=True) if name.strip() or field.strip()]
    if sum(not name.strip() for name, _ in named) > 1:
        raise Refused(Reason.UNREADABLE, "several fields are filled in columns that the header does not name")
    return dict(named)


def _utf8(fields: list[str]) -> list[str]:
    try:
        return [field.encode("latin-1").decode("utf-8") for field in fields]
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason}") from None


def _read_parquet(file: File) -> Iterator[Located]:
    try:
        number = 0
        for batch in pq.ParquetFile(file.path).iter_batches(batch_size=1024):
            for place in range(batch.num_rows):
                number += 1
                yield _row(f"{file.name}:row {number}", _parquet_row, batch, place)
    except OSError:
        raise
    except Exception as error:
        raise DataError(f"{file.name}: not a readable parquet file: {error}") from error


def _parquet_row(batch: pa.RecordBatch, place: int) -> Any:
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason}") from None


def _read_dataset(source: Source) -> Iterator[Located]:
    import datasets

    folder = Path(source.path)
    if not folder.exists():
        hub.must_have(source.path, source.revision)
    try:
        if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
            data = datasets.load_from_disk(source.path)
            data = data[source.split] if isinstance(data, datasets.DatasetDict) else data
        else:
            data = datasets.load_dataset(
                source.path, source.config, split=source.split, revision=source.revision, streaming=True
            )
        for number, row in enumerate(data, start=1):
            yield _row(f"{source.path}:row {number}", _as_it_is, row)
    except Exception as error:  # the library raises many kinds of errors: connection, config, split, format
        said = str(error).strip().splitlines() or [""]  # the rest lists all columns, or the library's own frames
        different = "CastError" in type(error).__name__
        hint = "; its files have different columns: name each as a source, or all by a glob" if different else ""
        problem = f"data set {source.path}, split {source.split}: {type(error).__name__}: {said[0]}{hint}"
        raise DataError(problem) from error


_READERS: dict[str, Callable[[File], Iterator[Located]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_csv,
    "parquet": _read_parquet,
}


def _row(place: str, make: Callable[..., Any], *parts: Any) -> Located:
    """The row that `make` builds from `parts`, or why it refused."""
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
        return strict_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(Reason.UNREADABLE, f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise Refused(Reason.UNREADABLE, "nested too deep") from None
    except ValueError as error:
        hint = " (JSON Lines? Call the file .jsonl)" if "Extra data" in str(error) else ""
        raise Refused(Reason.UNREADABLE, f"not valid JSON: {error}{hint}") from None
