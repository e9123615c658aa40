"""Tables on disk or object storage: one parquet file per table and shard, validated and atomic.

Every file carries the fingerprint of what it was made from and the digest of what it holds. A table is fresh when
it is readable, passes its schema and carries the fingerprint asked for; anything else is rebuilt, so deleting or
damaging a table costs no model call (the ledger has the replies). A file is written beside its place, synced and
renamed, or put in one request on object storage, so a reader sees the old table or the new one, never a part.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.errors import ConfigError, RunError, TableError
from pairsmith.ids import fingerprint
from pairsmith.storage.lock_wait import holder_after
from pairsmith.storage.schemas import TABLES, validated

log = logging.getLogger(__name__)
_FINGERPRINT, _DIGEST = b"pairsmith.fingerprint", b"pairsmith.digest"
# Tables that this process wrote or read last: the next stage of a shard needs them again.
_REMEMBERED = 64
SCRATCH = ".scratch"
_recent: dict[str, tuple[tuple[int, ...] | None, Stored]] = {}
_recent_lock = threading.Lock()


@dataclass(frozen=True)
class TableRef:
    """Names one table of one shard; `part` tells apart tables of the same kind (a member, a round, a judge)."""

    table: str
    shard: str
    part: str = "all"

    @property
    def path(self) -> str:
        return f"tables/{self.shard}/{self.table}.{self.part}.parquet"


@dataclass(frozen=True)
class Stored:
    """A table as it stands in the store: its rows, what it was made from, and the digest of its content."""

    data: pd.DataFrame
    fingerprint: str
    digest: str


class Store:
    """The tables of one dataset under `root`, a folder or an fsspec URL."""

    def __init__(self, root: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(root)
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def url(self, name: str) -> str:
        """Where something stands, as a person or another program finds it: with the protocol unless it is local."""
        return self.path(name) if self.is_local else str(self.fs.unstrip_protocol(self.path(name)))

    def write(self, ref: TableRef, data: pd.DataFrame, mark: str) -> Stored:
        """Validate and store a table, `mark` as its fingerprint; raises TableError where it breaks its schema."""
        validated(ref.table, data)
        digest = digest_of(data)
        table = pa.Table.from_pandas(data, preserve_index=False)
        metadata = {_FINGERPRINT: mark.encode(), _DIGEST: digest.encode()}
        self.write_arrow(ref, table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata}))
        stored = Stored(data, mark, digest)
        self._remember(ref, stored)
        return stored

    def write_arrow(self, ref: TableRef, table: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, write_page_checksum=True)
        self.write_bytes(ref.path, buffer.getvalue())

    def read_arrow(self, ref: TableRef) -> pa.Table:
        """A stored table with lists in it. Raises TableError when damaged or absent."""
        try:
            with self.fs.open(self.path(ref.path), "rb") as file:
                return pq.read_table(file, page_checksum_verification=True)
        except Exception as error:
            told = f"{self.path(ref.path)}: not a readable table: {type(error).__name__}: {error}"
            raise TableError(told) from error

    def load(self, ref: TableRef) -> Stored:
        """Read and validate a table, or take it from memory where this process did so and the file is untouched.

        Raises TableError that names the file, when damaged, foreign or absent.
        """
        known = _recent.get(self.path(ref.path))
        if known and known[0] == self._state(ref):
            return known[1]
        stored = self._load(ref)
        self._remember(ref, stored)
        return stored

    def _remember(self, ref: TableRef, stored: Stored) -> None:
        if self.is_local:
            with _recent_lock:
                _recent.pop(self.path(ref.path), None)
                _recent[self.path(ref.path)] = (self._state(ref), stored)
                while len(_recent) > _REMEMBERED:
                    del _recent[next(iter(_recent))]

    def _state(self, ref: TableRef) -> tuple[int, ...] | None:
        """What changes when a local file does; None where there is none."""
        try:
            stat = os.stat(self.path(ref.path))
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

    def _load(self, ref: TableRef) -> Stored:
        path = self.path(ref.path)
        try:
            with self.fs.open(path, "rb") as file:
                table = pq.read_table(file, page_checksum_verification=True)
            metadata = table.schema.metadata or {}
            data = table.to_pandas(types_mapper=_pandas_type)
        except Exception as error:
            raise TableError(f"{path}: not a readable table: {type(error).__name__}: {error}") from error
        if list(data.columns) != list(TABLES[ref.table].columns):
            raise TableError(f"{path}: not a {ref.table} table: columns {list(data.columns)}")
        try:
            validated(ref.table, data)
        except TableError as error:
            raise TableError(f"{path}: {error}") from None
        stored = Stored(data, metadata.get(_FINGERPRINT, b"").decode(), metadata.get(_DIGEST, b"").decode())
        if digest_of(data) != stored.digest:
            raise TableError(f"{path}: the content does not match its digest")
        return stored

    def load_all(self, refs: Sequence[TableRef]) -> Stored:
        """Several tables of one kind, one or more, as one."""
        parts = [self.load(ref) for ref in refs]
        data = pd.concat([part.data for part in parts], ignore_index=True)
        return Stored(data, "", fingerprint([part.digest for part in parts]))

    def read(self, ref: TableRef) -> pd.DataFrame:
        """The rows of a table; see `load`."""
        return self.load(ref).data

    def fresh(self, ref: TableRef, mark: str) -> Stored | None:
        """The table if its fingerprint is `mark` and it is whole; None when it has to be built."""
        if not self.exists(ref.path):
            return None
        try:
            stored = self.load(ref)
        except TableError as error:
            log.warning("%s; it will be rebuilt", error)
            return None
        return stored if stored.fingerprint == mark else None

    def file_digest(self, name: str) -> str:
        """sha256 of a file's bytes; of nothing where it is not there."""
        try:
            with self.fs.open(self.path(name), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return hashlib.sha256(b"").hexdigest()

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def shards(self) -> Iterator[str]:
        """Names of all shards that have a prompts table, sorted."""
        yield from (name for name in self.names_in("tables") if self.exists(TableRef("prompts", name).path))

    def write_json(self, name: str, value: Any) -> str:
        return self.write_bytes(name, json.dumps(value, indent=1, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any:
        return json.loads(self.fs.cat_file(self.path(name)))

    def write_bytes(self, name: str, content: bytes) -> str:
        """Store a file so that it is there whole or not at all."""
        path = self.path(name)
        if not self.is_local:
            self.fs.pipe_file(path, content)
            return path
        target = Path(path)
        with _naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.scratch() / uuid.uuid4().hex
            try:
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)
        return path

    def remove(self, name: str) -> None:
        """Take a file away."""
        self.fs.rm_file(self.path(name))

    def scratch(self) -> Path:
        """A folder of a local store for what is not in its place yet; whatever a crash left there goes with `lock`."""
        folder = Path(self.path(SCRATCH))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def install(self, folder: Path, name: str) -> None:
        """Move a finished local folder to the new `name`; locally it is there whole or not at all."""
        target = self.path(name)
        if not self.is_local:
            self.fs.put(f"{folder}/", f"{target}/", recursive=True)
            return
        with _naming(Path(target)):
            for path in [file for file in folder.rglob("*") if file.is_file()]:
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder, target)
            sync_folder(Path(target).parent)

    def point(self, pointer: str, name: str) -> None:
        """Let `pointer` lead to `name`, in one step. Not from two processes at once: see `versions.deciding`."""
        if not self.is_local:
            self.write_json(f"{pointer}.json", {"name": name})
            return
        with _naming(Path(self.path(pointer))):
            link = Path(self.path(f".{pointer}"))  # not in the scratch folder, which goes when a run begins or ends
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            os.replace(link, self.path(pointer))
            sync_folder(Path(self.root))

    def points_to(self, pointer: str) -> str | None:
        """The name that a pointer made by `point` leads to; None where there is none."""
        if not self.is_local:
            return self.read_json(f"{pointer}.json")["name"] if self.exists(f"{pointer}.json") else None
        link = Path(self.path(pointer))
        return os.readlink(link) if link.is_symlink() and link.exists() else None

    def names_in(self, folder: str) -> list[str]:
        """What a folder holds, by name, sorted; nothing where it is not there."""
        if not self.exists(folder):
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in self.fs.ls(self.path(folder), detail=False))

    @contextmanager
    def lock(self, wait: float | None = None, busy: str = "another run works on this data set") -> Iterator[None]:
        """Hold the data set for one run on this machine, `wait` seconds later at most.

        Raises RunError that says who holds it. The lock is the kernel's (flock), so it goes with the process that held
        it, however that ended. Without `wait`, `waiting.patient` tells how long.
        """
        if not self.is_local:
            yield
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            for folder in (Path(self.root), *Path(self.root).glob("*"), *Path(self.root).glob("tables/*")):
                if folder.is_symlink() and folder.name not in ("latest", ".latest"):
                    raise ConfigError(f"workspace: {folder} is a link; only the workspace itself may be one")
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            file = os.fdopen(os.open(self.path(".lock"), flags, 0o644), "a+")
        except OSError as error:
            raise ConfigError(f"workspace: {self.root} cannot be written: {error}") from error
        with file:
            if holder := holder_after(lambda: _holder(file), self.root, wait):
                raise RunError(f"{self.root}: {busy} ({holder})")
            file.truncate(0)
            file.write(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
            file.flush()
            shutil.rmtree(self.path(SCRATCH), ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.path(SCRATCH), ignore_errors=True)


def _holder(file: IO[str]) -> str | None:
    """Take the lock of a file; None where that was done, else who holds it, as the file says."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read().strip() or "another process"
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of the system that names no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def digest_of(data: pd.DataFrame) -> str:
    """A digest of the rows and their order; equal content gives equal digests in every process."""
    hashes = pd.util.hash_pandas_object(data, index=False)
    return hashlib.sha256(",".join(data.columns).encode() + hashes.to_numpy().tobytes()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pandas_type(arrow_type: pa.DataType) -> Any:
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        return pd.StringDtype()
    return None
