"""The report as a page, and its numbers as markdown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from pairsmith.config import Recipe
from pairsmith.reporting import charts, summary_tables, word_diff
from pairsmith.reporting.failures import failure_table
from pairsmith.reporting.markdown import Table, markdown_table
from pairsmith.reporting.summary import Summary
from pairsmith.storage.datafiles import as_published
from pairsmith.text.templating import render

WING = "pairsmith.reporting"


def render_report(
    recipe: Recipe,
    summary: Summary,
    shown: list[dict[str, Any]],
    refused: list[str],
    judging: Mapping[str, Table] | None = None,
    usage: Table | None = None,
    recipe_text: str = "",
) -> str:
    """The report as one self-contained HTML page: it loads nothing, and runs only its own script, allowed by its hash.

    `judging`: title -> table about the judges; `usage`: from `usage_table`; `recipe_text`: the recipe as published.
    """
    rows = {"judging": judging or {}, "usage": usage or [], "refused": refused, "shown": [*map(as_published, shown)]}
    rows["failures"] = failure_table(summary.failures)
    tools = {"charts": charts, "tables": summary_tables, "word_diff": word_diff, "csp_hash": _csp_hash}
    return render(WING, "report.html.jinja", recipe=recipe, summary=summary, recipe_text=recipe_text, **rows, **tools)


def render_markdown(recipe: Recipe, summary: Summary) -> str:
    """The funnel, reasons and tables as markdown, for cards and Prefect artifacts.

    It holds no text from the data, but the first words of what endpoints said of failures.
    """
    rows = {"summary": summary, "failures": failure_table(summary.failures)}
    return render(WING, "summary.md.jinja", recipe=recipe, tables=summary_tables, table=markdown_table, **rows)


def _csp_hash(name: str) -> str:
    """The name by which a content security policy allows a script or style in the page: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(render(WING, name).encode()).digest()).decode()}'"
