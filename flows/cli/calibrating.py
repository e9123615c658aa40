"""What `pairsmith calibrate` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from pairsmith.config import Recipe
from pairsmith.errors import RunError
from pairsmith.judging.rating import STAGE
from pairsmith.reporting.ratios import Share
from pairsmith.session import Session
from pairsmith.storage.disk import replace_file
from pairsmith.worth.advice import advice, percent
from pairsmith.worth.calibration import Calibrated, as_calibration, calibrate
from pairsmith.worth.gold import Gold
from pairsmith.worth.gold_rows import read_gold
from pairsmith.worth.planned import plan_calibration
from pairsmith.worth.rated_gold import Tested
from pairsmith_flows.cli.tables import Row, Rows, say
from pairsmith_flows.cli.terminal import showing_progress

REJECTED = 3  # rows of gold that cannot be used and are shown


def show_planned(console: Console, recipe: Recipe, gold: str, n: int | None, as_is: bool) -> None:
    """Print what calibrating would ask."""
    planned = plan_calibration(recipe, gold, n, as_is)
    _show_gold(console, planned.gold, planned.pairs)
    rows = [
        {
            "judge": one.form.name,
            "asked": one.form.form,
            "calls": one.calls,
            "known already": one.known,
            "prompt tokens, about": one.prompt_tokens,
            "new tokens, likely": one.tokens,
            "cost, likely": one.cost,
        }
        for one in planned.forms
    ]
    console.print(Rows("Plan (nothing was asked or written)", rows))
    for name, why in planned.left_out.items():
        say(console, f"judge {name} is left out: {why}")


def show_calibration(
    console: Console, recipe: Recipe, gold: str, n: int | None, as_is: bool, target: Path | None
) -> None:
    """Calibrate and print what came of it, and write it to `target`. Raises RunError where no judge gave a rating."""
    read = read_gold(gold)
    with Session() as session, showing_progress(console, [STAGE], session):
        found = calibrate(recipe, read, n, as_is, session)
    _show_gold(console, read, len(found.pairs))
    console.print(Rows("Judges against gold: how often they are right, with 95% intervals", worth_rows(found)))
    console.print(Rows("How they err", error_rows(found)))
    for sentence in advice(found):
        say(console, sentence)
    if not any(one.accuracy.right.n for one in found.tested):
        raise RunError("no judge gave a rating, so nothing can be said of them; what they failed of stands above")
    if target:
        replace_file(target, (as_calibration(found).model_dump_json(indent=2) + "\n").encode())
        say(console, f"{target}: to be used by rating.calibration: {target.name}")


def worth_rows(found: Calibrated) -> list[Row]:
    """A row for each judge in each form: how often it is right, whether that is chance, and what it takes."""
    return [
        _head(one)
        | {
            "right": percent(one.accuracy.right),
            "is": one.accuracy.words,
            "seconds a pair": one.seconds,
            "cost a pair": one.cost,
        }
        for one in found.tested
    ]


def error_rows(found: Calibrated) -> list[Row]:
    """A row for each judge in each form: how it errs."""
    return [
        _head(one)
        | {
            "right where the better is shorter": _right_of(one.accuracy.when_shorter),
            "ties": _of(one.accuracy.ties),
            "flips": _of(one.accuracy.flips),
            "first preferred": _right_of(one.accuracy.first),
            "nulls": _of(one.accuracy.nulls),
        }
        for one in found.tested
    ]


def _head(one: Tested) -> dict[str, Any]:
    return {"judge": one.form.name, "asked": one.form.form + (" (recipe)" if one.is_own else "")}


def _of(share: Share) -> str:
    return f"{share.count:g} of {share.n}" if share.n else ""


def _right_of(share: Share) -> str:
    return "" if share.value is None else f"{share.value:.0%} of {share.n}"


def _show_gold(console: Console, gold: Gold, used: int) -> None:
    agreed = [pair.agreement for pair in gold.decided if len(pair.votes) > 1 and pair.agreement is not None]
    votes = f", people agree in {sum(one == 1 for one in agreed) / len(agreed):.0%} of them" if agreed else ""
    undecided = len(gold.pairs) - len(gold.decided)
    say(
        console,
        f"{gold.name}: {gold.rows:,} rows, {len(gold.pairs):,} pairs, {len(gold.decided):,} with one better answer"
        f"{votes}; {undecided:,} ties or skipped, {len(gold.rejected):,} rows rejected, "
        f"{gold.repeated:,} votes of a person on one pair again; {used:,} pairs used",
    )
    for one in gold.rejected[:REJECTED]:
        say(console, f"  {one.place}: {one.detail}", style="yellow")
