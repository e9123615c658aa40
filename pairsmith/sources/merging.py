"""Merge the rows that bring completions of the same prompt, wherever they are in the sources, into one prompt.

Rows are collected in a scratch SQLite database. SQLite moves it to disk when it outgrows its cache, so memory does not
grow with the texts, and deletes it when it is closed or the process ends.
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

MOST_LABELS = 256  # bounded since tables by member and by pairs of members are kept in memory and shown in the report
Placed = tuple[str, dict[str, Any] | Refused]  # a row's place, and its prompt or why there is none


def gather(found: Iterable[Placed]) -> Iterator[Placed]:
    """Yield refused rows as they come, then each prompt once, with the place and in the order of its first row.

    A prompt from several rows has their number in `rows`. A row that adds nothing is refused as a duplicate.
    Raises RunError if the scratch database cannot be written, DataError if there are too many labels to be those of
    members.
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
                        problem = f"{place}: more than {MOST_LABELS} different labels of completions"
                        raise DataError(f"{problem}; is completions.member the column of who wrote them?")
                    yield place, prompt
    except sqlite3.Error as error:
        problem = f"the scratch database for given completions, in {tempfile.gettempdir()}: {error}"
        raise RunError(f"{problem}; SQLITE_TMPDIR names another folder for it") from error


def _together(group: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[Placed]:
    """Yield the rows of one prompt that repeat an earlier one or add nothing, as refused; then the others, merged."""
    extras = [_extras(row) for _, row in group]
    brought = [canonical_json(each.get("completions", [])) for each in extras]
    kept = {completions: number for number, completions in reversed(list(enumerate(brought)))}  # -> their first row
    if len(kept) > 1:
        kept.pop("[]", None)
    first = group[min(kept.values())][0]
    for number, (place, _) in enumerate(group):
        if kept.get(brought[number]) != number:
            yield place, Refused(Reason.DUPLICATE, f"same prompt as {first}, and no other completions")
    prompt = _merged([row for _, row in group], extras) if len(group) > 1 else group[0][1]
    yield first, prompt | ({"rows": len(kept)} if len(kept) > 1 else {})


def _merged(prompts: Sequence[dict[str, Any]], extras: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One prompt from rows that bring different completions. If other fields differ too, the least value is taken."""
    instructions = [each["instructions"] for each in extras if "instructions" in each]
    whole = {
        "completions": united(item for each in extras for item in each.get("completions", [])),
        "instructions": min(instructions, default=None, key=canonical_json),
        "kept": min((each["kept"] for each in extras if "kept" in each), default=None, key=canonical_json),
    }
    least = {
        name: min((prompt[name] for prompt in prompts if prompt[name] is not None), default=None) for name in prompts[0]
    }
    found = {name: value for name, value in whole.items() if value}
    return least | {"extras": json.dumps(found, ensure_ascii=False, sort_keys=True) if found else None}


def _extras(prompt: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(prompt["extras"] or "{}"))
