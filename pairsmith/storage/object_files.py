"""A data set on object storage, through fsspec: a file is put in one request, so it is there whole or not at all.

Conditional writes need the storage's support, so they are offered only where that is known: on S3, which answers 412
when the condition fails, and on fsspec's memory, which belongs to this process alone. Not every server that speaks S3
keeps to the condition, so the first caller to depend on it tries: see `keeps_conditions`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from fsspec import AbstractFileSystem

from pairsmith.errors import DamagedFile, NoConditionalWrites
from pairsmith.storage.files import FileState
from pairsmith.storage.reads import RetriedFile, field_of, parsed, parsed_with_etag, retried

T = TypeVar("T")
COPIED = 1 << 20  # bytes that are copied at once
_memory = threading.Lock()  # fsspec has one memory file system per process
CONDITIONS = "conditional-writes.json"  # what came of trying whether the storage keeps to a condition


class ObjectFiles:
    """The files below a bucket's prefix. See `files.Files`."""

    def __init__(self, fs: AbstractFileSystem, root: str) -> None:
        self.root, self._fs = root, fs
        protocol = fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)
        self._is_memory, self._is_s3 = "memory" in protocol, "s3" in protocol

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def url(self, name: str) -> str:
        return str(self._fs.unstrip_protocol(self.path(name)))

    link = url

    def local_path(self, name: str) -> None:
        return None

    def exists(self, name: str) -> bool:
        try:
            self._retried(name, lambda: self._fs.info(self.path(name)))  # fsspec's own `exists` hides every error
        except FileNotFoundError:
            return False
        return True

    def names_in(self, folder: str) -> list[str]:
        return sorted(_last(info["name"]) for info in self._entries(folder))

    def tree(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for info in self._entries(folder):
            name = _last(info["name"])
            if info["type"] == "directory":
                found |= {f"{name}/{below}": size for below, size in self.tree(f"{folder}/{name}").items()}
            else:
                found[name] = int(info["size"])
        return found

    def listing(self, folder: str) -> dict[str, str]:
        found = self._entries(folder)
        files = sorted((_last(info["name"]), info) for info in found if info["type"] == "file")
        return {name: self._etag(info) for name, info in files if not name.startswith(".")}

    def read(self, name: str) -> bytes:
        return cast(bytes, self._retried(name, lambda: self._fs.cat_file(self.path(name))))

    def read_with_etag(self, name: str) -> tuple[bytes, str]:
        # The ETag first: if the file is replaced between the two requests, its old ETag makes the next swap fail.
        etag = self._etag(self._retried(name, lambda: self._fs.info(self.path(name))))
        return self.read(name), etag

    def open(self, name: str) -> IO[bytes]:
        path = self.path(name)
        return cast("IO[bytes]", RetriedFile(self.url(name), lambda: self._fs.open(path, "rb")))

    def digest(self, name: str) -> str:
        try:
            with self.open(name) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except FileNotFoundError:
            return hashlib.sha256(b"").hexdigest()

    def state(self, name: str) -> FileState | None:
        return None

    def write(self, name: str, content: bytes) -> None:
        with _memory if self._is_memory else nullcontext():
            self._retried(name, lambda: self._fs.pipe_file(self.path(name), content))

    def put_if_absent(self, name: str, content: bytes) -> bool:
        if self._is_memory:
            with _memory:
                return not self.exists(name) and self._put(name, content)
        return self._put(name, content, mode="create")

    def compare_and_swap(self, name: str, content: bytes, etag: str | None) -> bool:
        if etag is None:
            return self.put_if_absent(name, content)
        if self._is_memory:
            with _memory:
                return self.exists(name) and self.digest(name) == etag and self._put(name, content)
        return self._put(name, content, IfMatch=etag)

    def keeps_conditions(self) -> bool:
        if not self._is_s3:
            return self._is_memory
        if not self.exists(CONDITIONS):
            self.write(CONDITIONS, json.dumps({"kept": _refuses_second_write(self)}).encode())
        return bool(field_of(self, CONDITIONS, "kept", "delete it, and it is made again"))

    def remove(self, name: str) -> None:
        self._fs.rm_file(self.path(name))

    def remove_folder(self, name: str) -> None:
        self._fs.rm(self.path(name), recursive=True)

    @contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def install(self, folder: Path, name: str) -> None:
        self._fs.put(f"{folder}/", f"{self.path(name)}/", recursive=True)

    def fetch(self, name: str, path: Path) -> None:
        with self.open(name) as source, open(path, "wb") as copy:
            shutil.copyfileobj(source, copy, COPIED)

    def point(self, pointer: str, name: str, seen: str | None) -> bool:
        file, content = f"{pointer}.json", json.dumps({"name": name}, indent=1).encode()
        if not self.keeps_conditions():
            if self.points_to(pointer) != seen:
                return False
            self.write(file, content)
            return True
        try:
            found, etag = parsed_with_etag(self, file, partial(_pointer, self.url(pointer)))
        except FileNotFoundError:
            return seen is None and self.put_if_absent(file, content)
        return found == seen and self.compare_and_swap(file, content, etag)

    def points_to(self, pointer: str) -> str | None:
        try:
            return parsed(self, f"{pointer}.json", partial(_pointer, self.url(pointer)))
        except FileNotFoundError:
            return None

    def url_through(self, pointer: str, name: str) -> str:
        return self.url(name)

    @contextmanager
    def lock(self, busy: str, wait: float | None = None) -> Iterator[None]:
        yield

    def _retried(self, name: str, action: Callable[[], T]) -> T:
        return retried(self.url(name), action)

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        """What is in a folder; nothing where there is no such folder."""
        try:
            return list(self._retried(folder, lambda: self._fs.ls(self.path(folder), detail=True)))
        except FileNotFoundError:
            return []

    def _etag(self, info: dict[str, Any]) -> str:
        if self._is_memory:
            return self.digest(info["name"].removeprefix(f"{self.root}/"))
        found = info.get("ETag") or info.get("etag")
        if not found:
            raise NoConditionalWrites(f"{self._fs.unstrip_protocol(info['name'])}: this storage tells no ETags")
        return str(found)

    def _put(self, name: str, content: bytes, **condition: str) -> bool:
        """Store a file; False where the storage says that the condition does not hold."""
        if condition and not self._is_s3:
            raise NoConditionalWrites(f"{self.url(name)}: this storage is not known to write on a condition")
        try:
            self._fs.pipe_file(self.path(name), content, **condition)
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) not in ("PreconditionFailed", "NoSuchKey"):
                raise
            return False
        return True


def _pointer(place: str, content: bytes) -> str:
    try:
        return str(json.loads(content)["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{place}.json: damaged pointer to a version: {type(error).__name__}: {error}") from None


def _refuses_second_write(files: ObjectFiles) -> bool:
    """Try to create one file twice, and to replace it on a condition that does not hold."""
    name = f".tried-{uuid.uuid4().hex}"
    try:
        first = files.put_if_absent(name, b"first")
        return first and not files.put_if_absent(name, b"second") and not files.compare_and_swap(name, b"3", '"none"')
    finally:
        files.remove(name)


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _code(error: OSError) -> str | None:
    """S3's error code, which s3fs hides in the cause of an OSError."""
    answer: dict[str, Any] = getattr(error.__cause__, "response", {})
    code: str | None = answer.get("Error", {}).get("Code")
    return code
