"""Tables of one data set: one parquet file per table and shard, validated on every write and read.

Every file carries the fingerprint of what it was made from and the digest of what it holds. A table is fresh when it is
readable, passes its schema and carries the expected fingerprint; anything else is rebuilt. Rebuilding a deleted or
damaged table costs no model call, since the ledger has the replies. `files.Files` stores the files.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.errors import AbsentTable, DamagedFile, TableError
from pairsmith.ids import fingerprint
from pairsmith.storage.files import Files, FileState
from pairsmith.storage.opening import files_at
from pairsmith.storage.reads import parsed
from pairsmith.storage.schemas import has_columns, validated

log = logging.getLogger(__name__)
T = TypeVar("T")
_FINGERPRINT, _DIGEST = b"pairsmith.fingerprint", b"pairsmith.digest"


@dataclass(frozen=True)
class TableRef:
    """The name of one table of one shard; `part` distinguishes tables of one kind, such as those of members."""

    table: str
    shard: str
    part: str = "all"

    @property
    def path(self) -> str:
        return f"tables/{self.shard}/{self.table}.{self.part}.parquet"


@dataclass(frozen=True)
class Stored:
    """A table in the store: its rows, the fingerprint of what it was made from, and the digest of its content."""

    data: pd.DataFrame
    fingerprint: str
    digest: str


class RecentTables:
    """A cache of the tables written or read last, since the next stage of a shard needs them again.

    Several stores and threads may share one. An entry is valid as long as the state of its file is unchanged.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._tables: dict[str, tuple[FileState, Stored]] = {}
        self._lock = threading.Lock()

    def get(self, path: str, state: FileState | None) -> Stored | None:
        """The cached table of a file in this state; None where it is not cached, or the file has changed."""
        with self._lock:
            known = self._tables.get(path)
        return known[1] if known and known[0] == state else None

    def put(self, path: str, state: FileState | None, stored: Stored) -> None:
        """Cache a table; one whose file has no state (as on object storage) is not cached."""
        with self._lock:
            self._tables.pop(path, None)
            if state is not None:
                self._tables[path] = (state, stored)
            while len(self._tables) > self._most:
                del self._tables[next(iter(self._tables))]


