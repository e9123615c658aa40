"""What a failed read means: a file is absent, damaged, or out of reach. Each has an error of its own.

- Absent: FileNotFoundError, raised at once.
- Damaged: DamagedFile, or TableError for a table. The bytes came whole, twice alike, and are not what was written.
- Out of reach: StorageUnreachable, raised after several tries. Whether the file is there, and what it holds, is not
  known then, so the caller must stop: only what is absent or damaged may be made anew.

`files.Files` is the one place where errors of a file system are translated.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import tenacity

from pairsmith.errors import ConfigError, DamagedFile, DataError, PairsmithError, StorageUnreachable
from pairsmith.storage.disk import unwritable
from pairsmith.storage.files import Files

T = TypeVar("T")
TRIES = 6
_WAIT = tenacity.wait_exponential_jitter(initial=0.2, max=5, jitter=0.2)  # 6 to 7 seconds in all
_LASTING = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST),
    *(errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC),
}
_ABSENT = (FileNotFoundError, NotADirectoryError)


def tried_again(action: Callable[[], T]) -> T:
    """What `action` returns; it is called again while it fails for a reason that may pass. Raises its last error."""
    tries = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRIES),
        wait=_WAIT,
        retry=tenacity.retry_if_exception(may_pass),
        reraise=True,
    )
    return tries(action)


def writing_in(folder: Path, action: Callable[[], T]) -> T:
    """What `action` returns, which writes in a workspace's folder; it is called again while it fails for a reason that
    may pass.

    Raises ConfigError where trying again cannot help, StorageUnreachable where it did not.
    """

    def told() -> T:
        try:
            return action()
        except OSError as error:
            if may_pass(error):
                raise
            raise ConfigError(f"workspace: {unwritable(folder, error)}") from error

    return retried(str(folder), told)


def make_folder(folder: Path) -> None:
    """Make a folder where it is not there. Whether it is takes a look, which may fail and pass as any read does."""
    tried_again(lambda: folder.mkdir(parents=True, exist_ok=True))


def retried(place: str, action: Callable[[], T]) -> T:
    """What `action` returns; it is called again while it fails for a reason that may pass.

    `place`: the file, for the message. Raises FileNotFoundError where that is absent, StorageUnreachable for any other
    failure that lasts.
    """
    try:
        return tried_again(action)
    except _ABSENT:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place) from None
    except (PairsmithError, MemoryError):
        raise
    except Exception as error:  # libraries of object storage raise kinds of their own, not only OSError
        reason = f"{type(error).__name__}: {error}"
        raise StorageUnreachable(f"{place}: cannot be reached ({reason}); run again once it can be") from error


def parsed(files: Files, name: str, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of a file's bytes. Its DataError is believed only of bytes that two reads gave alike.

    A connection that ends early may give fewer bytes without an error, and those look like a damaged file. So the
    second read is made by `Files.open`, which knows how many bytes there are.
    """
    content = files.read(name)
    for _ in range(TRIES):
        try:
            return parse(content)
        except DataError:
            with files.open(name) as file:
                again = file.read()
            if again == content:
                raise
            content = again
    raise StorageUnreachable(f"{files.url(name)}: every read gives other bytes; run again once the storage is well")


def parsed_with_etag(files: Files, name: str, parse: Callable[[bytes], T]) -> tuple[T, str]:
    """The same, and the ETag on which a write can depend: where another process wrote in between, the ETag is older."""
    content, etag = files.read_with_etag(name)
    try:
        return parse(content), etag
    except DataError:
        return parsed(files, name, parse), etag


def field_of(files: Files, name: str, field: str, hint: str) -> Any:
    """A field of a JSON file. Raises DataError, with what to do, where the file is damaged."""

    def read(content: bytes) -> Any:
        try:
            return json.loads(content)[field]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{files.url(name)}: damaged ({type(error).__name__}: {error}); {hint}") from None

    return parsed(files, name, read)


def whole(files: Files, name: str, digest: str) -> bytes:
    """A file of which the sha256 is known. Raises DamagedFile where two reads alike give something else."""

    def checked(content: bytes) -> bytes:
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedFile(f"{files.url(name)}: damaged (its content has changed since it was written)")
        return content

    return parsed(files, name, checked)


class RetriedFile(io.RawIOBase):
    """A file opened for reading. A read that fails or falls short is made again, from the same position."""

    def __init__(self, place: str, open_file: Callable[[], IO[bytes]]) -> None:
        self._name = place
        self._file, self._size = retried(place, lambda: _opened(open_file))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        content = retried(self._name, lambda: self._whole(wanted))
        self._position += len(content)
        return content

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _whole(self, size: int) -> bytes:
        self._file.seek(self._position)
        content = self._file.read(size)
        if len(content) < size:
            raise EOFError(f"{len(content)} of {size} bytes came")
        return content


def _opened(open_file: Callable[[], IO[bytes]]) -> tuple[IO[bytes], int]:
    file = open_file()
    return file, file.seek(0, io.SEEK_END)


def may_pass(error: BaseException) -> bool:
    """Whether what failed with this error may work when it is tried again."""
    if isinstance(error, (*_ABSENT, PairsmithError, MemoryError)) or not isinstance(error, Exception):
        return False
    return not (isinstance(error, OSError) and error.errno in _LASTING)
