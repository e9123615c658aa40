"""The tables, as pandera schemas: strict, so that a missing, foreign or mistyped column is an error.

One fact a row. Joins go by id, never by position. `TABLES` is the one list of what exists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.dtypes import immutable
from pandera.engines import pandas_engine

from pairsmith.errors import TableError


class Reason(StrEnum):
    """Why a row, a prompt, a completion or a pair was rejected."""

    UNREADABLE = "unreadable"  # the row is not valid JSON, CSV, UTF-8
    MISSING = "missing"  # the prompt's column is absent or null
    WRONG_TYPE = "wrong_type"  # the prompt's column holds neither text nor a chat
    BAD_CHAT = "bad_chat"  # roles, order or content of a chat are wrong
    BLANK = "blank"
    TOO_LONG = "too_long"
    DUPLICATE = "duplicate"
    CONTAMINATED = "contaminated"  # shares words with a benchmark of prompts.decontaminate
    NEAR_DUPLICATE = "near_duplicate"  # at least as similar to an earlier prompt as prompts.near_duplicates
    FORGOTTEN = "forgotten"  # a person had it taken out: see `pairsmith forget`
    NO_COMPLETION = "no_completion"  # no member gave a completion
    FAILED = "failed"  # the request failed for a temporary reason; the next run asks again
    REFUSED = "refused"  # the request would fail again, such as one longer than the model's context
    EMPTY = "empty"
    TRUNCATED = "truncated"
    EVOLUTION_FAILED = "evolution_failed"
    SUPERSEDED = "superseded"  # from an earlier round of evolution, where only the last is kept
    CHECK_FAILED = "check_failed"  # failed a check that the recipe makes a gate
    FLAGGED = "flagged"  # by the guard, which keeps it from being chosen, or from being a candidate at all
    SCREENED = "screened"  # a secret or personal data stand in it, and the recipe drops such texts
    UNRATED = "unrated"  # a judge gave no usable rating
    TOO_FEW = "too_few"  # fewer than two candidates
    TIE = "tie"
    MARGIN = "margin"
    CONFLICT = "conflict"  # the aspect overall disagrees with the other aspects
    IDENTICAL = "identical"
    SIMILAR = "similar"
    DISAGREE = "disagree"  # one of the raters in pairing.agree does not score the chosen text higher
    LENGTHS = "lengths"  # the lengths of the two texts differ by more than pairing.max_length_difference
    NO_MATCH = "no_match"  # no two candidates that the strategy may pair


class Stage(StrEnum):
    LOAD = "load"
    PAIR = "pair"


def _json_chat(value: str) -> bool:
    try:
        chat = json.loads(value)
    except ValueError:
        return False
    return bool(chat) and all(set(message) == {"role", "content"} for message in chat)


@pandas_engine.Engine.register_dtype
@immutable
class TextColumn(pandas_engine.DataType):
    """Text in pandas' own string type, which can hold nothing else, so checking the column's type is enough.

    Pandera's string types check each value, and build a report of failures even where there are none.
    """

    type = pd.StringDtype(na_value=np.nan)

    def check(self, pandera_dtype: Any, data_container: Any = None) -> bool:
        return isinstance(data_container.dtype, pd.StringDtype) if data_container is not None else False

    def __str__(self) -> str:
        return "str"


def _text(nullable: bool = False, **options: Any) -> pa.Column:
    return pa.Column(TextColumn, nullable=nullable, **options)


def _integer(*checks: pa.Check, nullable: bool = False) -> pa.Column:
    return pa.Column("Int64" if nullable else "int64", list(checks), nullable=nullable)


def _number(*checks: pa.Check, nullable: bool = False) -> pa.Column:
    return pa.Column("float64", list(checks), nullable=nullable)


def _schema(
    name: str, unique: list[str] | None = None, checks: list[pa.Check] | None = None, **columns: pa.Column
) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, checks, strict=True, ordered=True, unique=unique, name=name)


def _scores_fit(ratings: pd.DataFrame) -> pd.Series:
    """Whether each score is null, on the widest scale (0 to 100), or a reward, which may be any finite number."""
    score, reward = ratings["score"], ratings["protocol"] == "reward"
    fits: pd.Series = score.isna() | score.between(0, 100) | (reward & np.isfinite(score))
    return fits


Prompts = _schema(
    "prompts",
    unique=["prompt_id"],
    prompt_id=_text(),
    messages=_text(checks=pa.Check(_json_chat, element_wise=True, error="not a JSON chat")),
    system_prompt=_text(nullable=True),
    source=_text(),
    reference=_text(nullable=True),
    extras=_text(nullable=True),  # JSON object: what a row has beside its prompt, such as instructions, completions
)

Completions = _schema(
    "completions",
    unique=["completion_id"],
    completion_id=_text(),
    prompt_id=_text(),
    member=_text(),
    model=_text(),
    revision=_text(nullable=True),
    system_prompt=_text(nullable=True),
    text=_text(),
    finish_reason=_text(nullable=True),
    n_tokens=_integer(pa.Check.ge(0)),
    sample=_integer(pa.Check.ge(0)),
    seed=_integer(pa.Check.ge(0)),
    evolution=_integer(pa.Check.ge(0)),
    parent_id=_text(nullable=True),
    method=_text(nullable=True),
    request=_text(),  # the ledger's key of the request that this answers
    error=_text(nullable=True),
)

Ratings = _schema(
    "ratings",
    unique=["completion_id", "judge", "aspect", "order", "against"],
    checks=[pa.Check(_scores_fit, name="scores", error="a score beyond 0 to 100 that is no finite reward")],
    completion_id=_text(),
    prompt_id=_text(),
    judge=_text(),
    aspect=_text(),
    protocol=_text(checks=pa.Check.isin(["listwise", "pointwise", "pairwise", "check", "reward", "given", "criteria"])),
    order=_integer(pa.Check.ge(0)),  # number of the order in which a judge saw the texts, or of the criterion
    position=_integer(pa.Check.ge(0), nullable=True),
    rating=_integer(pa.Check.in_range(0, 100), nullable=True),  # null beside a score where the protocol is reward
    score=_number(nullable=True),
    rationale=_text(nullable=True),
    reply=_text(),
    request=_text(),
    error=_text(nullable=True),
    against=_text(nullable=True, required=False),  # the other completion of a comparison; only where there are any
)

# Yes/no questions about the answers to a prompt. Item 0 stands for a prompt without any, and has the error why.
Criteria = _schema(
    "criteria",
    unique=["prompt_id", "item"],
    prompt_id=_text(),
    item=_integer(pa.Check.ge(0)),
    question=_text(nullable=True),
    weight=_number(pa.Check.gt(0), nullable=True),
    check=_text(
        nullable=True
    ),  # the form by which a program decides, as `criteria_checks` reads it; null: a judge does
    author=_text(),  # name of the author, or of the file
    strong_id=_text(nullable=True),  # the answers that the author saw
    weak_id=_text(nullable=True),
    note=_text(nullable=True),  # what was not taken as it was written
    reply=_text(),  # of the author, where nothing or something in it could not be read
    request=_text(),
    error=_text(nullable=True),  # why it does not count; null where it does
)

Pairs = _schema(
    "pairs",
    unique=["chosen_id", "rejected_id"],
    prompt_id=_text(),
    chosen_id=_text(),
    rejected_id=_text(),
    chosen_member=_text(),
    rejected_member=_text(),
    chosen_model=_text(),
    rejected_model=_text(),
    chosen_score=_number(nullable=True),
    rejected_score=_number(nullable=True),
    margin=_number(nullable=True),
    similarity=_number(pa.Check.in_range(0, 1)),
    strategy=_text(),
    signal=_text(required=False),  # where the recipe has signals
)

# A row without completion_id rejects the whole prompt (or input row), which leaves the run there.
# A row with one is about a completion that could not be a candidate, or a pair that was not selected.
Rejections = _schema(
    "rejections",
    prompt_id=_text(nullable=True),
    completion_id=_text(nullable=True),
    stage=_text(checks=pa.Check.isin(list(Stage))),
    reason=_text(checks=pa.Check.isin(list(Reason))),
    detail=_text(),
)

TABLES: dict[str, pa.DataFrameSchema] = {
    "prompts": Prompts,
    "completions": Completions,
    "ratings": Ratings,
    "criteria": Criteria,
    "pairs": Pairs,
    "rejections": Rejections,
}


def frame(table: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Build a table from rows; absent optional columns become null. It is validated when it is stored.

    A column that a table need not have is left out where no row has anything in it.
    """
    columns = TABLES[table].columns
    made = {name: pd.Series([row.get(name) for row in rows], dtype=str(columns[name].dtype)) for name in columns}
    return pd.DataFrame({name: data for name, data in made.items() if columns[name].required or data.notna().any()})


