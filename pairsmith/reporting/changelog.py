"""What a version changes compared with the one released before it: prompts, pairs, costs and measurements.

All but the changed prompts comes from the two version.json; for those, `changes` reads the ids in the data files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.config import Gates
from pairsmith.errors import DataError
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.gates import measure
from pairsmith.reporting.markdown import markdown_table, markdown_text
from pairsmith.reporting.page import WING
from pairsmith.reporting.prompt_changes import changes
from pairsmith.reporting.ratios import ratio
from pairsmith.reporting.summary import Summary
from pairsmith.storage.datafiles import File, data_files
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version
from pairsmith.text.templating import render

log = logging.getLogger(__name__)
# Measurement -> the gate that bounds it. The mean margin is measured too and has no gate.
_MEASURES = {"yield": "min_yield", "null rate": "max_null_rate", "tie rate": "max_tie_rate",
             "agreement": "min_agreement", "length bias": "max_length_bias"}  # fmt: skip


@dataclass(frozen=True)
class Changelog:
    """`against`: the version released before; None for the first version, whose other fields are None too.

    `added`, `removed`: numbers of prompts; `changed`: prompts with other pairs. `calls`, `cost`: paid since then. Each
    is None where it is not known.
    """

    against: str | None
    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    calls: int | None = None
    cost: float | None = None


def measured(summary: Summary, trust: Trust) -> dict[str, float | None]:
    """The numbers that compare a version with others; None where one cannot be measured."""
    values = {name: value for name, _, value, _ in measure(Gates(), summary, trust)}
    numbers: dict[str, float | None] = {"prompts": summary.paired, "pairs": summary.pairs}
    numbers |= {name: values[gate] for name, gate in _MEASURES.items()}
    numbers["mean margin"] = ratio(summary.margins, summary.n_margins)
    return {name: None if value is None else round(value, 4) for name, value in numbers.items()}


def paid(usage: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Calls and cost of a data set in all its runs, from `usage_table`; 0 calls where that is empty."""
    total = usage[-1] if usage else {}
    return {"calls": total.get("calls", 0), "cost": total.get("cost")}


def changelog(store: Store, before: Version | None, files: Sequence[File], paid_now: Mapping[str, Any]) -> Changelog:
    """Compare a new version with `before`; `files`: its data files; `paid_now`: what the data set has cost so far."""
    if before is None:
        return Changelog(None)
    counts: dict[str, Any] = {}
    try:
        found = changes(data_files(store, before), files)
        counts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    except DataError as error:
        log.warning("the prompts of %s cannot be compared with: %s", before.name, error)
    paid_then = before.about.get("paid") or {}
    since = {name: _since(paid_then.get(name), paid_now[name]) for name in ("calls", "cost")}
    return Changelog(before.name, **counts, **since)


def _since(then: float | None, now: float | None) -> Any:
    """What was paid since; None where it is not known, as after the loss of a ledger."""
    return None if then is None or now is None or now < then else round(now - then, 6)


def render_changelog(about: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """The changes of a version as markdown, from its version.json and that of the version before."""
    changed = Changelog(**about["changelog"])
    then, now = (before or {}).get("measured") or {}, about["measured"]
    table = [
        {"": name, str(changed.against): then.get(name), about["version"]: value, "more": _more(then.get(name), value)}
        for name, value in now.items()
    ]
    shown = markdown_table(table) if changed.against else ""
    reasons = [markdown_text(reason) for reason in about.get("reasons", ())]
    return render(WING, "changelog.md.jinja", changelog=changed, table=shown, reasons=reasons).strip()


def _more(then: float | None, now: float | None) -> float | None:
    return None if then is None or now is None else round(now - then, 4)