class Store:
    """The tables of one data set, and its other files, under `root`: a folder or an fsspec URL.

    `recent`: a cache of tables, so that they need not be read again; without it nothing is cached.
    """

    def __init__(self, root: str, recent: RecentTables | None = None) -> None:
        self.files: Files = files_at(root)
        self._recent = recent

    @property
    def root(self) -> str:
        return self.files.root

    def write(self, ref: TableRef, data: pd.DataFrame, fingerprint: str) -> Stored:
        """Validate and store a table with its fingerprint; raises TableError where it violates its schema."""
        validated(ref.table, data)
        digest = digest_of(data)
        table = pa.Table.from_pandas(data, preserve_index=False)
        metadata = {_FINGERPRINT: fingerprint.encode(), _DIGEST: digest.encode()}
        self.write_arrow(ref, table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata}))
        stored = Stored(data, fingerprint, digest)
        if self._recent:
            self._recent.put(self.path(ref.path), self.files.state(ref.path), stored)
        return stored

    def write_arrow(self, ref: TableRef, table: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, write_page_checksum=True)
        self.write_bytes(ref.path, buffer.getvalue())

    def read_arrow(self, ref: TableRef) -> pa.Table:
        """A stored table with list columns, as an Arrow table. Raises TableError when damaged or absent."""
        return self._made_of(ref, _arrow)

    def load(self, ref: TableRef) -> Stored:
        """Read and validate a table, or take it from the cache where its file has not changed.

        Raises TableError that names the file, where that is damaged, foreign or absent.
        """
        if self._recent is None:
            return self._load(ref)
        path, state = self.path(ref.path), self.files.state(ref.path)
        stored = self._recent.get(path, state)
        if stored is None:
            stored = self._load(ref)
            self._recent.put(path, state, stored)
        return stored

    def _load(self, ref: TableRef) -> Stored:
        return self._made_of(ref, lambda content: _stored(ref, content))

    def _made_of(self, ref: TableRef, make: Callable[[bytes], T]) -> T:
        """What `make` makes of a table's bytes. Raises TableError that names the file where it is absent or damaged."""
        path = self.path(ref.path)
        try:
            return parsed(self.files, ref.path, make)
        except FileNotFoundError:
            raise AbsentTable(f"{path}: no such table; run again to have it made") from None
        except TableError as error:
            raise TableError(f"{path}: {error}") from error

    def load_all(self, refs: Sequence[TableRef]) -> Stored:
        """One or more tables of one kind, concatenated."""
        parts = [self.load(ref) for ref in refs]
        data = pd.concat([part.data for part in parts], ignore_index=True)
        return Stored(data, "", fingerprint([part.digest for part in parts]))

    def read(self, ref: TableRef) -> pd.DataFrame:
        """The rows of a table; see `load`."""
        return self.load(ref).data

    def fresh(self, ref: TableRef, fingerprint: str) -> Stored | None:
        """The table if it is undamaged and has this fingerprint; None when it has to be built."""
        try:
            stored = self.load(ref)
        except AbsentTable:
            return None
        except TableError as error:
            log.warning("%s; it will be rebuilt", error)
            return None
        return stored if stored.fingerprint == fingerprint else None

    def shards(self) -> Iterator[str]:
        """Names of all shards that have a prompts table, sorted."""
        yield from (name for name in self.names_in("tables") if self.exists(TableRef("prompts", name).path))

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, json.dumps(value, indent=1, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any:
        """What a JSON file holds. Raises FileNotFoundError where it is absent, DamagedFile where it is no JSON."""
        return parsed(self.files, name, lambda content: _json(self.url(name), content))

    def known_json(self, name: str) -> Any:
        """What a JSON file holds; None where it is absent or damaged, for callers that can make it anew."""
        try:
            return self.read_json(name)
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            log.warning("%s; it will be rebuilt", error)
            return None

    # Forwarded to `Files`, which documents them.

    def path(self, name: str) -> str:
        return self.files.path(name)

    def url(self, name: str) -> str:
        return self.files.url(name)

    def exists(self, name: str) -> bool:
        return self.files.exists(name)

    def names_in(self, folder: str) -> list[str]:
        return self.files.names_in(folder)

    def file_digest(self, name: str) -> str:
        return self.files.digest(name)

    def write_bytes(self, name: str, content: bytes) -> None:
        self.files.write(name, content)

    def install(self, folder: Path, name: str) -> None:
        self.files.install(folder, name)

    def point(self, pointer: str, name: str, seen: str | None) -> bool:
        return self.files.point(pointer, name, seen)

    def points_to(self, pointer: str) -> str | None:
        return self.files.points_to(pointer)

    def lock(
        self, wait: float | None = None, busy: str = "another run works on this data set"
    ) -> AbstractContextManager[None]:
        return self.files.lock(busy, wait)


def digest_of(data: pd.DataFrame) -> str:
    """A digest of the rows and their order; equal content gives equal digests in every process."""
    hashes = pd.util.hash_pandas_object(data, index=False)
    return hashlib.sha256(",".join(data.columns).encode() + hashes.to_numpy().tobytes()).hexdigest()


def _arrow(content: bytes) -> pa.Table:
    with _readable():
        return pq.read_table(pa.BufferReader(content), page_checksum_verification=True)


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever fails while bytes in memory are made a table, but for a lack of memory, says that they are damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise TableError(f"not a readable table: {type(error).__name__}: {error}") from error


def _stored(ref: TableRef, content: bytes) -> Stored:
    table = _arrow(content)
    metadata = table.schema.metadata or {}
    with _readable():
        data = table.to_pandas(types_mapper=_pandas_type)
    if not has_columns(ref.table, data.columns):
        raise TableError(f"not a {ref.table} table: columns {list(data.columns)}")
    validated(ref.table, data)
    stored = Stored(data, metadata.get(_FINGERPRINT, b"").decode(), metadata.get(_DIGEST, b"").decode())
    if digest_of(data) != stored.digest:
        raise TableError("the content does not match its digest")
    return stored


def _json(place: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{place}: damaged: not JSON: {type(error).__name__}: {error}") from error


def _pandas_type(arrow_type: pa.DataType) -> Any:
    """The pandas type of a column read from a file: for texts, the same as in `schemas.frame`."""
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        return pd.StringDtype(na_value=np.nan)
    return None
