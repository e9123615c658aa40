"""Frames, data sets and lists of dicts as rows, and the prompts that are found in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from pairsmith.building.rows import column_names, plain_rows, prompts_in
from pairsmith.errors import ConfigError
from tests.runs import contents

KINDS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "frame": pd.DataFrame,
    "data set": datasets.Dataset.from_list,
    "list": list,
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_as_what_they_came_as(kind: str) -> None:
    rows = [{"prompt": "a", "n": 1, "tags": ["x"]}, {"prompt": "b", "n": 2, "tags": []}]
    data = KINDS[kind](rows)
    table = plain_rows(data)
    assert (table.rows, table.columns) == (rows, ["prompt", "n", "tags"])
    back = table.like(table.rows[::-1], ["n", "prompt"])
    assert type(back) is type(data)
    assert plain_rows(back).rows == [{"n": 2, "prompt": "b"}, {"n": 1, "prompt": "a"}]


def test_every_null_is_none_and_every_array_a_list() -> None:
    chat = np.array([{"role": "user", "content": "Hi"}], dtype=object)
    values = [None, float("nan"), np.float32("nan"), pd.NaT, pd.NA, np.int64(3), chat, (1, np.array([2.0, np.nan]))]
    plain = [None] * 5 + [3, [{"role": "user", "content": "Hi"}], [1, [2.0, None]]]
    assert plain_rows([{"x": value} for value in values]).rows == [{"x": value} for value in plain]
    assert plain_rows(pd.DataFrame({"x": pd.Series(values, dtype=object)})).rows == [{"x": value} for value in plain]
    numbers = plain_rows(pd.DataFrame({"x": [1, 2], "y": [1.0, np.nan], "z": pd.array([1, None], dtype="Int64")})).rows
    assert numbers == [{"x": 1, "y": 1.0, "z": 1}, {"x": 2, "y": None, "z": None}]


def test_an_index_and_names_of_columns_that_are_no_text() -> None:
    table = plain_rows(pd.DataFrame({"prompt": ["a", "b"], 7: [1, 2]}, index=["x", "x"]))
    assert table.rows == [{"prompt": "a", "7": 1}, {"prompt": "b", "7": 2}]
    assert table.columns == ["prompt", "7"]


def test_columns_of_a_list_are_those_of_any_row_and_an_empty_frame_keeps_its_own() -> None:
    assert plain_rows([{"a": 1}, {"b": 2, "a": 3}]).columns == ["a", "b"]
    assert plain_rows(pd.DataFrame({"a": [], "b": []})).columns == ["a", "b"]
    assert plain_rows([]).columns == []


@pytest.mark.parametrize("data", ["text", {"prompt": ["a"]}, ["a"], None, 3, pd.Series(["a"])])
def test_what_holds_no_rows_is_refused_by_name(data: Any) -> None:
    with pytest.raises(ConfigError, match=f"a pandas DataFrame, .* this is a {type(data).__name__}"):
        plain_rows(data)


def test_two_columns_of_a_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than one column prompt: rename or drop one"):
        plain_rows(pd.DataFrame([["a", "b"]], columns=["prompt", "prompt"]))


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "Hi"}, None),
        ({"messages": [{"role": "user", "content": "Hi"}]}, None),
        ({"q": "Hi"}, {"prompt": "q"}),
        ({"deep": {"q": ["no", "Hi"]}}, {"prompt": "deep.q.1"}),
        ({"a": "H", "b": "i"}, {"prompt": "{{ a }}{{ b }}"}),
        ({"chat": [{"role": "user", "content": "Hi"}]}, {"messages": "chat"}),
    ],
)
def test_where_a_prompt_stands(row: dict[str, Any], columns: dict[str, str] | None) -> None:
    assert contents(prompts_in(plain_rows([row]), column_names(columns)).table) == ["Hi"]


def test_system_prompt_reference_and_source_are_found_too() -> None:
    row = {"q": "Hi", "system_prompt": "Be kind.", "gold": "Hello", "source": "mine"}
    (prompt,) = prompts_in(plain_rows([row]), column_names({"prompt": "q", "reference": "gold"})).table
    assert (prompt["system_prompt"], prompt["reference"], prompt["source"]) == ("Be kind.", "Hello", "mine")


def test_a_prompt_in_several_rows_counts_once_and_rows_without_one_are_rejected() -> None:
    values = ["a", None, "b", " a ", "", float("nan"), 5, "b"]
    found = prompts_in(plain_rows([{"prompt": value} for value in values]), column_names(None))
    assert contents(found.table) == ["a", "b"]
    a, b = found.prompts
    assert found.ids == [a, None, b, a, None, None, None, b]
    assert [(row["reason"], row["detail"].partition(":")[0]) for row in found.rejections] == [
        ("missing", "row 1"),
        ("blank", "row 4"),
        ("missing", "row 5"),
        ("wrong_type", "row 6"),
    ]
    assert [(row["prompt_id"], row["reason"], row["detail"]) for row in found.repeated] == [
        (a, "duplicate", "row 3: same prompt as row 0"),
        (b, "duplicate", "row 7: same prompt as row 2"),
    ]


@pytest.mark.parametrize(
    ("row", "columns", "told"),
    [
        ({"text": "Hi"}, None, "none of the columns .*prompt.*the row has text.*columns={'prompt': 'text'}"),
        ({"prompt": "Hi"}, {"prompt": "q"}, "column q is absent or null"),
        ({"prompt": 5}, None, "column prompt holds int, not text"),
    ],
)
def test_a_prompt_in_no_row_is_a_wrong_column(row: dict[str, Any], columns: dict[str, str] | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        prompts_in(plain_rows([row, row]), column_names(columns))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"promt": "q"}, "columns.promt: there is no such field; .*\\nThe keys are prompt, messages, "),
        ({"prompt": 5}, "columns.prompt: must be text"),
        ({"prompt": "{{ a"}, "columns.prompt"),
        ({"prompt": "a", "messages": "b"}, "either prompt or messages"),
    ],
)
def test_a_wrong_mapping_is_told(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        column_names(columns)
