"""Markdown tables and text, escaped so that nothing from the data is read as markup."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pairsmith.reporting.ratios import signed

Table = list[dict[str, Any]]  # rows, each a dict from column heading to cell
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~!]")
_BEGINNINGS = re.compile(r"^(\d*)([#+\-=>:.)])")  # of headings, lists, quotes, rules


def markdown_table(table: Table) -> str:
    """A markdown table, with markdown's special characters in cells escaped."""
    columns = list(dict.fromkeys(column for row in table for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in table]
    return "\n".join(lines)


def markdown_text(value: Any) -> str:
    """A value as text on one line of markdown, escaped so that none of it is read as markup."""
    text = _MARKUP.sub(r"\\\g<0>", " ".join(str(value).split()))
    return _BEGINNINGS.sub(r"\1\\\2", text)


def public_name(model: str) -> str:
    """A model's id; of a folder on this machine only its name, without the path."""
    return Path(model).name if os.path.isabs(model) else model


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        return signed(f"{value:.6f}").rstrip("0").rstrip(".")
    return signed(str(value)) if isinstance(value, int | float) else markdown_text(value)
