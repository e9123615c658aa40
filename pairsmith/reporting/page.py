"""The report as a page, and its numbers as markdown."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pairsmith.config import Author, Evolver, Judge, Member, Recipe
from pairsmith.ids import fingerprint
from pairsmith.reporting import charts, summary_tables, word_diff
from pairsmith.reporting.failures import failure_table
from pairsmith.reporting.markdown import Table, markdown_table, public_name
from pairsmith.reporting.pair_criteria import pair_criteria
from pairsmith.reporting.reason_words import in_words, reasons_text
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.verdict import Finding
from pairsmith.storage.datafiles import as_published
from pairsmith.text.templating import render

WING = "pairsmith.reporting"
Models = list[dict[str, Any]]  # a row per model of a run: role, name, model, revision


def render_report(
    recipe: Recipe,
    summary: Summary,
    shown: list[dict[str, Any]],
    refused: list[str],
    judging: Mapping[str, Table] | None = None,
    usage: Table | None = None,
    recipe_text: str = "",
    version: Mapping[str, Any] | None = None,
    models: Table | None = None,
    findings: Sequence[Finding] = (),
) -> str:
    """The report as one self-contained HTML page: it loads nothing, and runs only its own script, allowed by its hash.

    `judging`: title -> table about the judges; `usage`: from `usage_table`; `recipe_text`: the recipe as published;
    `version`: of version.json, its `version`, `made_at` and `pairsmith`; `models`: from `models_table`; `findings`: the
    verdict.
    """
    rows: dict[str, Any] = {
        "judging": judging or {},
        "usage": usage or [],
        "refused": refused,
        "shown": [*map(as_published, shown)],
    }
    rows |= {"failures": failure_table(summary.failures, recipe), "models": models or [], "findings": findings}
    rows |= {"version": version or {}, "recipe_digest": fingerprint(recipe_text)[:12] if recipe_text else ""}
    tools = {"charts": charts, "tables": summary_tables, "word_diff": word_diff, "csp_hash": _csp_hash}
    tools |= {"pair_criteria": pair_criteria}
    tools |= {"in_words": in_words, "made_at": _made_at}
    return render(WING, "report.html.jinja", recipe=recipe, summary=summary, recipe_text=recipe_text, **rows, **tools)


def models_table(recipe: Recipe, models: Models) -> Table:
    """The models of a run as the head of a report tells them: role, name, model, revision, and where it is asked.

    `models`: as `recipe.specs` has them, the encoder after those. A server of one's own is not named, and a
    column that no model fills is left out.
    """
    hosts = [_asked_at(spec) for spec in recipe.specs]
    table = [
        {
            "role": row["role"],
            "name": row["name"],
            "model": public_name(row["model"]) or None,
            "revision": str(row["revision"] or "")[:12] or None,
            "asked at": hosts[number] if number < len(hosts) else "this process",
        }
        for number, row in enumerate(models)
    ]
    known = {column for row in table for column, value in row.items() if value}
    return [{column: value for column, value in row.items() if column in known} for row in table]


def _asked_at(spec: Member | Evolver | Author | Judge) -> str:
    if spec.endpoint is None:
        return "came with the sources" if spec.is_given else f"this process ({spec.backend})"
    host = urlsplit(spec.endpoint.base_url).hostname or ""
    own = "." not in host or host.endswith((".local", ".internal", ".lan")) or not re.search("[a-z]", host)
    return f"{spec.backend}, {'a server of one’s own' if own else host}"


def _made_at(text: str) -> str:
    """A time of version.json as people write it, to the minute, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def render_markdown(recipe: Recipe, summary: Summary) -> str:
    """The funnel, reasons and tables as markdown, for cards and Prefect artifacts.

    It holds no text from the data, but the first words of what endpoints said of failures.
    """
    rows = {"summary": summary, "failures": failure_table(summary.failures, recipe), "reasons_text": reasons_text}
    return render(WING, "summary.md.jinja", recipe=recipe, tables=summary_tables, table=markdown_table, **rows)


def _csp_hash(name: str) -> str:
    """The name by which a content security policy allows a script or style in the page: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(render(WING, name).encode()).digest()).decode()}'"
