"""Answers in rows of a program's own: the columns that stand for a completion and its ratings, and what they may hold.

What these columns cannot hold is an error that names the row and the column, since a program may have a column of the
same name that means something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairsmith.building.rows import FoundPrompts, Row, Rows, rejection, with_columns
from pairsmith.errors import ConfigError
from pairsmith.ids import completion_id
from pairsmith.storage.schemas import TABLES, Reason

TEXT = "completion"  # the column of an answer's text
SCORED = "score"  # the column of a number that stands for ratings
RATED = "ratings"  # the column of a completion's ratings, each a dict
# The columns that a completion has in a program's rows; those that have another name in our table, with that name.
COMPLETION_COLUMNS = {
    **{name: name for name in ("completion_id", "prompt_id", "member", "model", "revision")},
    "member_system_prompt": "system_prompt",
    TEXT: "text",
    **{name: name for name in ("finish_reason", "n_tokens", "sample", "seed", "evolution", "parent_id", "method")},
    **{name: name for name in ("request", "error")},
}
_OURS = {*COMPLETION_COLUMNS, RATED, SCORED}
_LONE_SURROGATE = re.compile("[\\ud800-\\udfff]")
_OF_ROW = ("completion_id", "prompt_id")  # what a rating has from the row that it is in
_RATING = {"judge": "given", "aspect": "overall", "protocol": "given", "order": 0, "reply": "", "request": ""}


@dataclass
class Answers:
    """The completions that rows hold, each once, as rows of that table; `origin`: the row that each stands in."""

    made: dict[str, Row] = field(default_factory=dict)
    origin: dict[str, int] = field(default_factory=dict)
    repeated: list[Row] = field(default_factory=list)  # rejections for rows that repeat an earlier one

    @property
    def table(self) -> list[Row]:
        """Rows of the completions table."""
        return list(self.made.values())


def no_answers(table: Rows) -> None:
    """Raises ConfigError where rows of prompts have a column that `generate` makes: it would be lost."""
    if taken := [name for name in table.columns if name in _OURS]:
        renamed = f"{{{taken[0]!r}: 'my_{taken[0]}'}}"
        raise ConfigError(
            f"generate makes the columns {', '.join(taken)} and the rows have them: rename yours, as in "
            f"data.rename(columns={renamed}). Answers that are there already go to evolve, rate or pair"
        )


def answers_in(table: Rows, given: FoundPrompts, step: str) -> Answers:
    """The completions of rows that hold a prompt and an answer to it in the column `completion`."""
    if TEXT not in table.columns and (table.rows or table.columns):
        raise ConfigError(
            f"{step} needs the column {TEXT}, the text of an answer; the rows have {', '.join(table.columns)}. "
            f"Rename yours, as in data.rename(columns={{'text': '{TEXT}'}})"
        )
    found = Answers()
    for number, (row, prompt_id) in enumerate(zip(table.rows, given.ids, strict=True)):
        if prompt_id is None:
            continue
        completion = _completion(row, prompt_id, number)
        name = completion["completion_id"]
        first = found.made.setdefault(name, completion)
        place = found.origin.setdefault(name, number)
        if place == number:
            continue
        if (first["prompt_id"], first["text"]) != (prompt_id, completion["text"]):
            raise ConfigError(f"rows {place} and {number} have the same completion_id {name}, but not the same text")
        same = rejection(number, Reason.DUPLICATE, f"same completion as row {place}", prompt_id, name)
        found.repeated.append(same)
    _no_circle(found.made)
    return found


def _completion(row: Row, prompt_id: str, number: int) -> Row:
    cell = Cell(row, number)
    named, text, error = cell.text("prompt_id"), cell.text(TEXT), cell.text("error")
    if named not in (None, prompt_id):
        raise cell.wrong("prompt_id", "which is not the id of the prompt in it; leave it out")
    if error is not None and error.split(":")[0] not in list(Reason):
        raise cell.wrong("error", "which is not as pairsmith writes why a completion cannot be used")
    if _LONE_SURROGATE.search(text or ""):
        text, error = "", f"{Reason.UNREADABLE}: row {number}: a lone surrogate, which no encoding can store"
    elif error is None and not (text or "").strip():
        error = f"{Reason.EMPTY}: row {number} has no {TEXT}"
    text, member = text or "", cell.text("member") or "given"
    sample, evolution, parent = cell.whole("sample"), cell.whole("evolution"), cell.id("parent_id")
    name = cell.id("completion_id") or completion_id(prompt_id, member, sample, evolution, parent, text)
    return {
        "completion_id": name,
        "prompt_id": prompt_id,
        "member": member,
        "model": cell.text("model") or member,
        "revision": cell.text("revision"),
        "system_prompt": cell.text("member_system_prompt"),
        "text": text,
        "finish_reason": cell.text("finish_reason"),
        "n_tokens": cell.whole("n_tokens"),
        "sample": sample,
        "seed": cell.whole("seed"),
        "evolution": evolution,
        "parent_id": parent,
        "method": cell.text("method"),
        "request": cell.text("request") or "",
        "error": error,
    }


@dataclass(frozen=True)
class Cell:
    """The columns of one row, each read as what it must hold; None where it is null."""

    row: Mapping[str, Any]
    number: int

    def text(self, name: str) -> str | None:
        value = self.row.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "which is not text")

    def whole(self, name: str) -> int:
        """A whole number from 0 on; 0 where it is null."""
        value = self.row.get(name)
        if value is None:
            return 0
        if isinstance(value, float) and value.is_integer():  # as pandas has them beside a null
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(name, "which is not a whole number from 0 on")
        return value

    def id(self, name: str) -> str | None:
        """Text, or a whole number, which stands for its digits."""
        value = self.row.get(name)
        return value if isinstance(value, str) or value is None else str(self.whole(name))

    def number_in(self, name: str) -> float | None:
        """Any number but infinity."""
        value = self.row.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "which is not a number")
        return float(value)

    def wrong(self, name: str, why: str) -> ConfigError:
        value = repr(self.row.get(name))
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        renamed = f"data.rename(columns={{{name!r}: 'my_{name}'}})"
        told = f"row {self.number}: the column {name} holds {shown}, {why}"
        return ConfigError(f"{told}. If it means something of your own, rename it, as in {renamed}")


def _no_circle(made: Mapping[str, Row]) -> None:
    """Raises ConfigError where a completion is said to come from itself."""
    sound: set[str] = set()
    for name in made:
        line: set[str] = set()
        at: str | None = name
        while at and at in made and at not in sound:
            if at in line:
                raise ConfigError(f"the completion {at} is its own parent by way of parent_id")
            line.add(at)
            at = made[at]["parent_id"]
        sound |= line


def shown(
    table: Rows, completions: Iterable[Row], brought: Callable[[Row], Row], more: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """Completions as rows of a program: the columns of the row that each comes from, then ours, then `more`."""
    ours = [*COMPLETION_COLUMNS, *more]
    theirs = [name for name in table.columns if name not in ours]
    named = (
        (brought(row), {name: row[column] for name, column in COMPLETION_COLUMNS.items()} | _only(row, more))
        for row in completions
    )
    return with_columns(named, theirs), [*theirs, *ours]


def _only(row: Row, names: Sequence[str]) -> Row:
    return {name: row[name] for name in names}


def shown_rating(rating: Mapping[str, Any]) -> Row:
    """A rating as it stands in the row of its completion."""
    return {name: value for name, value in rating.items() if name not in _OF_ROW}


def ratings_in(table: Rows, answers: Answers, needed: bool) -> list[Row]:
    """Rows of the ratings table, of what stands in the columns `ratings` and `score`; `needed`: one must be there."""
    if needed and table.columns and not {RATED, SCORED} & set(table.columns):
        there = ", ".join(table.columns)
        raise ConfigError(f"pair needs the column {RATED}, as `rate` gives it, or {SCORED}; the rows have {there}")
    made: list[Row] = []
    for name, number in answers.origin.items():
        place = {"completion_id": name, "prompt_id": answers.made[name]["prompt_id"]}
        made += [said | place for said in _said_of(Cell(table.rows[number], number))]
    return made


def _said_of(cell: Cell) -> list[Row]:
    """The ratings of a row; a number alone stands for one of a judge of whom no more is known."""
    ratings = cell.row.get(RATED)
    if ratings is not None and not (isinstance(ratings, list) and all(isinstance(one, dict) for one in ratings)):
        raise cell.wrong(RATED, "which is not a list of ratings, each a dict")
    if ratings:
        return [_said(cell, one) for one in ratings]
    score = cell.number_in(SCORED)
    return [] if score is None else [_rating({"protocol": "reward", "score": score})]


def _said(cell: Cell, one: Row) -> Row:
    """One rating of the list of a row. A rating alone is its score, too."""
    rated = Cell(one, cell.number)
    score, number = rated.number_in(SCORED), None if one.get("rating") is None else rated.whole("rating")
    if score is None and number is None and one.get("error") is None:
        raise cell.wrong(RATED, "of which one has no score")
    return _rating({**one, "rating": number, "score": number if score is None else score})


def _rating(known: Row) -> Row:
    """A row of the ratings table without its completion; what is not known of it is filled in."""
    columns = TABLES["ratings"].columns
    return dict.fromkeys(columns) | _RATING | {k: v for k, v in known.items() if k in columns and v is not None}
