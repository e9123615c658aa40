"""The file formats of pairs: parquet, JSON lines, CSV for spreadsheets, and rows for trainers of KTO and rewards."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.storage.datafiles import CHAT, MARGIN
from pairsmith.text.templating import transcript

CSV = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score", MARGIN, "chosen_member", "rejected_member",
       "source", "prompt_id")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula
KTO = pa.schema([("prompt", CHAT), ("completion", CHAT), ("label", pa.bool_()), ("prompt_id", pa.string())])
REWARD = pa.schema([("chosen", CHAT), ("rejected", CHAT), ("prompt_id", pa.string())])


def reward_rows(found: Iterable[dict[str, Any]], kept: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Pairs with their prompt left implicit: chosen and rejected are whole chats that begin alike; and `kept` columns.

    >>> row = {"prompt": ["Why?"], "chosen": ["So."], "rejected": ["No."], "prompt_id": "p", "source": "a"}
    >>> reward_rows([row])
    [{'chosen': ['Why?', 'So.'], 'rejected': ['Why?', 'No.'], 'prompt_id': 'p'}]
    """
    names = ("prompt_id", *kept)
    return [
        {side: row["prompt"] + row[side] for side in ("chosen", "rejected")} | {name: row[name] for name in names}
        for row in found
    ]


def kto_rows(found: Iterable[dict[str, Any]], kept: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows of prompt, completion, label and `kept` columns, each completion once.

    One that is chosen in a pair and rejected in another is left out.
    """
    kept = tuple(kept)
    labels: dict[str, set[bool]] = defaultdict(set)
    made: dict[str, dict[str, Any]] = {}
    for row in found:
        for side, label in (("chosen", True), ("rejected", False)):
            name = row[f"{side}_id"]
            labels[name].add(label)
            made[name] = {
                "prompt": row["prompt"], "completion": row[side], "label": label, "prompt_id": row["prompt_id"]
            } | {column: row[column] for column in kept}  # fmt: skip
    return [row for name, row in made.items() if len(labels[name]) == 1]


class DataWriters:
    """The open files of one version, by file group (such as `data/train`), written in one pass.

    `parts`: how many files each group has. One file is named after its group, several are numbered: `train.parquet`, or
    `train-00000-of-00002.parquet` and so on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parquet: dict[str, pq.ParquetWriter] = {}
        self._lines: dict[str, Any] = {}
        self._cells: dict[str, Any] = {}
        self.parts: dict[str, int] = defaultdict(int)

    def __enter__(self) -> DataWriters:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_part()
        for file in self._cells.values():
            file.close()
        for group, count in self.parts.items():
            for path in self._folder.glob(f"{group}-*"):
                number = f"{path.stem[-5:]}-of-{count:05}"
                path.rename(self._folder / f"{group}{f'-{number}' if count > 1 else ''}{path.suffix}")

    def end_part(self) -> None:
        """End a part: what comes next is in other files, but for tables of cells, which people open as one."""
        for file in [*self._parquet.values(), *self._lines.values()]:
            file.close()
        self._parquet.clear()
        self._lines.clear()

    def write(self, group: str, schema: pa.Schema, part: pa.Table) -> None:
        if group not in self._parquet:
            self._parquet[group] = pq.ParquetWriter(self._next_path(group, ".parquet"), schema)
        self._parquet[group].write_table(part)

    def write_rows(self, group: str, schema: pa.Schema, part: list[dict[str, Any]]) -> None:
        self.write(group, schema, pa.Table.from_pylist(part, schema=schema))

    def write_lines(self, group: str, part: list[dict[str, Any]]) -> None:
        if group not in self._lines:
            self._lines[group] = open(self._next_path(group, ".jsonl"), "w", encoding="utf-8")  # noqa: SIM115
        self._lines[group].writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part)

    def write_cells(self, group: str, part: list[dict[str, Any]], kept: Sequence[str] = ()) -> None:
        names = (*CSV, *kept)
        first = group not in self._cells
        if first:
            file = open(self._next_path(group, ".csv"), "w", encoding="utf-8-sig", newline="")  # noqa: SIM115
            self._cells[group] = file
        writer = csv.writer(self._cells[group])
        writer.writerows([names] if first else [])
        writer.writerows([_cell(row[name]) for name in names] for row in part)

    def _next_path(self, group: str, suffix: str) -> Path:
        """Where the next part of a group is written, until all its parts are known."""
        path = self._folder / f"{group}-{self.parts[group]:05}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parts[group] += 1
        return path


def _cell(value: Any) -> Any:
    """A cell of the CSV export: chats as text, lists of texts as JSON, an apostrophe before what a sheet would run."""
    if isinstance(value, list):
        is_chat = any(isinstance(one, dict) for one in value)
        text: Any = transcript(value) if is_chat else json.dumps(value, ensure_ascii=False)
    else:
        text = value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
