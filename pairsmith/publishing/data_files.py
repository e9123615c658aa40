"""The data files of a version: tables of pairs -> files in each form that the recipe names, by split and in parts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairsmith.config import Publishing, Recipe
from pairsmith.ids import draw
from pairsmith.publishing.exports import KTO, REWARD, DataWriters, kto_rows, reward_rows
from pairsmith.publishing.parts import LEAST_ROWS_A_PART, ends_part
from pairsmith.reporting.repeats import Repeats
from pairsmith.storage.datafiles import PREFERENCE, table_as_published

SHOWN = 200  # pairs in the report, and refused rows


@dataclass(frozen=True)
class Written:
    """What is to be told of the data files that were written.

    `shown`: rows to show; `files`: the number of files by group, such as `data/train`; `repeats`: texts that answer
    many prompts.
    """

    shown: list[dict[str, Any]]
    files: dict[str, int]
    repeats: Repeats


def write_data(
    recipe: Recipe, folder: Path, tables: Iterable[pa.Table], rows_a_part: int = LEAST_ROWS_A_PART
) -> Written:
    """Write all data files from tables of pairs, in parts of about so many rows. All tables have the same columns."""
    shown, kept = list[dict[str, Any]](), recipe.kept
    repeats = Repeats()
    with DataWriters(folder) as writers:
        for table in map(table_as_published, tables):
            shown = first_drawn(shown, table)
            repeats.add(table)
            for split, part in by_split(table, recipe.publishing).items():
                own = [part.schema.field(name) for name in kept]
                writers.write(f"data/{split}", pa.schema([*PREFERENCE, *own]), part)
                if "kto" in recipe.publishing.exports:
                    rows = kto_rows(part.to_pylist(), kept)
                    writers.write_rows(f"kto/{split}", pa.schema([*KTO, *own]), rows)
                if "reward" in recipe.publishing.exports:
                    rows = reward_rows(part.to_pylist(), kept)
                    writers.write_rows(f"reward/{split}", pa.schema([*REWARD, *own]), rows)
                if "jsonl" in recipe.publishing.exports:
                    writers.write_lines(f"jsonl/{split}", part.to_pylist())
                if "csv" in recipe.publishing.exports:
                    writers.write_cells(f"csv/{split}", part.to_pylist(), kept)
            if ends_part(table, rows_a_part):
                writers.end_part()
    return Written(shown, dict(writers.parts), repeats)


def first_drawn(shown: list[dict[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """The SHOWN rows that a draw by their ids puts first, among those of `shown` and those of one more table.

    The result does not depend on the tables or their order, so it is a fair sample of all rows, and only these rows are
    in memory.
    """
    ids = table.select(["prompt_id", "chosen_id", "rejected_id"]).to_pylist()
    few = heapq.nsmallest(SHOWN, range(len(ids)), key=lambda number: _lot(ids[number]))
    return heapq.nsmallest(SHOWN, [*shown, *table.take(pa.array(few, pa.int64())).to_pylist()], key=_lot)


def _lot(row: dict[str, Any]) -> float:
    return draw("shown", row["prompt_id"], row["chosen_id"], row["rejected_id"])


def by_split(table: pa.Table, publishing: Publishing) -> dict[str, pa.Table]:
    """Rows by split, drawn by prompt: no prompt is in both splits, and none moves when others are added."""
    names = table.column("prompt_id").to_pylist()
    test = [draw("test", publishing.seed, name) < publishing.test_fraction for name in names]
    parts = {"train": table.filter(pa.array([not drawn for drawn in test], pa.bool_())) if any(test) else table}
    parts["test"] = table.filter(pa.array(test, pa.bool_()))
    return {split: part for split, part in parts.items() if len(part)}