def validated(table: str, data: pd.DataFrame) -> pd.DataFrame:
    """Return `data` if it fits the schema of `table`, else raise TableError."""
    schema = TABLES[table]
    try:
        schema.validate(data, lazy=True)
    except (pa.errors.SchemaErrors, pa.errors.SchemaError) as error:
        raise TableError(f"table {table}: {_summary(error)}") from None
    if table == "pairs" and (data["chosen_id"] == data["rejected_id"]).any():
        raise TableError("table pairs: a completion is both chosen and rejected")
    return data


def has_columns(table: str, names: Sequence[str]) -> bool:
    """Whether these are the columns of a table in their order, but for those that it need not have."""
    columns = TABLES[table].columns
    return list(names) == [name for name, column in columns.items() if column.required or name in names]


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts with None for every null, ready for JSON and for pure functions."""
    columns = [table[name].array.to_numpy(dtype=object) for name in table.columns]
    nulls = [table[name].isna().to_numpy() for name in table.columns]
    lists = []
    for values, null in zip(columns, nulls, strict=True):
        if null.any():
            values = values.copy()
            values[null] = None
        lists.append(values.tolist())
    names = [str(name) for name in table.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]


def _summary(error: pa.errors.SchemaErrors | pa.errors.SchemaError) -> str:
    if isinstance(error, pa.errors.SchemaError):
        return str(error)
    cases = error.failure_cases[["column", "check", "failure_case"]].head(3)
    return "; ".join(f"{case.column}: {case.check} ({case.failure_case!r})" for case in cases.itertuples())
