"""What `pairsmith inspect` prints."""

from __future__ import annotations

from rich.console import Console

from pairsmith.sources.inspection import Inspection
from pairsmith_flows.cli.terminal import plain, table

LONGEST = 300  # characters of a prompt


def show_inspection(console: Console, path: str, found: Inspection) -> None:
    """Print the layout, the columns and what they are read for, some prompts, and rejections by reason."""
    more = "" if found.is_whole else " (there are more)"
    console.print(plain(f"{path}: {found.rows:,} rows{more}, {found.accepted:,} prompts", style="bold"), soft_wrap=True)
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
        console.print(table("Columns", rows))
    for number, prompt in enumerate(found.prompts, start=1):
        shown = prompt if len(prompt) <= LONGEST else f"{prompt[:LONGEST]}..."
        console.print(plain(f"prompt {number}", style="bold"))
        console.print(plain(shown), soft_wrap=True)
    for reason, count in found.rejected.most_common():
        console.print(plain(f"rejected, {reason}: {count:,} rows", style="bold"))
        for detail in found.details[reason]:
            console.print(plain(f"  {detail}", style="yellow"), soft_wrap=True)
    for sentence in found.unread:
        console.print(plain(sentence, style="yellow"), soft_wrap=True)
