"""Rows of a program's own: a pandas frame, a `datasets.Dataset` or a list of dicts -> rows of our tables, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pairsmith.config import Columns, Source
from pairsmith.errors import ConfigError
from pairsmith.ids import completion_id
from pairsmith.sources.prompts import to_prompt
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason, Stage

Row = dict[str, Any]
Like = Callable[[list[Row], Sequence[str]], Any]  # rows and their columns -> what a program passed, with these rows
TEXT = "completion"  # the column of an answer's text
MOST_CHARACTERS = 10_000_000  # of a prompt


def plain_rows(data: Any) -> tuple[list[Row], Like]:
    """The rows of a frame, data set or list, and what makes the like of it of other rows."""
    if isinstance(data, pd.DataFrame):
        values = data.astype(object).where(data.notna(), None).to_dict("records")
        return [_plain(row) for row in values], lambda rows, columns: pd.DataFrame(rows, columns=list(columns))
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        return [_plain(row) for row in data], _as_list
    if hasattr(data, "to_list") and hasattr(data, "column_names"):
        return data.to_list(), _as_dataset
    kinds = "a pandas DataFrame, a datasets.Dataset or a list of dicts"
    raise ConfigError(f"rows come as {kinds}; this is a {type(data).__name__}")


def _plain(value: Any) -> Any:
    """A value without arrays, which parquet gives in the place of lists."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    return value


def _as_list(rows: list[Row], columns: Sequence[str]) -> list[Row]:
    return [{name: row[name] for name in columns} for row in rows]


def _as_dataset(rows: list[Row], columns: Sequence[str]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({name: [row[name] for row in rows] for name in columns})


@dataclass
class FoundPrompts:
    """The prompts that rows hold, in the order in which they come, each once.

    `ids`: the prompt of each row; null where the row was refused. `rejections`: rows of that table for those.
    """

    prompts: dict[str, Row] = field(default_factory=dict)
    ids: list[str | None] = field(default_factory=list)
    rejections: list[Row] = field(default_factory=list)

    @property
    def table(self) -> list[Row]:
        """Rows of the prompts table."""
        return list(self.prompts.values())


def prompts_in(rows: Sequence[Row], columns: Columns) -> FoundPrompts:
    """Raises ConfigError where no row has a prompt, since then its column has another name."""
    source, given = Source(path="rows", columns=columns), FoundPrompts()
    missing: list[str] = []
    for number, row in enumerate(rows):
        try:
            prompt = to_prompt(row, source, MOST_CHARACTERS)
        except Refused as refused:
            missing += [refused.detail] if refused.reason is Reason.MISSING else []
            rejection = {"prompt_id": None, "completion_id": None, "stage": Stage.LOAD, "reason": refused.reason}
            given.rejections.append(rejection | {"detail": f"row {number}: {refused.detail}"})
            given.ids.append(None)
        else:
            given.prompts.setdefault(prompt["prompt_id"], prompt)
            given.ids.append(prompt["prompt_id"])
    if rows and len(missing) == len(rows):
        first = next(iter(rows[0]), "text")
        raise ConfigError(f"no prompt in any row: {missing[0]}. Name the column, as in columns={{'prompt': {first!r}}}")
    return given


def completions_in(rows: Sequence[Row], given: FoundPrompts, step: str) -> list[Row]:
    """Rows of the completions table, of rows that hold a prompt and an answer to it in the column `completion`."""
    if rows and not any(TEXT in row for row in rows):
        there = ", ".join(map(str, rows[0]))
        raise ConfigError(f"{step} needs the column {TEXT}, the text of an answer; the rows have {there}. Rename yours")
    made: dict[str, Row] = {}
    for number, (row, prompt_id) in enumerate(zip(rows, given.ids, strict=True)):
        if prompt_id is None:
            continue
        completion = _completion(row, prompt_id, number)
        made.setdefault(completion["completion_id"], completion)
    return list(made.values())


def _completion(row: Row, prompt_id: str, number: int) -> Row:
    text, error = row.get(TEXT), row.get("error")
    if text is None and error is None:
        error = f"{Reason.EMPTY}: row {number} has no {TEXT}"
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"row {number}: the column {TEXT} holds {type(text).__name__}, not text")
    text, member = text or "", str(row.get("member") or "given")
    sample, evolution, parent = int(row.get("sample") or 0), int(row.get("evolution") or 0), row.get("parent_id")
    return {
        "completion_id": row.get("completion_id") or completion_id(prompt_id, member, sample, evolution, parent, text),
        "prompt_id": prompt_id,
        "member": member,
        "model": str(row.get("model") or member),
        "revision": row.get("revision"),
        "system_prompt": row.get("member_system_prompt"),
        "text": text,
        "finish_reason": row.get("finish_reason"),
        "n_tokens": int(row.get("n_tokens") or 0),
        "sample": sample,
        "seed": int(row.get("seed") or 0),
        "evolution": evolution,
        "parent_id": parent,
        "method": row.get("method"),
        "request": str(row.get("request") or ""),
        "error": error,
    }


def shown_completions(found: Iterable[Row], rows: Sequence[Row], given: FoundPrompts) -> tuple[list[Row], list[str]]:
    """Completions as rows of a program: what the row of their prompt has, and our columns; with all columns' names."""
    first: dict[str, Row] = {}
    for row, prompt_id in zip(rows, given.ids, strict=True):
        if prompt_id is not None:
            first.setdefault(prompt_id, row)
    ours = ["completion_id", "prompt_id", "member", "model", "revision", "member_system_prompt", TEXT]
    ours += ["finish_reason", "n_tokens", "sample", "seed", "evolution", "parent_id", "method", "request", "error"]
    theirs = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ours]
    made = []
    for row in found:
        named = row | {TEXT: row["text"], "member_system_prompt": row["system_prompt"]}
        brought = first[row["prompt_id"]]
        made.append({name: brought.get(name) for name in theirs} | {name: named[name] for name in ours})
    return made, [*theirs, *ours]
