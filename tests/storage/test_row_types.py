from __future__ import annotations

from types import NoneType
from typing import NotRequired, get_args, get_origin, get_type_hints

import pytest

from pairsmith.storage.row_types import (
    CompletionRow,
    CriterionRow,
    PairRow,
    PromptRow,
    RatingRow,
    RejectionRow,
    rows_as,
)
from pairsmith.storage.schemas import TABLES, frame

ROW_TYPES = {
    "prompts": PromptRow,
    "completions": CompletionRow,
    "criteria": CriterionRow,
    "ratings": RatingRow,
    "pairs": PairRow,
    "rejections": RejectionRow,
}
PYTHON = {"str": str, "int64": int, "Int64": int, "float64": float}


@pytest.mark.parametrize("name", TABLES)
def test_a_row_type_has_the_columns_of_its_table_and_their_types(name: str) -> None:
    hints = get_type_hints(ROW_TYPES[name])
    assert list(hints) == list(TABLES[name].columns)
    for column, schema in TABLES[name].columns.items():
        kinds = set(get_args(hints[column]) or [hints[column]])
        assert (NoneType in kinds) == schema.nullable, column
        (kind,) = kinds - {NoneType}
        assert issubclass(kind, PYTHON[str(schema.dtype)]), column


@pytest.mark.parametrize("name", TABLES)
def test_only_a_column_that_may_be_null_or_absent_can_be_left_out_of_a_row(name: str) -> None:
    hints = get_type_hints(ROW_TYPES[name], include_extras=True)
    optional = [column for column, hint in hints.items() if get_origin(hint) is NotRequired]
    columns = [TABLES[name].columns[column] for column in optional]
    assert all(column.nullable or not column.required for column in columns)


def test_rows_of_a_table_are_plain_values_with_none_for_null() -> None:
    row: PromptRow = {
        "prompt_id": "p", "messages": "[]", "system_prompt": None, "source": "s", "reference": "r", "extras": None,
    }  # fmt: skip
    assert rows_as(PromptRow, frame("prompts", [row])) == [row]
