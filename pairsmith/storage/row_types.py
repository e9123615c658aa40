"""A type for the rows of each table: the columns of `schemas`, None where a column may be null.

A step that reads a table asks for its rows by type, so that mypy finds a misspelt column or an unhandled null.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict, TypeVar, cast

import pandas as pd

from pairsmith.storage.schemas import Reason, Stage, rows


class PromptRow(TypedDict):
    prompt_id: str
    messages: str  # a JSON chat
    system_prompt: str | None
    source: str
    reference: str | None
    extras: str | None  # a JSON object


class CompletionRow(TypedDict):
    """A completion. Columns that only some completions have may be left out; `schemas.frame` adds nulls."""

    completion_id: str
    prompt_id: str
    member: str
    model: str
    revision: NotRequired[str | None]
    system_prompt: NotRequired[str | None]
    text: str
    finish_reason: NotRequired[str | None]
    n_tokens: int
    sample: int
    seed: int
    evolution: int
    parent_id: NotRequired[str | None]
    method: NotRequired[str | None]
    request: str
    error: str | None


class RatingRow(TypedDict):
    completion_id: str
    prompt_id: str
    judge: str
    aspect: str
    protocol: str
    order: int
    position: NotRequired[int | None]
    rating: int | None
    score: float | None
    rationale: str | None
    reply: str
    request: str
    error: str | None
    against: NotRequired[str | None]


class CriterionRow(TypedDict):
    """A yes/no question about the answers to a prompt; item 0 says why a prompt has none."""

    prompt_id: str
    item: int
    question: str | None
    weight: float | None
    check: str | None
    author: str
    strong_id: str | None
    weak_id: str | None
    note: str | None
    reply: str
    request: str
    error: str | None


def unrated(completion: CompletionRow, judge: str, aspect: str, protocol: str, error: str | None = None) -> RatingRow:
    """A row for a completion of which a judge said nothing in an aspect."""
    return {
        "completion_id": completion["completion_id"],
        "prompt_id": completion["prompt_id"],
        "judge": judge,
        "aspect": aspect,
        "protocol": protocol,
        "order": 0,
        "rating": None,
        "score": None,
        "rationale": None,
        "reply": "",
        "request": "",
        "error": error,
    }


class PairRow(TypedDict):
    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_member: str
    rejected_member: str
    chosen_model: str
    rejected_model: str
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    similarity: float
    strategy: str
    signal: NotRequired[str]  # where the recipe has signals


class RejectionRow(TypedDict):
    prompt_id: str | None
    completion_id: str | None
    stage: Stage
    reason: Reason
    detail: str


Row = TypeVar("Row")


def rows_as(row_type: type[Row], table: pd.DataFrame) -> list[Row]:
    """The rows of a table as its row type: `rows_as(PromptRow, prompts)`."""
    return cast(list[Row], rows(table))
