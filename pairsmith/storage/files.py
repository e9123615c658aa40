"""What a place must offer to hold a data set: the protocol that a folder on a disk and object storage both meet.

A name is a path below the place's root, with slashes: `tables/3f2a/pairs.all.parquet`. The two kinds are
`local_files.LocalFiles` and `object_files.ObjectFiles`; `opening.files_at` says which one a root means.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

FileState = tuple[int, ...]


class Files(Protocol):
    """Files below a root, each of them there whole or not at all."""

    @property
    def root(self) -> str:
        """The folder, or the bucket and prefix, as its file system writes it."""

    def path(self, name: str) -> str:
        """Where something stands, as its file system writes it: for messages."""

    def url(self, name: str) -> str:
        """Where something stands, as a person or another program finds it: with the protocol unless it is local."""

    def link(self, name: str) -> str:
        """A link to something that a browser follows."""

    def local_path(self, name: str) -> Path | None:
        """Where something stands on a disk of this machine; None on object storage."""

    def exists(self, name: str) -> bool: ...

    def names_in(self, folder: str) -> list[str]:
        """What a folder holds, by name, sorted; nothing where it is not there."""

    def listing(self, folder: str) -> dict[str, str]:
        """The ETags of the files that a folder holds, by name, sorted; without those whose name begins with a dot."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""

    def read_with_etag(self, name: str) -> tuple[bytes, str]:
        """A file and the ETag that `compare_and_swap` takes. Raises FileNotFoundError where there is no such file."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to be read. Raises FileNotFoundError where there is none."""

    def digest(self, name: str) -> str:
        """sha256 of a file's bytes; of nothing where it is not there."""

    def state(self, name: str) -> FileState | None:
        """What changes whenever a file does, at the price of one look; None where there is no file or no such thing."""

    def write(self, name: str, content: bytes) -> None:
        """Store a file in place of the one that is there, if any."""

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Store a file unless there is one of that name; returns whether that was done.

        Of many that try at once, exactly one gets True. Raises NoConditionalWrites where the place cannot do that.
        """

    def compare_and_swap(self, name: str, content: bytes, etag: str | None) -> bool:
        """Store a file in place of the one with this ETag, of none for None; returns whether that was done.

        Of many that try at once with one ETag, exactly one gets True, as long as the file is written by this function
        and `put_if_absent` alone. Raises NoConditionalWrites where the place cannot do that.
        """

    def remove(self, name: str) -> None:
        """Take a file away. Raises FileNotFoundError where there is none."""

    def scratch_folder(self) -> AbstractContextManager[Path]:
        """A new folder on this machine for what is being made, with room for it; it goes with the block."""

    def install(self, folder: Path, name: str) -> None:
        """Move a finished folder of this machine to the new `name`."""

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """A folder as one on this machine, fetched where it is elsewhere; not to be changed."""

    def point(self, pointer: str, name: str) -> None:
        """Let `pointer` lead to `name`, in one step. Not from two processes at once: see `decisions.deciding`."""

    def points_to(self, pointer: str) -> str | None:
        """The name that a pointer leads to; None where there is none."""

    def url_through(self, pointer: str, name: str) -> str:
        """Where a reader finds `name` once `pointer` leads to it: at the pointer, if programs can follow that."""

    def lock(self, busy: str, wait: float | None = None) -> AbstractContextManager[None]:
        """Hold the place for one process of this machine, `wait` seconds later at most.

        Raises RunError that says `busy` and who holds it; ConfigError where the place cannot be written. The lock goes
        with the process that held it, however that ended. Without `wait`, `lock_wait.patient` tells how long. Object
        storage has no such lock: there, the ledger's counts.
        """
