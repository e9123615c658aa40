"""The command line's output: progress, plans, status, and pairs side by side. Imported only when it is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from pairsmith.errors import DataError
from pairsmith.planning.dry_run import Plan
from pairsmith.progress import Progress
from pairsmith.reporting.comparison import Comparison
from pairsmith.reporting.prompt_changes import Changes
from pairsmith.session import Session
from pairsmith.storage.datafiles import first_pairs, published_files
from pairsmith_flows.cli.tables import Rows, number, plain, say

GLANCE = 400  # characters of each text where pairs are shown beside other things
QUIET_SECONDS = 15.0  # between progress lines where there is no terminal


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rates(task.completed, task.fields["tokens"], task.elapsed or 0.0), style="cyan")


def rates(prompts: float, tokens: int, seconds: float) -> str:
    """Prompts and tokens per second, as text; empty where no time passed, as for tables that were there already."""
    if seconds < 0.01:
        return ""
    return f"{prompts / seconds:.1f} prompts/s" + (f", {tokens / seconds:.0f} tokens/s" if tokens else "")


@contextmanager
def showing_progress(console: Console, stages: Iterable[str], session: Session) -> Iterator[None]:
    """While the block runs, show progress: bars with rate and time left on a terminal, occasional lines elsewhere."""
    bars = ProgressBars(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} prompts"),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks = {stage: bars.add_task(stage, total=0, start=False, tokens=0) for stage in stages}
    lock, last, finished = threading.Lock(), time.monotonic(), set[str]()

    def note(done: Progress) -> None:
        nonlocal last
        if done.stage not in tasks:
            return
        with lock:
            task = bars.tasks[tasks[done.stage]]
            if done.total:
                bars.update(task.id, total=done.total)
                return
            if task.start_time is None:
                bars.start_task(task.id)
            bars.update(task.id, completed=task.completed + done.prompts, tokens=task.fields["tokens"] + done.tokens)
            now = time.monotonic()
            ends = task.completed > (task.total or 0) - 1e-6 and done.stage not in finished
            if not console.is_terminal and (ends or now - last > QUIET_SECONDS):
                last = now
                finished.update({done.stage} if ends else ())
                parts = [f"{done.stage}: {task.completed:.0f}/{task.total:.0f} prompts"]
                parts += [rates(task.completed, task.fields["tokens"], task.elapsed or 0.0)]
                parts += [f"{task.time_remaining:.0f} s left"] if task.time_remaining and not ends else []
                console.print(", ".join(filter(None, parts)))

    with session.listening(note), bars:
        yield


def show_plan(console: Console, plan: Plan) -> None:
    """Print a dry run: the prompts, and per stage the calls, those that the ledger knows, and tokens at most."""
    console.print(f"{plan.accepted:,} prompts, {len(plan.rejected):,} rows rejected")
    for row in plan.rejected[:5]:
        say(console, f"  {row['detail']}", style="yellow")
    for sentence in plan.unread:
        say(console, sentence, style="yellow")
    priceless = all(line.cost is None for line in plan.lines)
    rows = [
        {
            "stage": line.stage,
            "who": line.who,
            "model": line.model,
            "calls": line.calls,
            "known already": line.known if line.known is not None else "not counted",
            "prompt tokens, about": line.prompt_tokens,
            "new tokens, likely": line.likely_tokens,
            "at most": line.max_tokens,
            **({} if priceless else {"cost, likely": line.likely_cost, "cost at most": line.cost}),
        }
        for line in plan.lines
    ]
    console.print(Rows("Plan (nothing was asked or written)", rows))
    if not priceless:
        likely, most = (
            sum(costs) for costs in zip(*((one.likely_cost or 0, one.cost or 0) for one in plan.lines), strict=True)
        )
        console.print(f"Cost: likely {number(likely)}, at most {number(most)}, in the currency of the prices.")
    usual = ", ".join(f"{tokens} by {role}s" for role, tokens in plan.usual.items())
    say(
        console,
        f"Likely: answers as long as those in the ledger of the same model, and where it has none, of {usual} tokens.",
    )


def show_pairs(console: Console, rows: Iterable[dict[str, Any]], most: int | None = None) -> None:
    """Print pairs: the prompt, then chosen and rejected side by side with scores and rationales.

    `most`: characters of each text; what is longer is cut, and says so.
    """
    for row in rows:
        console.print(Rule(plain(f"{row['source']}  {row['prompt_id']}"), align="left"))
        for message in row["prompt"]:
            console.print(plain(f"{message['role']}: ", style="bold") + plain(_cut(message["content"], most)))
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(_side(row, "chosen", "green", most), _side(row, "rejected", "red", most))
        console.print(grid)


def show_comparison(console: Console, found: Comparison) -> None:
    """Print how two versions differ: prompts, pairs, scores, members, and some of the flipped pairs."""
    a, b = found.a, found.b
    for name, version in (("A", a), ("B", b)):
        say(console, f"{name}: {version.folder}")
        console.print(f"   {version.pairs:,} pairs of {version.prompts:,} prompts")
    prompts = (
        ("in both", found.prompts_in_both, found.prompts_in_both),
        ("only in A", a.prompts - found.prompts_in_both, 0),
        ("only in B", 0, b.prompts - found.prompts_in_both),
    )
    console.print(Rows("Prompts", _counted("prompts", prompts)))
    if not found.prompts_in_both:
        console.print("No prompt is in both: nothing more to compare.")
        return
    pairs = (
        ("kept: the same texts", found.kept, found.kept),
        ("flipped: chosen and rejected swapped", found.flipped, found.flipped),
        ("changed: not in the other", found.changed_a, found.changed_b),
    )
    console.print(Rows("Pairs of the prompts in both", _counted("pairs", pairs)))
    scores = [
        {"mean of": shift.what, "over": over, "count": shift.count}
        | {"A": round(shift.a, 4), "B": round(shift.b, 4), "shift": round(shift.shift, 4)}
        for over, shifts in (("prompts in both", found.of_prompts), ("pairs kept", found.of_kept))
        for shift in shifts
    ]
    console.print(Rows("Scores", scores) if scores else "No scores in both.")
    members = [(name, *times) for name, times in found.members.items()]
    console.print(Rows("Times chosen, prompts in both", _counted("member", members)))
    if found.flips:
        console.print(f"Flipped: {len(found.flips):,} of {found.flipped:,}")
    for flip in found.flips:
        margins = " and ".join(
            "none" if margin is None else number(margin) for margin in (flip.margin_a, flip.margin_b)
        )
        say(console, f"  {flip.prompt}", style="bold")
        ids = f"    prompt {flip.prompt_id}, chosen in A {flip.chosen_a}, in B {flip.chosen_b}; margins {margins}"
        say(console, ids)


def show_changes(console: Console, a: str, b: str, found: Changes) -> None:
    """Print the prompts that only one of two versions has, and those with other pairs: counts, and some of each."""
    console.print(f"From {a} to {b}: {found.kept:,} prompts with the same pairs")
    kinds = (("added", "+", "green"), ("removed", "-", "red"), ("changed", "~", "yellow"))
    for kind, sign, style in kinds:
        count, shown = getattr(found, kind), found.shown[kind]
        more = f", of which {len(shown):,} are shown" if len(shown) < count else ""
        console.print(f"{kind}: {count:,}{more}")
        for prompt in shown:
            say(console, f"  {sign} {prompt.prompt_id}  {prompt.beginning}", style=style)


def _counted(what: str, rows: Iterable[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Rows for a table: counts in A and B, and their percentages of the totals."""
    rows = list(rows)
    total_a, total_b = sum(a for _, a, _ in rows), sum(b for _, _, b in rows)
    return [
        {what: name, "A": a, "% of A": 100 * a / total_a, "B": b, "% of B": 100 * b / total_b} for name, a, b in rows
    ]


def _cut(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else f"{text[:most].rstrip()} ... ({len(text):,} characters)"


def _side(row: dict[str, Any], side: str, style: str, most: int | None) -> Panel:
    score = row[f"{side}_score"]
    title = f"{side}: {row[f'{side}_member']}" + (f", {score:.2f}" if score is not None else "")
    body = plain(_cut(row[side][-1]["content"], most))
    for rating in row[f"{side}_ratings"]:
        value = "n/a" if rating["score"] is None else f"{rating['score']:.2f}"
        body += plain(f"\n\n{rating['aspect']} {value}", style="bold") + plain(f" ({rating['judge']})", style="dim")
        if rating["rationale"]:
            body += plain(f" {_cut(rating['rationale'], most)}", style="italic")
    return Panel(body, title=plain(title), border_style=style, title_align="left")


def read_pairs(dataset: Path | str, count: int) -> list[dict[str, Any]]:
    """The first pairs of a version, or of the `latest` of a data set, by folder or URL.

    Raises DataError where there is none, or one that pairsmith did not make.
    """
    rows = first_pairs(published_files(dataset), count)
    if not rows:
        raise DataError(f"{dataset}: no published dataset (its data files hold no pair)")
    return rows
