"""A folder held by one process of this machine: a kernel lock on one file, and the holder's name in another.

The name has a file of its own because Windows lets nobody read a locked file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pairsmith.errors import RunError
from pairsmith.storage.disk import naming
from pairsmith.storage.lock_wait import holder_after
from pairsmith.storage.reads import writing_in

LOCK, HOLDER = ".lock", ".holder"
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


def kernel_lock(path: Path) -> FileLock:
    """A lock that the kernel releases when its process ends; it also excludes other threads of the same process.

    Another thread may release it. It refuses a symbolic link in its place, and fails on a file system without locks.
    """
    return FileLock(path, thread_local=False, fallback_to_soft=False, poll_interval=0.005)


@contextmanager
def hold_folder(folder: Path, busy: str, wait: float | None = None) -> Iterator[None]:
    """Hold an existing folder, waiting up to `wait` seconds for it.

    Without `wait`, `lock_wait.patient` says how long to wait. Raises RunError with `busy` and the holder's name;
    ConfigError where the folder cannot be written, StorageUnreachable where it cannot be reached.
    """
    lock, note = kernel_lock(folder / LOCK), folder / HOLDER
    holder = writing_in(folder, lambda: holder_after(lambda: _holder(lock, note), str(folder), wait))
    if holder:
        raise RunError(f"{folder}: {busy} ({holder})")
    try:
        _write(note, f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        try:
            yield
        finally:
            with suppress(PermissionError, FileNotFoundError):  # Windows keeps a file that another process is reading
                note.unlink()
    finally:
        lock.release()


def _holder(lock: FileLock, note: Path) -> str | None:
    """Try to take a lock: None on success, else the holder's name from the note."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        with suppress(OSError):
            return note.read_text(encoding="utf-8", errors="replace").strip() or "another process"
        return "another process"
    return None


def _write(note: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW
    with naming(note), os.fdopen(os.open(note, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)
