"""The file operations that a data set needs: one protocol for a folder on a disk and for object storage.

A name is a path below the root, with slashes: `tables/3f2a/pairs.all.parquet`. The implementations are
`local_files.LocalFiles` and `object_files.ObjectFiles`; `opening.files_at` chooses one for a root.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from pairsmith.errors import NoConditionalWrites

FileState = tuple[int, ...]


class Files(Protocol):
    """Files below a root. Each is there whole or not at all.

    Every method that reads tries again for a while where the storage fails, and then raises StorageUnreachable that
    names the file: see `reads`. So no answer of theirs is a guess: what is said to be absent is absent.
    """

    @property
    def root(self) -> str:
        """The folder, or the bucket and prefix, as its file system writes it."""

    def path(self, name: str) -> str:
        """The path of a file or folder, as its file system writes it: for messages."""

    def url(self, name: str) -> str:
        """The address of a file or folder for people and other programs: with the protocol unless it is local."""

    def link(self, name: str) -> str:
        """The address of a file or folder as a link that a browser follows."""

    def local_path(self, name: str) -> Path | None:
        """The path on a disk of this machine; None on object storage."""

    def exists(self, name: str) -> bool: ...

    def names_in(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""

    def tree(self, folder: str) -> dict[str, int]:
        """Every file in a folder and the folders in it, by its path below that folder -> its size in bytes."""

    def listing(self, folder: str) -> dict[str, str]:
        """File name -> ETag for the files in a folder, sorted; without names that begin with a dot."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""

    def read_with_etag(self, name: str) -> tuple[bytes, str]:
        """A file and the ETag that `compare_and_swap` takes. Raises FileNotFoundError where there is no such file."""

    def open(self, name: str) -> IO[bytes]:
        """A file opened for reading. Raises FileNotFoundError where there is none."""

    def digest(self, name: str) -> str:
        """sha256 of a file's bytes; that of no bytes where there is no such file."""

    def state(self, name: str) -> FileState | None:
        """A cheap value that changes whenever the file does; None where there is no file, or no such value."""

    def write(self, name: str, content: bytes) -> None:
        """Store a file; it replaces an existing one."""

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Store a file unless there is one of that name; returns whether it was stored.

        Of many callers at once, exactly one gets True. Raises NoConditionalWrites where the storage cannot do that.
        """

    def compare_and_swap(self, name: str, content: bytes, etag: str | None) -> bool:
        """Replace a file if it has this ETag (None: if it does not exist); returns whether it was replaced.

        Of many callers at once with one ETag, exactly one gets True, as long as the file is written only by this method
        and `put_if_absent`. Raises NoConditionalWrites where the storage cannot do that.
        """

    def keeps_conditions(self) -> bool:
        """Whether the storage refuses a write whose condition does not hold. Found out once, and noted beside the data.

        Not every server does: some that speak S3 ignore the condition and answer that the file was stored.
        """

    def remove(self, name: str) -> None:
        """Delete a file. Raises FileNotFoundError where there is none."""

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all that is in it; on a disk it is gone in one step."""

    def scratch_folder(self) -> AbstractContextManager[Path]:
        """A new folder on this machine for unfinished work, on the disk with room for it; deleted after the block."""

    def install(self, folder: Path, name: str) -> None:
        """Move a finished folder of this machine to the new `name`."""

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to `path` on this machine. Raises FileNotFoundError where there is none."""

    def point(self, pointer: str, name: str, seen: str | None) -> bool:
        """Let `pointer` lead to `name` instead of to what the caller saw, in one step; returns whether it was moved.

        Of several processes that saw the same, one gets True on object storage. On a disk, a lock keeps them apart:
        see `decisions.deciding`.
        """

    def points_to(self, pointer: str) -> str | None:
        """The name that a pointer leads to; None where there is none. Raises DamagedFile where it cannot be parsed."""

    def url_through(self, pointer: str, name: str) -> str:
        """The address of `name` for readers while `pointer` leads to it: the pointer's, if programs can follow it."""

    def lock(self, busy: str, wait: float | None = None) -> AbstractContextManager[None]:
        """Hold the root for one process of this machine, waiting up to `wait` seconds for it.

        Raises RunError with `busy` and the holder's name; ConfigError where the root cannot be written. The lock ends
        with its process, however that ended. Without `wait`, `lock_wait.patient` says how long to wait. Object storage
        has no such lock: there, `ledger.lock` protects the data set, in the database or by a lease.
        """


def refuse_unconditional(files: Files, hint: str) -> None:
    """Raise NoConditionalWrites, with a hint, where the storage does not keep to the condition of a write."""
    if not files.keeps_conditions():
        raise NoConditionalWrites(f"{files.url('')}: this storage does not keep to the condition of a write; {hint}")
