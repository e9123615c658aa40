"""Notes on the rows of each source file, so that an unchanged file is not parsed again.

For every row, the notes hold its place and the digest of its prompt (whose text is in a shard), or why it was refused.
A file is unchanged if its size, times and inode are the same, or else if its sha256 is. In doubt, a file is read again:
if it changed while it was read, if its notes are damaged or were made by another recipe or code, or if it has a prompt
that no shard holds any more.

A load with a limit notes the rows that it came to. A later one that needs more goes on after those.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator
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
        self._unfinished: dict[str, _Reading] = {}

    def rows(
        self, path: Path, name: str, plan: str, seen: Container[str], read: Callable[[int], Iterator[Placed]]
    ) -> Iterator[Placed]:
        """Yield what `read` would for a file, in the same order. From notes, a prompt is only its id and digest.

        `name`: the file's name in the places of its rows. `plan`: hash of all in the recipe that decides what a row
        becomes. `seen`: ids of the prompts that this load has already met. `read` is called with the number of rows to
        pass over.
        """
        stamp = _stamp(path)
        if stamp is None or stamp["size"] < SMALLEST:
            yield from read(0)
            return
        ref, noted = self._ref(name, plan), _NOTES.empty_table()
        found = self._recalled(ref, path, stamp)
        if found is not None and self._suffices(found[0], seen):
            noted, whole = found
            yield from _placed(name, noted)
            if whole:
                return
        reading = self._unfinished[ref.path] = _Reading(ref, path, stamp, noted)
        for place, outcome in read(len(noted)):
            reading.add(_note(place.removeprefix(f"{name}:"), outcome))
            yield place, outcome
        del self._unfinished[ref.path]
        self._write(reading, file_digest(path))

    def keep_unfinished(self) -> None:
        """Write the notes on files that were not read to their end, as far as they were read.

        They have no digest: for that, all of the file would have to be read.
        """
        for reading in self._unfinished.values():
            self._write(reading, None)

    def tidy(self, keep: Iterable[tuple[str, str]] = ()) -> None:
        """Delete the notes on all files but those of some names and plans."""
        kept = {self._ref(name, plan).path.rpartition("/")[2] for name, plan in keep}
        folder = notes_ref("").path.rpartition("/")[0]
        for file in self._store.names_in(folder):
            if file.startswith("notes.") and file not in kept:
                self._store.files.remove(f"{folder}/{file}")

    def _ref(self, name: str, plan: str) -> TableRef:
        return notes_ref(fingerprint(self._code, plan, name)[:24])

    def _recalled(self, ref: TableRef, path: Path, stamp: dict[str, int]) -> tuple[pa.Table, bool] | None:
        """The notes on a file, and whether they are on all of it; None if it has changed or there are none."""
        try:
            found = self._store.read_arrow(ref)
            about = json.loads(found.schema.metadata[_ABOUT])
            if found.schema.remove_metadata() != _NOTES:
                return None
            if about["stamp"] == stamp and about["settled"]:
                return found, about["sha256"] is not None
            known = about["sha256"]
        except (TableError, ValueError, KeyError, TypeError):
            return None
        if known is None:
            return None
        digest = file_digest(path)
        if known != digest or stamp != _stamp(path):
            return None
        self._write(_Reading(ref, path, stamp, found), digest)
        return found, True

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

    def _write(self, reading: _Reading, digest: str | None) -> None:
        """Write the notes on a file, unless it changed while it was read. `digest`: None for notes on a part of it."""
        stamp = reading.stamp
        about: dict[str, Any] = {"stamp": stamp, "sha256": digest}
        about["settled"] = max(stamp["mtime_ns"], stamp["ctime_ns"]) < time.time_ns() - RECENT_NS
        if stamp == _stamp(reading.path):
            table = reading.table().replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
            self._store.write_arrow(reading.ref, table)


class _Reading:
    """What has been noted of a file so far."""

    def __init__(self, ref: TableRef, path: Path, stamp: dict[str, int], noted: pa.Table) -> None:
        self.ref, self.path, self.stamp = ref, path, stamp
        self._parts: list[pa.RecordBatch] = noted.replace_schema_metadata(None).to_batches()
        self._rows: list[dict[str, Any]] = []

    def add(self, note: dict[str, Any]) -> None:
        self._rows.append(note)
        if len(self._rows) == BATCH:
            self._parts.append(pa.RecordBatch.from_pylist(self._rows, schema=_NOTES))
            self._rows = []

    def table(self) -> pa.Table:
        rest = pa.RecordBatch.from_pylist(self._rows, schema=_NOTES)
        return pa.Table.from_batches([*self._parts, rest])


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
