"""What `pairsmith inspect`, `preview` and `status` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from pairsmith.building.previewing import previewed
from pairsmith.config import Recipe
from pairsmith.publishing.publish import check_pairs
from pairsmith.reporting.failures import causes_of
from pairsmith.reporting.reason_words import in_words, reasons_text
from pairsmith.session import Session
from pairsmith.sources.inspection import Inspection
from pairsmith.stages.base import stages_of
from pairsmith_flows.cli.tables import Row, Rows, plain, say
from pairsmith_flows.cli.terminal import GLANCE, show_pairs, showing_progress

STATUS = {
    "with completions": "answered", "with ratings": "rated", "with pairs": "paired",
    "n_prompt_tokens": "prompt tokens", "n_tokens": "answer tokens",
}  # fmt: skip
LONGEST = 300  # characters of a prompt


def show_inspection(console: Console, path: str, found: Inspection) -> None:
    """Print the layout, the columns and what they are read for, some prompts, and rejections by reason."""
    more = "" if found.is_whole else " (there are more)"
    say(console, f"{path}: {found.rows:,} rows{more}, {found.accepted:,} prompts", style="bold")
    for name, count in found.layouts.most_common():
        console.print(f"layout {name}: {count:,} rows")
    if found.columns:
        rows = [
            {
                "column": name,
                "filled": f"{one.filled:,} of {found.rows:,}",
                "holds": ", ".join(sorted(one.kinds)),
                "read as": one.use,
            }
            for name, one in found.columns.items()
        ]
        console.print(Rows("Columns", rows))
    for number, prompt in enumerate(found.prompts, start=1):
        shown = prompt if len(prompt) <= LONGEST else f"{prompt[:LONGEST]}..."
        console.print(plain(f"prompt {number}", style="bold"))
        say(console, shown)
    for reason, count in found.rejected.most_common():
        say(console, f"{count:,} {'row' if count == 1 else 'rows'} rejected: {in_words(reason)}", style="bold")
        for detail in found.details[reason]:
            say(console, f"  {detail}", style="yellow")
    for sentence in found.unread:
        say(console, sentence, style="yellow")


def show_status(console: Console, place: str, datasets: Sequence[Row], ledger: Sequence[Row], waits: Row) -> None:
    """Print the data sets at `place`, what their ledger holds by model, and which versions wait and why."""
    asked = [{"model": row["model"], **row} for row in ledger]
    for title, rows in (("Data sets, by shards", datasets), ("Asked of models, in the ledger", asked)):
        if rows:
            console.print(Rows(title, [{STATUS.get(name, name): value for name, value in row.items()} for row in rows]))
    if not datasets:
        say(console, f"{place}: no data sets")
    for name, told in waits.items():
        say(console, f"{name}: {told}")


def show_preview(console: Console, recipe: Recipe, count: int) -> None:
    """Make and print the pairs of the first rows, and what became of the other prompts. Raises RunError for no pair."""
    with Session() as session, showing_progress(console, stages_of(recipe), session):
        pairs, summary = previewed(recipe, count, session)
    check_pairs(summary, recipe)
    show_pairs(console, pairs, GLANCE)
    for told in causes_of(summary.failures, recipe):
        say(console, told)
    others = f"; the other prompts: {reasons_text(summary.prompt_reasons)}" if summary.prompt_reasons else ""
    say(console, f"{len(pairs):,} pairs of {summary.loaded:,} prompts{others}. No version was made.")
