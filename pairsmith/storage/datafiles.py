"""The data files of a version: their columns, and reading them a batch at a time.

A column that had another name in earlier versions is read under either name, and given under its name of today.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.errors import DataError
from pairsmith.ids import canonical_json, normalised
from pairsmith.storage.addresses import addressed
from pairsmith.storage.files import Files
from pairsmith.storage.formats import check_version_folder
from pairsmith.storage.local_files import LocalFiles
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version

BATCH = 256  # rows whose texts are in memory at once
BUFFER = 1 << 20  # bytes of a file that are read at once
PROMPT_CHARS = 100  # of a quoted prompt

CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
RATINGS = pa.list_(
    pa.struct(
        [
            ("judge", pa.string()),
            ("aspect", pa.string()),
            ("rating", pa.int64()),
            ("score", pa.float64()),
            ("rationale", pa.string()),
        ]
    )
)
MARGIN = "score_margin"  # chosen score less rejected score; trainers take a column `margin` as a part of their loss
EARLIER = {MARGIN: "margin"}  # column -> its name in tables, and in versions published by 0.1.0
PREFERENCE = pa.schema(
    [("prompt", CHAT), ("chosen", CHAT), ("rejected", CHAT)]
    + [(f"{side}_{what}", kind) for side in ("chosen", "rejected") for what, kind in (
        ("score", pa.float64()), ("member", pa.string()), ("model", pa.string()), ("id", pa.string()),
        ("ratings", RATINGS))]
    + [(MARGIN, pa.float64()), ("similarity", pa.float64()), ("strategy", pa.string())]
    + [("source", pa.string()), ("prompt_id", pa.string())]
)  # fmt: skip
PAIRS = pa.schema([field.with_name(EARLIER.get(field.name, field.name)) for field in PREFERENCE])  # of a shard's table
READ = ("prompt_id", "prompt", "chosen", "rejected", "chosen_id", "rejected_id", "chosen_member", "chosen_score",
        "rejected_score", MARGIN)  # fmt: skip


def as_published(row: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with the names of today's columns, whichever names it has.

    >>> as_published({"margin": 0.5, "source": "a"})
    {'score_margin': 0.5, 'source': 'a'}
    """
    return {_TODAY.get(name, name): value for name, value in row.items()}


def table_as_published(pairs: pa.Table) -> pa.Table:
    """A table of pairs with the names of today's columns, whichever names it has."""
    return pairs.rename_columns([_TODAY.get(name, name) for name in pairs.column_names])


_TODAY = {earlier: name for name, earlier in EARLIER.items()}


@dataclass(frozen=True)
class StoredFile:
    """A data file that is not on a disk of this machine."""

    files: Files
    name: str

    def __str__(self) -> str:
        return self.files.url(self.name)


File = Path | StoredFile


def published_files(dataset: Path | str) -> Sequence[File]:
    """The data files of a version at a folder or address, of `latest` at a data set's, as `_in_order` has them.

    `latest` is resolved once, since it may move while we read. Raises DataError where there are none, or where a newer
    pairsmith wrote them in a newer format.
    """
    if "://" in str(dataset):
        return data_files(*addressed(str(dataset)))
    dataset = Path(dataset)
    folder = (dataset / "latest" if LocalFiles(str(dataset)).exists("latest") else dataset).resolve()
    names = [name for name in LocalFiles(str(folder)).names_in("data") if name.endswith(".parquet")]
    files = [folder / "data" / name for name in sorted(names, key=_in_order)]
    if not files:
        raise DataError(f"{dataset}: no published dataset (no data/*.parquet and no `latest` in it)")
    check_version_folder(folder)
    return files


def data_files(store: Store, version: Version) -> list[File]:
    """The data files of a version in a store, as `_in_order` has them."""
    names = sorted((name for name in version.files if name.startswith("data/")), key=_in_order)
    places = [version.place(name) for name in names]
    return [store.files.local_path(place) or StoredFile(store.files, place) for place in places]


def _in_order(name: str) -> tuple[bool, str]:
    """The order of data files: train before test, and each split's parts by number."""
    return name.rpartition("/")[2].startswith("test"), name


def first_pairs(files: Sequence[File], many: int) -> list[dict[str, Any]]:
    """The first pairs, with all columns. Raises DataError where a file is damaged or foreign."""
    found: list[dict[str, Any]] = []
    for file in files:
        with _opened(file, PREFERENCE.names) as parquet:
            for batch in parquet.iter_batches(batch_size=many):
                found += map(as_published, batch.to_pylist())
                if len(found) >= many:
                    return found[:many]
    return found


