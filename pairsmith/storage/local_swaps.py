"""Conditional writes on a disk: create a file only if it is absent, or replace it only if it is unchanged.

The writer holds a lock, so one at a time compares and writes. A new file gets its name by a hard link, which the system
makes only where the name is free, so it never replaces a file that somebody wrote without the lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMLINK, ENOSYS, ENOTSUP, EPERM
from pathlib import Path

from pairsmith.errors import NoConditionalWrites
from pairsmith.storage.disk import file_digest, naming, sync_folder, write_synced
from pairsmith.storage.locks import kernel_lock
from pairsmith.storage.reads import make_folder

SWAP = ".swap"  # the file that is being written; not in the scratch folder, which a run may clear meanwhile
_NO_HARD_LINKS = (EPERM, ENOTSUP, ENOSYS, EMLINK)


def put_if_absent(root: Path, target: Path, content: bytes) -> bool:
    """Write `target`, somewhere below `root`, unless it exists; returns whether it was written."""
    with _swapping(root, target) as temporary:
        if os.path.lexists(target):
            return False
        write_synced(temporary, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                raise NoConditionalWrites(f"{target}: this file system has no hard links: {error}") from error
            raise
        sync_folder(target.parent)
    return True


def compare_and_swap(root: Path, target: Path, content: bytes, digest: str) -> bool:
    """Replace `target`, somewhere below `root`, if its bytes have this sha256; returns whether it was replaced."""
    with _swapping(root, target) as temporary:
        if not target.is_file() or file_digest(target) != digest:
            return False
        write_synced(temporary, content)
        os.replace(temporary, target)
        sync_folder(target.parent)
    return True


@contextmanager
def _swapping(root: Path, target: Path) -> Iterator[Path]:
    """Hold the lock of conditional writes; yields the temporary file to write, which then becomes `target`."""
    temporary = root / SWAP
    with naming(target):
        make_folder(target.parent)
        with kernel_lock(root / f"{SWAP}.lock"):
            temporary.unlink(missing_ok=True)  # one that a crash left may be a second name of a file in use
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
