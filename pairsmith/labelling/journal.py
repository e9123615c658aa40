"""What people said, one JSON line a label, never rewritten; of several lines about a pair the last one counts.

Each person has a file of their own, in the folder `labels` beside a data set's versions. A line holds no text of the
data set. A label is on the disk before the page is told that it was taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from filelock import Timeout

from pairsmith.errors import ConfigError, DamagedFile, RunError
from pairsmith.ids import strict_json
from pairsmith.storage.disk import sync_folder
from pairsmith.storage.locks import kernel_lock
from pairsmith.worth.gold import VERDICTS, Better

LONGEST_NAME, LONGEST_NOTE = 60, 2_000  # characters
_PREFIX, _ENDING = "by-", ".jsonl"


@dataclass(frozen=True)
class Label:
    """What a person said of a pair, named by its key.

    `better`: None where they took it back. `left`: which answer stood on the left. `drawn`: why the pair was shown, out
    of `asked` pairs that `seed` drew from `version`; `asked` is 0 for a label that came from elsewhere. `at`: when, as
    an ISO 8601 time in UTC.
    """

    pair: str
    better: Better | None
    who: str
    left: Literal["a", "b"]
    drawn: str
    version: str
    seed: int
    asked: int
    at: str
    note: str = ""


_FIELDS = {field.name for field in fields(Label)}


def check_name(who: str) -> str:
    """A person's name as it may stand in a file's name. Raises ConfigError for another."""
    who = who.strip()
    if not who or len(who) > LONGEST_NAME or not who.isprintable():
        raise ConfigError(f"who labels (--by) is {who!r:.80}: give a name of 1 to {LONGEST_NAME} printable characters")
    return who


def journal_of(folder: Path, who: str) -> Path:
    return folder / f"{_PREFIX}{quote(who, safe='@ ')}{_ENDING}"


def labels_in(folder: Path) -> dict[str, dict[str, Label]]:
    """What each person says now of each pair: person -> pair -> label. Raises DamagedFile as `read_labels` does."""
    found: dict[str, dict[str, Label]] = {}
    for path in sorted(folder.glob(f"{_PREFIX}*{_ENDING}")):
        for label in read_labels(path):
            found.setdefault(label.who, {})[label.pair] = label
    return {who: {pair: one for pair, one in labels.items() if one.better} for who, labels in found.items()}


def read_labels(path: Path) -> Iterator[Label]:
    """All lines of a journal in order. A last line without its end was never confirmed, and is left out.

    Raises DamagedFile with the line's number where another line is no label.
    """
    content = path.read_bytes()
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            yield _label(strict_json(line.decode("utf-8")))
        except (ValueError, TypeError) as error:
            raise DamagedFile(f"{path}:{number}: no label: {error}") from None


def _label(value: Any) -> Label:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise ValueError(f"it has not the fields {', '.join(sorted(_FIELDS))}")
    texts = [value[name] for name in ("pair", "who", "drawn", "version", "at", "note")]
    numbers = [value[name] for name in ("seed", "asked")]
    if not all(isinstance(one, str) for one in texts) or not all(type(one) is int for one in numbers):
        raise ValueError("seed and asked are whole numbers, and all but them texts")
    if value["better"] not in (*VERDICTS, None) or value["left"] not in ("a", "b"):
        raise ValueError(f"better is {value['better']!r:.40}, left is {value['left']!r:.40}")
    return Label(**value)


class Journal:
    """The journal of one person, open for more. Made by `open_journal`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now: dict[str, Label] = {}  # pair -> the label that counts, the last given last
        for label in read_labels(path):
            self._take(label)

    def add(self, label: Label) -> None:
        """Write a label and sync it to the disk. Raises OSError where that fails, and then the label does not count.

        Half a character in a note (a lone surrogate), which no encoding can store, becomes a question mark.
        """
        line = (json.dumps(asdict(label), ensure_ascii=False) + "\n").encode("utf-8", "replace")
        with open(self.path, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, end)
                raise
        self._take(_label(strict_json(line.decode("utf-8"))))

    def _take(self, label: Label) -> None:
        self.now.pop(label.pair, None)
        if label.better:
            self.now[label.pair] = label


@contextmanager
def open_journal(folder: Path, who: str) -> Iterator[Journal]:
    """A person's journal, which no other process may write meanwhile; half a line at its end is cut off.

    Raises RunError where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = journal_of(folder, who)
    lock = kernel_lock(path.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(f"{path}: {who} is labelling already, in another process; stop that one first") from None
    try:
        path.touch()
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
        sync_folder(folder)
        yield Journal(path)
    finally:
        lock.release()