def clearest_pair(files: Sequence[File]) -> dict[str, Any] | None:
    """The pair with the largest margin, the first of several such, with all columns; the first of all where none has a
    margin, None where there is no pair. Raises DataError where a file is damaged or foreign."""
    best, largest, start = 0, -math.inf, 0
    for (margins,) in column_batches(files, [MARGIN]):
        for place, margin in enumerate(margins.to_pylist()):
            if margin is not None and margin > largest:
                best, largest = start + place, margin
        start += len(margins)
    return next(islice(_rows_from(files, best), 1), None)


def _rows_from(files: Sequence[File], start: int) -> Iterator[dict[str, Any]]:
    """The rows from a number on over all files, with all columns; groups of rows before it are not read."""
    for file in files:
        with _opened(file) as parquet:
            for group in range(parquet.num_row_groups):
                here = parquet.metadata.row_group(group).num_rows
                if start < here:
                    batches = parquet.iter_batches(batch_size=BATCH, row_groups=[group])
                    rows = (row for batch in batches for row in batch.to_pylist())
                    yield from map(as_published, islice(rows, start, None))
                start = max(0, start - here)


def count(files: Sequence[File]) -> int:
    """The number of rows, from the files' metadata. Raises DataError where one is damaged or foreign."""
    total = 0
    for file in files:
        with _opened(file) as parquet:
            total += parquet.metadata.num_rows
    return total


def column_names(files: Sequence[File]) -> list[str]:
    """The columns of a version, under their names of today: those of `PREFERENCE`, and those that its sources keep."""
    for file in files:
        with _opened(file) as parquet:
            return [_TODAY.get(name, name) for name in parquet.schema_arrow.names]
    return list(PREFERENCE.names)


def column_batches(files: Sequence[File], columns: Sequence[str]) -> Iterator[list[pa.Array]]:
    """The values of columns, batch by batch. Raises DataError where a file is damaged or foreign."""
    for file in files:
        with _opened(file) as parquet:
            names = [_name_in(parquet.schema_arrow, column) for column in columns]
            for batch in parquet.iter_batches(batch_size=BATCH, columns=names):
                yield [batch.column(name) for name in names]


def rows_of(files: Sequence[File]) -> Iterator[dict[str, Any]]:
    """All rows, with all columns, a batch in memory at a time. Raises DataError where a file is damaged or foreign."""
    for file in files:
        with _opened(file) as parquet:
            for batch in parquet.iter_batches(batch_size=BATCH):
                yield from map(as_published, batch.to_pylist())


@contextmanager
def _opened(file: File, names: Sequence[str] = READ) -> Iterator[pq.ParquetFile]:
    """An open data file; raises DataError unless it has these columns with the types that we write.

    It is read through `Files.open`, so an error of reading is StorageUnreachable, and any other means damage.
    """
    files, name = (LocalFiles(str(file.parent)), file.name) if isinstance(file, Path) else (file.files, file.name)
    try:
        with (
            files.open(name) as source,
            pq.ParquetFile(source, buffer_size=BUFFER, pre_buffer=False) as parquet,  # else a whole column at once
        ):
            schema = parquet.schema_arrow
            kinds = {name: schema.field(name).type for name in schema.names}
            wrong = [name for name in names if kinds.get(_name_in(schema, name)) != PREFERENCE.field(name).type]
            if wrong:
                raise DataError(f"{file}: not a dataset of pairsmith's: columns {', '.join(wrong)} absent or foreign")
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _name_in(schema: pa.Schema, column: str) -> str:
    """The name that a column has in a file."""
    return column if column in schema.names else EARLIER.get(column, column)


def at(files: Sequence[File], column: str, rows: Sequence[int]) -> dict[int, Any]:
    """The values of a column at some rows, by row number over all files."""
    found: dict[int, Any] = {}
    wanted, start = sorted(rows), 0
    for (part,) in column_batches(files, [column]) if wanted else ():
        found |= {row: part[row - start].as_py() for row in wanted if start <= row < start + len(part)}
        start += len(part)
        if start > wanted[-1]:
            break
    return found


def code(value: Any) -> int:
    """A 64-bit hash of an id, or of a chat's roles and texts.

    The chance that two of 10^7 values share a hash is about 10^-6.
    """
    if not isinstance(value, str):
        value = canonical_json([[message["role"], normalised(message["content"] or "")] for message in value or ()])
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest())


def beginning(chat: list[dict[str, str]] | None) -> str:
    """The beginning of a chat's last message, in one line."""
    text = " ".join(((chat[-1]["content"] if chat else "") or "").split())
    return text if len(text) <= PROMPT_CHARS else f"{text[:PROMPT_CHARS]}..."
