"""Whether a storage keeps to conditional writes: tried, since some accept every write and ignore its condition."""

from __future__ import annotations

import uuid
from contextlib import suppress

from pairsmith.errors import NoConditionalWrites
from pairsmith.storage.files import Files


def refuse_unconditional(files: Files, hint: str) -> None:
    """Raise NoConditionalWrites, with a hint, where the storage does not refuse to create or swap a file wrongly."""
    name = f".probe-{uuid.uuid4().hex}"
    try:
        created = files.put_if_absent(name, b"first")
        again = files.put_if_absent(name, b"second")
        _, stale = files.read_with_etag(name)
        swapped = files.compare_and_swap(name, b"third", stale)
        stale_swapped = files.compare_and_swap(name, b"fourth", stale)
    except NoConditionalWrites as error:
        raise NoConditionalWrites(f"{error}; {hint}") from error
    finally:
        with suppress(OSError):
            files.remove(name)
    if (created, again, swapped, stale_swapped) != (True, False, True, False):
        raise NoConditionalWrites(f"{files.url('')}: this storage ignores the condition of a write; {hint}")
