"""Rows of a program's own: a pandas frame, a `datasets.Dataset` or a list of dicts -> rows of our tables, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from pairsmith.config import Columns, Source
from pairsmith.config.complaints import in_lines, mistakes
from pairsmith.errors import ConfigError
from pairsmith.sources.prompts import to_prompt
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason, Stage

Row = dict[str, Any]
Like = Callable[[list[Row], Sequence[str]], Any]  # rows and their columns -> what a program passed, with these rows
MOST_CHARACTERS = 10_000_000  # of a prompt
KINDS = "a pandas DataFrame, a datasets.Dataset or a list of dicts"


@dataclass(frozen=True)
class Rows:
    """Rows with the names of all their columns; `like` makes what the program passed of other rows."""

    rows: list[Row]
    columns: list[str]
    like: Like


def plain_rows(data: Any) -> Rows:
    """The rows of a frame, data set or list. Every null (None, NaN, NaT, NA) is None, and every array a list."""
    if isinstance(data, pd.DataFrame):
        names = [str(name) for name in data.columns]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"the frame has more than one column {sorted(doubled)[0]}: rename or drop one of them")
        return Rows([_plain(row) for row in data.astype(object).to_dict("records")], names, _as_frame)
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        found: list[Row] = [_plain(row) for row in data]
        return Rows(found, list(dict.fromkeys(name for row in found for name in row)), _as_list)
    if hasattr(data, "to_list") and hasattr(data, "column_names"):
        return Rows([_plain(row) for row in data.to_list()], list(data.column_names), _as_dataset)
    raise ConfigError(f"rows come as {KINDS}; this is a {type(data).__name__}")


def _plain(value: Any) -> Any:
    """A value without numpy's arrays and numbers, which parquet and pandas give, and with None for every null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    return None if value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value) else value


def _as_frame(rows: list[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _as_list(rows: list[Row], columns: Sequence[str]) -> list[Row]:
    return [{name: row[name] for name in columns} for row in rows]


def _as_dataset(rows: list[Row], columns: Sequence[str]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({name: [row[name] for row in rows] for name in columns})


def column_names(mapping: Mapping[str, str] | None) -> Columns:
    """Where the parts of a prompt stand. Raises ConfigError where a part has no such name."""
    source = {"path": "rows", "columns": dict(mapping or {})}
    try:
        return Source.model_validate(source).columns
    except ValidationError as error:
        parts = ", ".join(Columns.model_fields)
        wrong = in_lines(mistakes(error, source, Source), {})
        raise ConfigError(f"{wrong.strip()}\nThe keys are {parts}; the values say where each stands") from None


@dataclass
class FoundPrompts:
    """The prompts that rows hold, in the order in which they come, each once.

    `ids`: the prompt of each row; null where the row was refused. `rejections`: rows of that table for those.
    """

    prompts: dict[str, Row] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)  # prompt_id -> the row that it stands in first
    ids: list[str | None] = field(default_factory=list)
    rejections: list[Row] = field(default_factory=list)

    @property
    def table(self) -> list[Row]:
        """Rows of the prompts table."""
        return list(self.prompts.values())

    @property
    def repeated(self) -> list[Row]:
        """Rejections for rows that hold the prompt of an earlier row."""
        return [
            rejection(number, Reason.DUPLICATE, f"same prompt as row {self.first[name]}", name)
            for number, name in enumerate(self.ids)
            if name is not None and self.first[name] != number
        ]


def rejection(
    number: int, reason: Reason, detail: str, prompt_id: str | None = None, completion_id: str | None = None
) -> Row:
    """A row of the rejections table about a row of a program's; rows are counted from 0."""
    place = {"prompt_id": prompt_id, "completion_id": completion_id, "stage": Stage.LOAD, "reason": reason}
    return place | {"detail": f"row {number}: {detail}"}


def prompts_in(table: Rows, columns: Columns) -> FoundPrompts:
    """Raises ConfigError where no row has a prompt, since then its column has another name or holds something else."""
    source, given = Source(path="rows", columns=columns), FoundPrompts()
    wrong: list[str] = []
    for number, row in enumerate(table.rows):
        try:
            prompt = to_prompt(row, source, MOST_CHARACTERS)
        except Refused as refused:
            wrong += [refused.detail] if refused.reason in (Reason.MISSING, Reason.WRONG_TYPE) else []
            given.rejections.append(rejection(number, refused.reason, refused.detail))
            given.ids.append(None)
        else:
            name = prompt["prompt_id"]
            given.prompts.setdefault(name, prompt)
            given.first.setdefault(name, number)
            given.ids.append(name)
    if wrong and len(wrong) == len(table.rows):
        name = next(iter(table.columns), "text")
        raise ConfigError(f"no prompt in any row: {wrong[0]}. Name the column, as in columns={{'prompt': {name!r}}}")
    return given


def with_columns(made: Iterable[tuple[Row, Row]], names: Sequence[str]) -> list[Row]:
    """Rows that have these columns of a program's row beside our own; each comes as (its row, ours)."""
    return [{name: brought.get(name) for name in names} | own for brought, own in made]
