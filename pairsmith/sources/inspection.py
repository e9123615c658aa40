"""A quick look at a source: its layout, its columns, some prompts, and what would be rejected and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import ValidationError

from pairsmith.config import Prompts, Source
from pairsmith.config.complaints import in_lines, mistakes
from pairsmith.errors import ConfigError, DataError
from pairsmith.sources.http import fetched
from pairsmith.sources.layout_readers import Asked, is_filled
from pairsmith.sources.prompts import asked_in, prompt_from, read_row
from pairsmith.sources.readers import File, Located, files_of, read_source
from pairsmith.sources.row_fields import Refused
from pairsmith.sources.unread import Unread
from pairsmith.storage.schemas import Reason
from pairsmith.text.templating import transcript

EXAMPLES, DETAILS, FIRST_ROWS = 3, 3, 1000
LARGE = 2**26  # bytes
_KINDS = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "mapping"}


@dataclass
class Column:
    """A column: in how many rows it is filled, what kinds of values it holds, and what it is read for."""

    filled: int = 0
    kinds: set[str] = field(default_factory=set)
    use: str = "not read"


@dataclass
class Inspection:
    """What is in the first rows of a source. `rows`: how many were read; `is_whole`: whether these are all.

    `layouts`: layout -> rows. `rejected`: reason -> rows, with the first `details` of each. `prompts`: some, as text.
    `unread`: sentences about columns that are filled and not read.
    """

    rows: int = 0
    is_whole: bool = True
    accepted: int = 0
    layouts: Counter[str] = field(default_factory=Counter)
    columns: dict[str, Column] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    rejected: Counter[Reason] = field(default_factory=Counter)
    details: dict[Reason, list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def inspect(path: str, layout: str = "auto", rows: int = 10_000) -> Inspection:
    """Look at the first `rows` rows of a file, folder, address or data set, as a recipe that names it alone reads them.

    Raises ConfigError for a path or layout that cannot be, DataError for what cannot be read.
    """
    asked = {"sources": [{"path": path, "layout": layout}]}
    try:
        config = Prompts.model_validate(asked)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{in_lines(mistakes(error, asked, Prompts), {})}") from None
    (source,) = config.sources
    found, unread, seen = Inspection(), Unread(), dict[str, str]()
    with fetched(config) as bodies:
        for item in islice(read_source(source, bodies), rows + 1):
            if found.rows == rows:
                found.is_whole = False
                break
            found.rows += 1
            try:
                prompt = _prompt_in(found, item, source, config.max_chars, unread, seen)
            except Refused as refused:
                found.rejected[refused.reason] += 1
                details = found.details.setdefault(refused.reason, [])
                details += [f"{item.place}: {refused.detail}"] if len(details) < DETAILS else []
                continue
            found.accepted += 1
            if len(found.prompts) < EXAMPLES:
                found.prompts.append(transcript(json.loads(prompt["messages"]), prompt["system_prompt"]))
    found.unread = unread.told()
    return found


def _prompt_in(
    found: Inspection, item: Located, source: Source, max_chars: int, unread: Unread, seen: dict[str, str]
) -> dict[str, Any]:
    """The prompt of a row, whose columns are counted in any case. Raises Refused as a load does, and for duplicates."""
    row, asked = item.row or {}, None
    try:
        if item.refused:
            raise item.refused
        asked = asked_in(row, source)
        prompt = prompt_from(row, asked, source, max_chars, item.file)
    finally:
        _look(found, row, asked)
    unread.note(source, row, asked, prompt["prompt_id"])
    if prompt["prompt_id"] in seen:
        raise Refused(Reason.DUPLICATE, f"same prompt as {seen[prompt['prompt_id']]}")
    seen[prompt["prompt_id"]] = item.place
    return prompt


def unread_in(config: Prompts) -> list[str]:
    """A sentence for each local source among whose first rows a column is filled and not read. Raises nothing.

    Databases, data sets and addresses are left out, so that no network is needed, and large files that must be read as
    a whole.
    """
    unread = Unread()
    for source in config.sources:
        try:
            files = () if source.is_remote else files_of(source, {}) or ()
            if not files or any(map(_takes_long, files)):
                continue
            all_rows = source.model_copy(update={"sample": None})
            for item in islice(read_source(all_rows, {}), FIRST_ROWS):
                _note(unread, source, item.row, config.max_chars)
        except DataError:
            continue
    return unread.told()


def _takes_long(file: File) -> bool:
    return file.kind in ("json", "csv", "tsv") and file.path.is_file() and file.path.stat().st_size > LARGE


def _note(unread: Unread, source: Source, row: Mapping[str, Any] | None, max_chars: int) -> None:
    try:
        if row is not None:
            row, asked, prompt = read_row(row, source, max_chars)
            unread.note(source, row, asked, prompt["prompt_id"])
    except Refused:
        return


def _look(found: Inspection, row: Mapping[str, Any], asked: Asked | None = None) -> None:
    """Count what is in the columns of a row, once it is known what it asks, or that it asks nothing."""
    if asked:
        found.layouts[asked.layout] += 1
    for name, value in row.items():
        column = found.columns.setdefault(name, Column())
        if asked and name in asked.columns:
            column.use = "prompt"
        elif asked and name in asked.answers.columns:
            column.use = "answer"
        elif name in ("source", "reference", "system_prompt") and isinstance(value, str):
            column.use = name
        if is_filled(value):
            column.filled += 1
            column.kinds.add(_KINDS.get(type(value), type(value).__name__))
