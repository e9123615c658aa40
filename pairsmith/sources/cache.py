"""Notes on the rows of each source file, so that an unchanged file is not parsed again.

For every row, the notes hold its place and the digest of its prompt (whose text is in a shard), or why it was refused.
A file is unchanged if its size, times and inode are the same, or else if its sha256 is. In doubt, a file is read again:
if it changed while it was read, if its notes are damaged or were made by another recipe or code, or if it has a prompt
that no shard holds any more.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairsmith.errors import TableError
from pairsmith.ids import fingerprint
from pairsmith.sources.readers import Placed
from pairsmith.sources.row_fields import Refused
from pairsmith.sources.sharding import digest_of_row
from pairsmith.storage.disk import file_digest
from pairsmith.storage.schemas import Reason
from pairsmith.storage.store import Store, TableRef
from pairsmith.storage.tables import notes_ref

SMALLEST = 16_384  # bytes from which on a file is worth notes; a smaller one is parsed as fast
RECENT_NS = 2 * 10**9  # after a change so shortly before, another one could leave the file's times the same
BATCH = 8192
_ABOUT = b"pairsmith.file"
_NOTES = pa.schema([(name, pa.string()) for name in ("place", "prompt_id", "digest", "reason", "detail")])


class Notes:
    """The notes of one load: it reads those of earlier loads and writes new ones.

    `known`: digests of the prompts that shards hold. `code`: hash of all code that turns rows into prompts.
    """

    def __init__(self, store: Store, known: Container[str], code: str) -> None:
        self._store, self._known, self._code = store, known, code
        self._used: set[str] = set()

    def rows(
        self, path: Path, name: str, plan: str, seen: Container[str], read: Callable[[], Iterator[Placed]]
    ) -> Iterator[Placed]:
        """Yield what `read` would for a file, in the same order. From notes, a prompt is only its id and digest.

        `name`: the file's name in the places of its rows. `plan`: hash of all in the recipe that decides what a row
        becomes. `seen`: ids of the prompts that this load has already met.
        """
        stamp = _stamp(path)
        if stamp is None or stamp["size"] < SMALLEST:
            yield from read()
            return
        ref = notes_ref(fingerprint(self._code, plan, name)[:24])
        self._used.add(ref.path.rpartition("/")[2])
        found = self._recalled(ref, path, stamp)
        if found is not None and self._suffices(found, seen):
            yield from _placed(name, found)
            return
        parts: list[pa.RecordBatch] = []
        rows: list[dict[str, Any]] = []
        for place, outcome in read():
            rows.append(_note(place.removeprefix(f"{name}:"), outcome))
            if len(rows) == BATCH:
                parts.append(pa.RecordBatch.from_pylist(rows, schema=_NOTES))
                rows = []
            yield place, outcome
        parts.append(pa.RecordBatch.from_pylist(rows, schema=_NOTES))
        self._write(ref, pa.Table.from_batches(parts), path, stamp)

    def tidy(self) -> None:
        """Delete the notes on files that this load did not read."""
        folder = notes_ref("").path.rpartition("/")[0]
        for file in self._store.names_in(folder):
            if file.startswith("notes.") and file not in self._used:
                self._store.files.remove(f"{folder}/{file}")

    def _recalled(self, ref: TableRef, path: Path, stamp: dict[str, int]) -> pa.Table | None:
        """The notes on a file, if it is unchanged; else None."""
        try:
            found = self._store.read_arrow(ref)
            about = json.loads(found.schema.metadata[_ABOUT])
            if found.schema.remove_metadata() != _NOTES:
                return None
            if about["stamp"] == stamp and about["settled"]:
                return found
            known = about["sha256"]
        except (TableError, ValueError, KeyError, TypeError):
            return None
        digest = file_digest(path)
        if known != digest or stamp != _stamp(path):
            return None
        self._write(ref, found, path, stamp, digest)
        return found

    def _suffices(self, found: pa.Table, seen: Container[str]) -> bool:
        """Whether every prompt of a file is in a shard. Repeated prompts do not matter: they are refused anyway."""
        here: set[str] = set()
        for batch in found.to_batches(max_chunksize=BATCH):
            for name, digest in zip(
                batch.column("prompt_id").to_pylist(), batch.column("digest").to_pylist(), strict=True
            ):
                if name is None or name in here or name in seen:
                    continue
                if digest not in self._known:
                    return False
                here.add(name)
        return True

    def _write(
        self, ref: TableRef, table: pa.Table, path: Path, stamp: dict[str, int], digest: str | None = None
    ) -> None:
        """Write the notes on a file, unless it changed while it was read."""
        about: dict[str, Any] = {"stamp": stamp, "sha256": digest or file_digest(path)}
        about["settled"] = max(stamp["mtime_ns"], stamp["ctime_ns"]) < time.time_ns() - RECENT_NS
        if stamp == _stamp(path):
            self._store.write_arrow(ref, table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()}))


def _note(place: str, outcome: dict[str, Any] | Refused) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        return {"place": place, "reason": str(outcome.reason), "detail": outcome.detail}
    return {"place": place, "prompt_id": outcome["prompt_id"], "digest": digest_of_row(outcome)}


def _placed(name: str, found: pa.Table) -> Iterator[Placed]:
    for batch in found.to_batches(max_chunksize=BATCH):
        for place, prompt, digest, reason, detail in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        ):
            known = {"prompt_id": prompt, "digest": digest}
            yield f"{name}:{place}", known if reason is None else Refused(Reason(reason), detail)


def _stamp(path: Path) -> dict[str, int] | None:
    """The size, inode and times of a file, which show whether it changed; None if there is no regular file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    times = {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    return {"size": found.st_size, "inode": found.st_ino, **times}
