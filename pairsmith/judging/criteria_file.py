"""Criteria as a file: a JSON object a line, as a data set has them, to be edited or written by hand, and read back.

Needed are `prompt_id` and `question`; `weight` (a number above 0, or essential, important, optional; 1 when absent) and
`check` (a form, see `criteria_checks`) may be there. A line with an `error` stays out, and its prompt is named all the
same. The other columns of the table are accepted and not read.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pairsmith.errors import ConfigError
from pairsmith.ids import strict_json
from pairsmith.judging.criteria import criterion_row
from pairsmith.judging.criteria_reply import Item, read_item
from pairsmith.judging.criteria_sifting import told_apart
from pairsmith.storage.row_types import CriterionRow
from pairsmith.storage.schemas import TABLES

FIELD = "rating.criteria.file"
BY_HAND = "file"  # who writes criteria where no author does
ByPrompt = dict[str, list[Item]]  # prompt_id -> its items, in their order


def read_criteria(path: str) -> ByPrompt:
    """The criteria in a file. Raises ConfigError that names the line, the field and the mistake."""
    found: ByPrompt = defaultdict(list)
    for number, line in enumerate(_content(path).decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            prompt_id, item = _item(line, f"{FIELD}: {path}, line {number}")
            if item:
                found[prompt_id].append(item)
    return dict(found)


def digest_of_file(path: str) -> str:
    """A digest of what a file holds. Raises ConfigError where it cannot be read."""
    return hashlib.sha256(_content(path)).hexdigest()


def rows_by_hand(found: Mapping[str, list[Item]], prompt_ids: Iterable[str], most: int) -> list[CriterionRow]:
    """Rows of the criteria table for those of the prompts that a file names."""
    return [
        criterion_row(number, item, _whole(prompt_id))
        for prompt_id in prompt_ids
        for number, item in enumerate(told_apart(found.get(prompt_id, ()), most), 1)
    ]


def written_out(rows: Iterable[CriterionRow]) -> list[str]:
    """Rows of the criteria table as lines of a file; a prompt without any item has none."""
    shown = ("prompt_id", "item", "question", "weight", "check", "author", "note", "error")
    kept = (row for row in rows if row["item"])
    return [json.dumps({name: row[name] for name in shown}, ensure_ascii=False) for row in kept]  # type: ignore[literal-required]


def _whole(prompt_id: str) -> dict[str, str | None]:
    return {"prompt_id": prompt_id, "author": BY_HAND, "strong_id": None, "weak_id": None, "reply": "", "request": ""}


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{FIELD}: {path} cannot be read: {error.strerror or error}") from None


def _item(line: str, where: str) -> tuple[str, Item | None]:
    """The prompt of a line and its item; null where the line only says why a prompt has none."""
    try:
        row: Any = strict_json(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt_id"), str):
        raise ConfigError(f"{where}: give a JSON object with prompt_id, as `pairsmith criteria` writes it")
    if unknown := sorted(set(row) - {*TABLES["criteria"].columns}):
        raise ConfigError(
            f"{where}: there is no field {unknown[0]}; those to edit are question, weight, check and error"
        )
    out = row.get("error")
    if out and not row.get("question"):
        return row["prompt_id"], None
    item = read_item(row | ({"weight": 1.0} if row.get("weight") is None else {}))
    if (problem := item.error or item.note) and not out:
        raise ConfigError(f"{where}: {problem.removeprefix('unreadable: ')}")
    return row["prompt_id"], Item(item.question, item.weight, item.check, None, str(out) if out else None)
