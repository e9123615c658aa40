"""Writing files durably to a disk, and hashing what is in them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and sync it to the disk. Raises FileExistsError where there is a file or link already."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Write a file whole or not at all, in the place of any that was there, and sync it to the disk.

    `scratch`: the folder, on the same file system, in which it is written first; beside it when absent.
    """
    unfinished = (scratch or path.parent) / f".{secrets.token_hex(16)}"
    try:
        write_synced(unfinished, content)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; on a file system that cannot, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. Windows cannot open a folder, so nothing is done there."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def unwritable(folder: Path, error: OSError | None = None) -> str | None:
    """Why no file can be made in a folder, which need not be there, and what to do; None where nothing is in the way.

    `error`: what trying it gave.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.exists(one))
    if not there.is_dir():
        return f"{there} is a file, not a folder: name another"
    if isinstance(error, PermissionError) or not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written by this user: name another, or change its rights"
    return f"{there} cannot be written: {error.strerror or error}" if error else None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add this file's name to an OSError within the block that names none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
