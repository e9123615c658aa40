"""Rows that bring completions of one prompt, wherever they stand in the sources -> one prompt with all of them.

Rows wait in a scratch SQLite database, which goes to disk where it grows beyond SQLite's own cache, so memory does not
grow with the texts; SQLite deletes it when it is closed, and with the process.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from pairsmith.errors import DataError, RunError
from pairsmith.ids import canonical_json
from pairsmith.sources.given_completions import united
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason

MOST_LABELS = 256  # tables by member, and by two of them, are kept in memory and drawn in the report
Placed = tuple[str, dict[str, Any] | Refused]  # where a row stands, and the prompt in it or why there is none


def gather(found: Iterable[Placed]) -> Iterator[Placed]:
    """Refused rows as they come; then each prompt once, in the order of its first row, at whose place it stands.

    A prompt of several rows says in `rows` how many they were. A row that adds nothing is refused as a duplicate.
    Raises RunError where the scratch database cannot be written, DataError where the labels cannot be meant as such.
    """
    labels = set[str]()
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as scratch:
            scratch.execute("PRAGMA journal_mode = OFF")
            scratch.execute("CREATE TABLE read (number INTEGER PRIMARY KEY, id TEXT, place TEXT, prompt TEXT)")
            for place, prompt in found:
                if isinstance(prompt, Refused):
                    yield place, prompt
                    continue
                row = (prompt["prompt_id"], place, json.dumps(prompt))
                scratch.execute("INSERT INTO read (id, place, prompt) VALUES (?, ?, ?)", row)
            scratch.execute("CREATE INDEX by_id ON read (id)")
            for (prompt_id,) in scratch.execute("SELECT id FROM read GROUP BY id ORDER BY min(number)"):
                group = scratch.execute("SELECT place, prompt FROM read WHERE id = ? ORDER BY number", (prompt_id,))
                for place, prompt in _together([(place, json.loads(prompt)) for place, prompt in group]):
                    if isinstance(prompt, dict):
                        labels.update(item.get("member", "") for item in _extras(prompt).get("completions", []))
                    if len(labels) > MOST_LABELS:
                        told = f"{place}: more than {MOST_LABELS} different labels of completions"
                        raise DataError(f"{told}; is completions.member the column of who wrote them?")
                    yield place, prompt
    except sqlite3.Error as error:
        told = f"the scratch database for given completions, in {tempfile.gettempdir()}: {error}"
        raise RunError(f"{told}; SQLITE_TMPDIR names another folder for it") from error


def _together(group: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[Placed]:
    """The rows of one prompt as one, after those that repeat an earlier one or bring nothing."""
    extras = [_extras(row) for _, row in group]
    brought = [canonical_json(each.get("completions", [])) for each in extras]
    kept = {what: number for number, what in reversed(list(enumerate(brought)))}  # the first row that brings it
    if len(kept) > 1:
        kept.pop("[]", None)
    first = group[min(kept.values())][0]
    for number, (place, _) in enumerate(group):
        if kept.get(brought[number]) != number:
            yield place, Refused(Reason.DUPLICATE, f"same prompt as {first}, and no other completions")
    prompt = _merged([row for _, row in group], extras) if len(group) > 1 else group[0][1]
    yield first, prompt | ({"rows": len(kept)} if len(kept) > 1 else {})


def _merged(prompts: Sequence[dict[str, Any]], extras: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One prompt of several that differ in what they bring. Where they differ in more, the least value counts."""
    instructions = [each["instructions"] for each in extras if "instructions" in each]
    whole = {
        "completions": united(item for each in extras for item in each.get("completions", [])),
        "instructions": min(instructions, default=None, key=canonical_json),
    }
    least = {
        name: min((prompt[name] for prompt in prompts if prompt[name] is not None), default=None) for name in prompts[0]
    }
    found = {name: value for name, value in whole.items() if value}
    return least | {"extras": json.dumps(found, ensure_ascii=False, sort_keys=True) if found else None}


def _extras(prompt: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(prompt["extras"] or "{}"))
